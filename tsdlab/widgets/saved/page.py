"""The explorer as one HTML file that any browser opens, without Python and without a network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tsdlab.files import atomic_write
from tsdlab.provenance import versions
from tsdlab.widgets.page import compose_script, compose_style
from tsdlab.widgets.saved.stored import Stored
from tsdlab.widgets.saved.text import json_text

FOLDER = Path(__file__).parent


def saved_page(stored: Stored, source: str = "") -> str:
    """The page in HTML.

    Args:
        stored: what it holds.
        source: a text that says where the models and the images come from.
    """
    style = [compose_style(FOLDER.parent / "explorer" / "explorer.css"), (FOLDER / "saved.css").read_text("utf-8")]
    text = _template().render(
        title=" and ".join(stored.values["told"]["fixed"]["models"]),
        source=source,
        versions=versions(),
        style="\n".join(style),
        script=compose_script(FOLDER / "saved.js"),
        stored=json_text(stored.values),
        parts=stored.parts,
    )
    return text.lstrip()


def write_page(path: Path, page: str, overwrite: bool) -> None:
    """Write a page with `atomic_write`."""
    with atomic_write(path, overwrite) as file:
        file.write(page.encode(errors="backslashreplace"))  # a file name that is not UTF-8 may be in `source`


@cache
def _template() -> Template:
    files = FileSystemLoader(FOLDER)
    environment = Environment(loader=files, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("saved.html.jinja")
