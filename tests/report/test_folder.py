"""A page with its numbers and pictures, as files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tsdlab.report.folder import write_folder

NOT_UTF8 = "caf\udce9.jpg"  # how Python reads the file name b"caf\xe9.jpg"


def test_names_of_files_may_be_no_utf_8(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    page = write_folder(out, "report", f"<p>{NOT_UTF8}</p>", {"file": NOT_UTF8}, {"a.png": b"picture"})
    assert page == out / "report.html" and "caf" in page.read_text("utf-8")
    assert json.loads((out / "report.json").read_text("utf-8")) == {"file": NOT_UTF8}
    assert (out / "a.png").read_bytes() == b"picture"


def test_a_number_that_is_not_finite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_folder(tmp_path, "report", "<p>", {"AP": math.nan}, {"a.png": b"picture"})
    assert list(tmp_path.iterdir()) == []
