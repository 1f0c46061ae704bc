"""What the project's widgets share: a page without a kernel shows a picture in their place."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
from IPython.display import display
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LOSSLESS = 512**2  # pixels of a picture that is sent as PNG


class PicturedWidget(anywidget.AnyWidget):
    """A widget that is stored in a notebook with a picture of its state."""

    def picture(self) -> Figure:
        """The current state as a matplotlib figure."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """Show the page at once. The picture takes longer, and is added to the same output."""
        data, metadata = super()._repr_mimebundle_() or ({}, {})
        output = display(data, metadata=metadata, raw=True, display_id=True)
        data, metadata = self._repr_mimebundle_()
        output.update(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        stored = io.BytesIO()
        self.picture().savefig(stored, format="png", dpi=80)
        return {**data, "image/png": _base64(stored)}, metadata


def image_url(pixels: np.ndarray, longest: int | None = None) -> str:
    """RGB [H, W, 3], uint8 or in 0…1, as a data URL; reduced where a side is longer than `longest` pixels.

    A picture that is still large is sent as a JPEG of good quality: of a photograph, a PNG has ten times as many bytes.
    """
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    picture, stored = Image.fromarray(pixels), io.BytesIO()
    if longest is not None:
        picture.thumbnail((longest, longest))
    if picture.width * picture.height > _MOST_LOSSLESS:
        picture.save(stored, format="JPEG", quality=90)
        return f"data:image/jpeg;base64,{_base64(stored)}"
    picture.save(stored, format="PNG")
    return f"data:image/png;base64,{_base64(stored)}"


def veil_url(values: np.ndarray, color: str) -> str:
    """Numbers [H, W] in 0…1 as a data URL of a picture in one colour ("#rrggbb"): clear where they are 0."""
    picture = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8)).convert("P")
    picture.putpalette(bytes.fromhex(color[1:]) * 256)
    stored = io.BytesIO()
    picture.save(stored, format="PNG", transparency=bytes(range(256)))
    return f"data:image/png;base64,{_base64(stored)}"


def _base64(stored: io.BytesIO) -> str:
    return base64.b64encode(stored.getvalue()).decode()
