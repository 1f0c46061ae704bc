"""How pages are filled: every expression of a template is escaped, and pictures are part of the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_MIME = {".jpg": "image/jpeg", ".png": "image/png"}


def template(name: str) -> Template:
    """A template of this folder, by its file name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["decimal"] = _decimal
    return environment.get_template(name)


def picture_urls(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Pictures by file name as addresses that hold them, by their names without ending."""
    return {Path(name).stem: _url(name, content) for name, content in pictures.items()}


def _decimal(value: float, decimals: int = 1) -> str:
    return f"{value:.{decimals}f}".replace("-", "−")


def _url(name: str, content: bytes) -> str:
    return f"data:{_MIME[Path(name).suffix]};base64,{base64.b64encode(content).decode()}"
