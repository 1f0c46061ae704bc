"""An analysis as a folder that opens anywhere: `report.html`, the numbers behind it, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.examples import Example
from tsdlab.files import atomic_write, claim_outputs
from tsdlab.provenance import versions
from tsdlab.report.page import Source, page
from tsdlab.report.pictures import PICTURES, draw_pictures


def write_report(
    analysis: Analysis, examples: Sequence[Example], source: Source, out: Path, overwrite: bool = False
) -> Path:
    """Write `report.html`, which needs no other file, `report.json`, and every picture as a PNG.

    Args:
        analysis: what `tsdlab.analysis.analyze.analyze` returned.
        examples: objects to show, from `tsdlab.analysis.examples.choose_examples`.
        source: where the numbers come from.
        out: a folder; it is made if it does not exist.
        overwrite: whether files with these names may be replaced.

    Returns:
        The path of `report.html`.

    Raises:
        ExistingFileError: there are such files already, and `overwrite` is False; nothing was written.
    """
    claim_outputs(report_files(out), overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(analysis, examples)
    for name, png in pictures.items():
        _write(out / f"{name}.png", png)
    facts = {
        "command": source.command,
        "weights": source.weights,
        "head": source.head,
        "dataset": {"folder": source.folder, "split": source.split},
        "versions": versions(),
        "examples": [example.as_dict() for example in examples],
        "report": analysis.as_dict(),
    }
    # Strict JSON: a NaN is an error here, because other languages cannot read it.
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    _write(out / "report.json", text.encode() + b"\n")
    _write(out / "report.html", page(analysis, source, versions(), examples, pictures).encode())
    return out / "report.html"


def report_files(out: Path) -> list[Path]:
    """Every file that a report in the folder `out` may consist of."""
    return [out / name for name in ("report.html", "report.json", *(f"{name}.png" for name in PICTURES))]


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
