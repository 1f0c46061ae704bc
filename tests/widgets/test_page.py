"""How the files of a page become one script and one style sheet."""

import re
from pathlib import Path

import pytest

import tsdlab.widgets
from tsdlab.widgets.page import compose_script, compose_style

WIDGETS = Path(tsdlab.widgets.__file__).parent
FIRST = [WIDGETS / "explorer" / "explorer.js", WIDGETS / "levels" / "levels.js", WIDGETS / "saved" / "saved.js"]


def test_imported_files_come_first_and_once(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.js").write_text("export const a = 1;\n")
    (tmp_path / "b.js").write_text('import { a } from "./shared/a.js";\nexport const b = () => a;\n')
    imports = 'import { b } from "./b.js";\nimport {\n  a,\n} from "./shared/a.js";\n'
    (tmp_path / "page.js").write_text(f"{imports}export default {{ render: () => a + b() }};\n")
    lines = [line for line in compose_script(tmp_path / "page.js").splitlines() if line]
    assert lines == ["const a = 1;", "const b = () => a;", "export default { render: () => a + b() };"]


def test_two_files_that_import_each_other_end(tmp_path):
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport function a() {}\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport function b() {}\n')
    assert compose_script(tmp_path / "a.js").split("\n\n") == ["function b() {}", "function a() {}\n"]


@pytest.mark.parametrize("first", FIRST, ids=lambda path: path.stem)
def test_a_page_is_one_script_without_imports_in_which_no_name_is_declared_twice(first):
    script = compose_script(first)
    assert not re.search(r"^import ", script, re.MULTILINE)
    assert re.findall(r"^export .*", script, re.MULTILINE) == ["export default views((model, box) => {"]
    declared = re.findall(r"^(?:const|let|function|async function|class) (\w+)", script, re.MULTILINE)
    assert len(declared) > 20 and len(declared) == len(set(declared))


@pytest.mark.parametrize("first", FIRST, ids=lambda path: path.stem)
def test_every_file_of_a_page_is_imported(first):
    script = compose_script(first)
    for file in [*first.parent.glob("*.js"), *(WIDGETS / "page").glob("*.js")]:
        exported = re.search(r"^export (?:default|const|function|async function|class) ?(\w*)", file.read_text(), re.M)
        assert file == first or exported[1] in script


@pytest.mark.parametrize("first", FIRST, ids=lambda path: path.stem)
def test_text_is_never_inserted_as_html(first):
    """A class or a model may be called anything, also something with a tag in it."""
    assert "innerHTML" not in compose_script(first)


def test_the_shared_style_comes_before_the_widget_s_own():
    style = compose_style(WIDGETS / "levels" / "levels.css")
    assert style.index(".tsdlab-page {") < style.index(".tsdlab-levels")
