"""An analysis as a folder that anyone can open: `report.html`, the numbers behind it, and its figures."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

from matplotlib.figure import Figure
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from tsdlab.analysis.analyze import Report
from tsdlab.analysis.displacement import ALL_LEVELS, Displacements
from tsdlab.analysis.examples import CANDIDATES, Example, choose_examples
from tsdlab.analysis.misalignment import METHODS
from tsdlab.analysis.sensitivity import gradient_maps, sensitivity_maps
from tsdlab.data.coco import CocoDataset
from tsdlab.figures import maps as map_plots
from tsdlab.figures import measures as plots
from tsdlab.files import atomic_write
from tsdlab.models.build import as_detector
from tsdlab.models.probe import Probe
from tsdlab.provenance import versions
from tsdlab.report.page import page

_SHOWN_MEASURES = (
    "peak_distance", "spearman", "classification_centre", "localization_centre", "classification_peak_on_salient",
    "classification_energy_on_salient",
)  # fmt: skip
_PIXELS_PER_INCH = 130


def write_report(
    report: Report, out: Path, model: GeneralizedRCNN, dataset: CocoDataset, name: str, command: str
) -> Path:
    """Write `report.html`, which needs no other file, `report.json` and every figure as a PNG into the folder `out`.

    Args:
        report: what `analyze(model, dataset)` returned.
        out: a folder; made if it is not there, files of these names are replaced.
        model: the detector, for the examples.
        dataset: where the report and the examples are from.
        name: what the weights are called.
        command: the line that made the report.

    Returns:
        The path of `report.html`.
    """
    model = as_detector(model)
    out.mkdir(parents=True, exist_ok=True)
    chosen = choose_examples(model, dataset, min(CANDIDATES, report.misalignment.images))
    figures = _example_figures(model, dataset, chosen) | _report_figures(report)
    pictures = {}
    for key, figure in figures.items():
        file = io.BytesIO()
        # A map of few pixels needs no more: the grids of maps are most of the page.
        figure.savefig(file, format="png", dpi=100 if key.startswith("example") else _PIXELS_PER_INCH)
        pictures[key] = file.getvalue()
        _write(out / f"{key}.png", pictures[key])
    facts = {
        "command": command,
        "weights": name,
        "head": model.config.head,
        "dataset": {"folder": str(dataset.root), "split": dataset.split},
        "versions": versions(),
        "examples": [dataclasses.asdict(example) for example in chosen],
        "report": report.as_dict(),
    }
    # Strict JSON: NaN is an error here, not a word that other languages cannot read.
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    _write(out / "report.json", text.encode() + b"\n")
    _write(out / "report.html", page(report, facts, chosen, dataset, pictures).encode())
    return out / "report.html"


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _example_figures(model: GeneralizedRCNN, dataset: CocoDataset, chosen: list[Example]) -> dict[str, Figure]:
    figures = {}
    for number, example in enumerate(chosen, 1):
        image, target = dataset[example.image]
        box = target["boxes"][example.object]
        salient = target["salient_boxes"][example.object] if "salient_boxes" in target else None
        strides = Probe(model, image).strides
        by_method = {
            "proposals": sensitivity_maps(model, image, box, example.label),
            "gradients": gradient_maps(model, image, box, example.label, pooling="level"),
        }
        for method, maps in by_method.items():
            rows, columns = len(maps.levels), 2 * len(next(iter(maps.levels.values())))
            height, width = image.shape[1:]
            figure = Figure(figsize=(2.3 * columns, 2.15 * rows * height / width + 0.45), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False)
            map_plots.levels(maps, image, axes, salient, strides)
            figures[f"example-{number}-{method}"] = figure
        branches = list(by_method["proposals"].levels[example.level])
        figure = Figure(figsize=(11, 4.2 if len(branches) > 1 else 4.6), layout="constrained")
        grid = figure.add_gridspec(1, len(branches) + 1, width_ratios=[*([1] * len(branches)), 1.6])
        for i, branch in enumerate(branches):
            ax = map_plots.peaks(
                by_method["gradients"], example.level, branch, image, figure.add_subplot(grid[i]), salient
            )
            ax.set_title(f"{branch}: peaks of the gradients", fontsize=10)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False, fontsize=9)
        surface = figure.add_subplot(grid[-1], projection="3d")
        detecting = branches[-1]  # what the report is about, not the sibling trained beside it
        map_plots.surfaces(by_method["proposals"], example.level, detecting, surface, image, margin=0.5)
        surface.set_title(f"{detecting}: maps of the proposals", fontsize=10)
        figures[f"example-{number}"] = figure
    return figures


def _report_figures(report: Report) -> dict[str, Figure]:
    found = report.misalignment
    figures = {}
    for method in METHODS:
        known = [measure for measure in _SHOWN_MEASURES if measure in found.known(method)]
        for kind, draw in (("measures", plots.measures), ("moved", plots.moved)):
            if not known or (kind == "moved" and not found.moved):
                continue
            rows = -(-len(known) // 3)
            figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
            axes = figure.subplots(rows, 3, squeeze=False).ravel()
            for ax, measure in zip(axes, known):
                draw(found, method, measure, ax)
            for ax in axes[len(known) :]:
                ax.set_visible(False)
            figures[f"{kind}-{method}"] = figure
    if found.agreement or any(found.survival.values()):
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        plots.agreement(found, left)
        plots.survival(found, right)
        figures["scores"] = figure
    if report.displacement is not None:
        figures["displacements"] = _displacement_figure(report.displacement)
    return figures


def _displacement_figure(displacements: Displacements) -> Figure:
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    plots.field(displacements, ALL_LEVELS, figure.add_subplot(grid[0, 0]))
    for i, task in enumerate(("classification", "localization")):
        plots.distribution(displacements, f"{task}_offset", figure.add_subplot(grid[0, 1 + i]))
        rose = figure.add_subplot(grid[1, 1 + i], projection="polar")
        plots.directions(displacements, f"{task}_direction", rose)  # type: ignore[arg-type]
        rose.set_title(f"{'ΔC' if i == 0 else 'ΔR'}, directions", fontsize=10)
    plots.distribution(displacements, "classification_offset_px", figure.add_subplot(grid[1, 0]))
    return figure
