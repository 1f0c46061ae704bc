"""An analysis as a folder that opens anywhere: `report.html`, the numbers behind it, and its pictures."""

from __future__ import annotations

from pathlib import Path

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.examples import Shown
from tsdlab.analysis.find_errors import Errors
from tsdlab.files import claim_outputs
from tsdlab.provenance import versions
from tsdlab.report.error_pictures import WORST, error_drawings
from tsdlab.report.errors import error_section
from tsdlab.report.folder import write_folder
from tsdlab.report.levels import hidden_levels, without
from tsdlab.report.page import Source, page
from tsdlab.report.pictures import PICTURES, draw_pictures
from tsdlab.report.verdict import plain, verdict


def write_report(
    analysis: Analysis,
    shown: Shown,
    source: Source,
    out: Path,
    overwrite: bool = False,
    progress: bool = True,
    explorer: str | None = None,
    errors: Errors | None = None,
) -> Path:
    """Write `report.html`, which needs no other file, `report.json`, and every picture.

    Levels with too few proposals are hidden on the page and in the pictures; `report.json` has their numbers.

    Args:
        analysis: what `tsdlab.analysis.analyze.analyze` returned.
        shown: objects to show, from `tsdlab.analysis.examples.choose_shown`.
        source: where the numbers come from.
        out: a folder; it is made if it does not exist.
        overwrite: whether files with these names may be replaced.
        progress: show a progress bar.
        explorer: a saved page of the explorer, in HTML, that the report holds.
        errors: where AP is lost, from `tsdlab.analysis.find_errors.find_errors`; without them, a section is missing.

    Returns:
        The path of `report.html`.

    Raises:
        ExistingFileError: there are such files already, and `overwrite` is False; nothing was written.
    """
    claim_outputs(report_files(out), overwrite=overwrite)
    hidden = hidden_levels(analysis)
    visible = without(analysis, hidden)
    worst = [] if errors is None else errors.worst(WORST)
    drawings = {} if errors is None else error_drawings(errors, worst)
    section = None if errors is None else error_section(errors, worst)
    pictures = draw_pictures(visible, shown, progress, drawings)
    facts = {
        "command": source.command,
        "weights": source.weights,
        "head": source.head,
        "dataset": {"folder": source.folder, "split": source.split},
        "versions": versions(),
        "verdict": [plain(sentence) for sentence in verdict(visible)],
        "hidden_levels": hidden,
        "typical": None if shown.typical is None else shown.typical.as_dict(),
        "examples": [example.as_dict() for example in shown.farthest],
        "report": analysis.as_dict(),
    }
    if errors is not None and section is not None:
        facts["errors"] = {
            "verdict": [plain(sentence) for sentence in section.verdict],
            **errors.as_dict(),
            "worst_images": [image.as_dict() for image in worst],
        }
    html = page(visible, source, versions(), shown, pictures, hidden, explorer, section)
    return write_folder(out, "report", html, facts, pictures)


def report_files(out: Path) -> list[Path]:
    """Every file that a report in the folder `out` may consist of."""
    return [out / name for name in ("report.html", "report.json", *PICTURES)]
