"""What a saved page of the explorer holds: everything that it would ask Python for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tsdlab.errors import InputError
from tsdlab.progress import progress_bar
from tsdlab.widgets.explorer.messages import image_message, pattern_message, session_message
from tsdlab.widgets.explorer.session import Session
from tsdlab.widgets.explorer.state import ExplorerState
from tsdlab.widgets.saved.maps import stored_maps
from tsdlab.widgets.saved.text import bytes_text, packed_text
from tsdlab.widgets.second_stage.packing import Packed, TooLarge


@dataclass
class Stored:
    """See the type of the same name in answerer.js."""

    values: dict[str, Any] = field(default_factory=dict)  # for JSON
    parts: dict[str, str] = field(default_factory=dict)  # binary values as text, by the id of their element

    def add(self, name: str, packed: Mapping[str, Packed | TooLarge]) -> dict[str, Any]:
        """Store a part of each model; returns what they are and where."""
        about, ids = [], []
        for number, (model, each) in enumerate(packed.items()):
            if isinstance(each, TooLarge):
                raise InputError(f"{model} cannot answer without Python: {each.reason}; leave it out of the page")
            about.append([model, each.about])
            ids.append(f"{name}-{number}")
            self.parts[ids[-1]] = packed_text(each.values)
        return {"about": about, "parts": ids}

    def add_bytes(self, name: str, values: bytes) -> str:
        """Store bytes; returns where."""
        self.parts[name] = bytes_text(values)
        return name


def store(session: Session, state: ExplorerState, images: Sequence[int]) -> Stored:
    """Ask for everything about some images of the session's gallery, in their order.

    Args:
        state: the page opens with its values, if the image that is open is one of `images`.

    Raises:
        InputError: a page cannot compute what a model answers about an image.
    """
    session = session.apart()  # it opens other images, and the explorer's stays open
    stored = Stored()
    heads = stored.add("head", session.heads)
    listed = []
    for position, index in enumerate(progress_bar(images, "page")):
        session.open(index)
        maps, pictures = stored_maps(session.image)
        listed.append(
            {
                "message": image_message(session, images, None),
                "proposal": session.image.first_proposal,
                "pyramids": stored.add(f"image-{position}", session.image.pyramids),
                "maps": {"messages": maps, "part": stored.add_bytes(f"maps-{position}", pictures)},
            }
        )
    values = {name: getattr(state, name) for name in state.fields()}
    if values["image_index"] not in images:
        values |= {"image_index": images[0], "proposal": listed[0]["proposal"]}
    stored.values = {
        "state": values,
        "usual": state.usual(),
        "rules": state.rules(),
        "call": f"tsdlab.explore({', '.join(session.arguments)}",
        "told": {
            "fixed": {**session_message(session), "steps": []},
            "pattern": pattern_message(session.pattern(_untold)),
        },
        "heads": heads,
        "images": listed,
    }
    return stored


def _untold(done: int, total: int) -> None:
    """Progress that is not shown."""
