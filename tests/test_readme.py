"""README and docs: their tables are the measured results, what they name exists, and their Python runs."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {"training.md", "CONTRIBUTING.md"}  # a full training run; a head, which has a test of its own
NEW_HEAD = "tsdlab/models/heads/context.py"  # the example in CONTRIBUTING: its reader writes this file


@pytest.fixture(scope="module")
def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")
        return importlib.import_module("tables")


def named(pattern):
    """(page, what it names) for every match in every page."""
    return [(page, found) for page in PAGES for found in sorted(set(re.findall(pattern, page.read_text())))]


def label(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def anchors(markdown):
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_tables_are_those_of_the_results(tables):
    for page in tables.PAGES:
        assert tables.fill(page.read_text()) == page.read_text(), "run `python experiments/tables.py`"


def test_every_table_is_on_one_page(tables):
    marked = [found["name"] for page in tables.PAGES for found in tables.MARKED.finditer(page.read_text())]
    assert sorted(marked) == sorted(tables.TABLES)


@pytest.mark.parametrize(("page", "link"), named(r"\]\((?![a-z]+:)([^)]+)\)"), ids=label)
def test_links_lead_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text())


@pytest.mark.parametrize(
    ("page", "path"), named(r"`((?:tsdlab|tests|docs|experiments|benchmarks)/[\w/.-]*)`"), ids=label
)
def test_files_in_backticks_exist(page, path):
    assert (ROOT / path).exists() or path == NEW_HEAD


@pytest.mark.parametrize(("page", "script"), named(r"`python ([\w/]+\.py)"), ids=label)
def test_commands_name_scripts_that_exist(page, script):
    assert (ROOT / script).is_file()


@pytest.mark.parametrize(("page", "target"), named(r"(?:`|^)make ([a-z-]+)"), ids=label)
def test_make_targets_exist(page, target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in NOT_RUN], ids=label)
def test_python_examples_run(page, monkeypatch, capsys):
    """Those of one page in one namespace, as a reader would paste them."""
    monkeypatch.chdir(ROOT)
    namespace = {}
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(example, page.name, "exec"), namespace)
    if page == README:
        assert capsys.readouterr().out.strip()


def test_readme_fits_two_minutes():
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]
    assert (ROOT / "data" / "figures" / "explorer.gif").stat().st_size < 3e6
