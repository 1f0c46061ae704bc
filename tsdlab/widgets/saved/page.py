"""The explorer as one file that any browser opens, without Python and without a network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tsdlab.errors import InputError
from tsdlab.files import atomic_write, claim_outputs, require_place
from tsdlab.progress import progress_bar
from tsdlab.version import __version__
from tsdlab.widgets.explorer.messages import image_message, session_message
from tsdlab.widgets.explorer.session import Session
from tsdlab.widgets.page import compose_script, compose_style
from tsdlab.widgets.saved.text import half_text, json_text
from tsdlab.widgets.second_stage.packing import Packed, TooLarge

FOLDER = Path(__file__).parent
EXPLORER = FOLDER.parent / "explorer"


def write_page(
    session: Session,
    images: Sequence[int],
    state: Mapping[str, Any],
    path: Path,
    *,
    about: str = "",
    overwrite: bool = False,
) -> None:
    """Write the explorer of `images`, which are indices of the session's gallery, as one HTML file.

    Args:
        state: the explorer's fields, as the page opens.
        about: a line that says what the page shows; it stands below the explorer.

    Raises:
        InputError: a page cannot compute what a model says about an image.
        ExistingFileError: there is such a file, and `overwrite` is False.
        MissingFileError: its folder does not exist.
    """
    require_place(path)
    claim_outputs([path], overwrite=overwrite)
    session = copy.copy(session)  # it opens other images, and the explorer's stays open
    parts: dict[str, str] = {}
    heads = _stored_parts(session.heads, "head", parts)
    stored_images = []
    for position, index in enumerate(progress_bar(images, "page")):
        session.open(index)
        stored_images.append(
            {
                "message": image_message(session, images, None),
                "proposal": session.image.first_proposal(state["focus"]),
                "pyramids": _stored_parts(session.image.pyramids, f"image-{position}", parts),
            }
        )
    if state["image_index"] not in images:
        state = {**state, "image_index": images[0], "proposal": stored_images[0]["proposal"]}
    stored = {
        "state": state,
        "told": {"fixed": session_message(session), "maps": {}, "python": ""},
        "heads": heads,
        "images": stored_images,
    }
    title = " and ".join(session.models)
    style = [compose_style(EXPLORER / "explorer.css"), FOLDER.joinpath("saved.css").read_text(encoding="utf-8")]
    text = _template().render(
        title=title,
        about=about,
        version=__version__,
        style="\n".join(style),
        script=compose_script(FOLDER / "saved.js"),
        stored=json_text(stored),
        parts=parts,
    )
    with atomic_write(path, overwrite) as file:
        file.write(text.lstrip().encode(errors="backslashreplace"))


def _stored_parts(packed: Mapping[str, Packed | TooLarge], name: str, parts: dict[str, str]) -> dict[str, Any]:
    """What each model's part is, and where it is stored; its values are added to `parts`."""
    about, ids = {}, []
    for number, (model, each) in enumerate(packed.items()):
        if isinstance(each, TooLarge):
            raise InputError(f"{model} cannot answer without Python: {each.reason}")
        about[model] = each.about
        ids.append(f"{name}-{number}")
        parts[ids[-1]] = half_text(each.values)
    return {"about": about, "parts": ids}


@cache
def _template() -> Any:
    files = FileSystemLoader(FOLDER)
    environment = Environment(loader=files, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("saved.html.jinja")
