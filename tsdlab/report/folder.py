"""A page with its numbers and pictures, as the files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsdlab.files import atomic_write, write_json


def write_folder(out: Path, name: str, page: str, facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Path:
    """Write the numbers, every picture, and the page. Each file is whole or absent.

    Args:
        out: a folder; it is made if it does not exist.
        name: of the page and of the file of numbers, without an extension.
        page: in HTML.
        facts: the numbers, for JSON.
        pictures: by file name.

    Returns:
        The path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", facts)
    # A file name that is not UTF-8 may stand on the page.
    for file, content in {**pictures, f"{name}.html": page.encode(errors="backslashreplace")}.items():
        with atomic_write(out / file) as opened:
            opened.write(content)
    return out / f"{name}.html"
