"""Fill the tables of README.md and docs/ from `data/results/*.json`: `python experiments/tables.py`.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is a key of `TABLES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import claims

from tsdlab.shipped import RESULTS

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "claims.md")


def finding_table() -> str:
    """AP early and late, and where classification looks, from `badges.json` and `misalignment.json`."""
    models = _read("badges")["models"]
    shipped = _read("misalignment")["shipped"]
    early, *_, late = (f"AP after {row['step']:,.0f} steps" for row in models["tsd"]["history"])
    rows = [["head", early, late, "classification looks at the badge, % of objects"]]
    for head, model in models.items():
        looks = shipped[f"badges-{head}"]["misalignment"]["maps"]["gradients"]["0"][head]
        share = looks["classification_peak_on_salient"]["value"]
        numbers = (model["history"][0]["AP"], model["metrics"]["AP"])
        rows.append([head, *(_spread(model, n) for n in numbers), f"{share:.0%}".removesuffix("%")])
    return markdown(rows)


def accuracy_table(name: str) -> str:
    """AP of every head in `data/results/<name>.json`, over its seeds; a size without objects has no column."""
    models = _read(name)["models"]
    keys = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    keys = [k for k in keys if any(model["metrics"][k] is not None for model in models.values())]
    first, *_, last = (row["step"] for row in models["tsd"]["history"])
    early = f"AP at step {first:,.0f} of {last:,.0f}"
    rows = [["head", *(k.replace("_", " ") for k in keys), early, "seeds", "parameters"]]
    for head, model in models.items():
        numbers = [*(model["metrics"][k] for k in keys), model["history"][0]["AP"]]
        cells = [*(_spread(model, n) for n in numbers), str(len(model["seeds"]))]
        rows.append([head, *cells, f"{model['parameters'] / 1e6:.1f} M"])
    return markdown(rows)


def cost_table() -> str:
    """Against torchvision's Faster R-CNN in channels-last memory, from `data/results/cost.json`."""
    results = _read("cost")
    header = [
        "",
        "R50 parameters",
        "R50 step",
        "step memory",
        "R50 inference",
        "at score threshold 0",
        "inference memory",
    ]
    rows = [[*header, "badges step", "badges inference"]]
    r50, badges = results["r50"], results["badges"]
    for name in r50["train"]:
        cells = [r50["train"][name]["ratio"], _memory(r50, "train", name)]
        cells += [r50["inference"][f"{name} @ {threshold}"]["ratio"] for threshold in (0.05, 0.0)]
        cells += [_memory(r50, "inference", name)]
        cells += [badges["train"][name]["ratio"], badges["inference"][f"{name} @ 0.05"]["ratio"]]
        million = f"{r50['parameters'][name] / 1e6:.1f} M"
        rows.append([name, million, *("" if ratio is None else f"{ratio:.2f}" for ratio in cells)])
    return markdown(rows)


def _memory(setting: dict, kind: str, name: str) -> float | None:
    ours, theirs = (setting["peak_MB"][kind][n] for n in (name, "torchvision, channels-last"))
    return None if ours is None or theirs is None else ours / theirs


def comparison_table(name: str, numbers: tuple[str, ...]) -> str:
    """Mean ± standard deviation over seeds of every system in `data/results/<name>.json`.

    Rows of few seeds come last: their order among the others would say nothing.
    """
    summary = _read(name)["summary"]
    rows = [["head", *(n.replace("_", " ") for n in numbers), "seeds", "parameters"]]
    for row in sorted(summary, key=lambda row: (-len(row["seeds"]), row["AP"]["mean"])):
        cells = [*(_spread(row, row[n]) for n in numbers), str(len(row["seeds"]))]
        rows.append([row["system"], *cells, f"{row['parameters'] / 1e6:.1f} M"])
    return markdown(rows)


def dose_table() -> str:
    """AP of every system over misalignment, and where TSD's bins lie, from `data/results/dose.json`."""
    summary = _read("dose")["summary"]
    doses = sorted({row["misalignment"] for row in summary})
    rows = [["AP at misalignment", *(f"{dose:g}" for dose in doses)]]
    for system in dict.fromkeys(row["system"] for row in summary):
        of = {row["misalignment"]: row for row in summary if row["system"] == system}
        rows.append([system, *(_spread(of[dose], of[dose]["AP"]) for dose in doses)])
    moved = {row["misalignment"]: row for row in summary if row["displacement"] is not None}
    for key, label in (("moved_on_salient", "P̂c"), ("grid_on_salient", "the plain grid")):
        shares = (_spread(moved[dose], moved[dose]["displacement"][key], 100) for dose in doses)
        rows.append([f"{label} on the badge, %", *shares])
    return markdown(rows)


def misalignment_table() -> str:
    """Where each branch's two tasks look on the finest level, from `data/results/misalignment.json`."""
    shipped = _read("misalignment")["shipped"]
    measures = {
        "peak_distance": "distance of the two peaks, % of the object's size",
        "classification_peak_on_salient": "classification peak on the badge, %",
        "classification_energy_on_salient": "classification energy on the badge, 1 = even",
        "localization_peak_on_salient": "localization peak on the badge, %",
    }
    rows = [["maps of the finest level", *measures.values(), "objects"]]
    for method, title in (("proposals", "the paper's recipe"), ("gradients", "gradients")):
        for name, report in shipped.items():
            for branch, measured in report["misalignment"]["maps"][method]["0"].items():
                own = name == f"badges-{branch}"
                label = f"{title}: {branch}" if own else f"{title}: {branch} within {name.removeprefix('badges-')}"
                cells = [_interval(measured[m], 1 if "energy" in m else 100) for m in measures]
                rows.append([label, *cells, str(measured["peak_distance"]["count"])])
    return markdown(rows)


def _interval(estimate: dict[str, float], scale: float) -> str:
    """An estimate with its 95% interval."""
    value, low, high = (f"{estimate[key] * scale:.{0 if scale > 1 else 2}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def _spread(row: dict, value: dict[str, float], scale: float = 1.0) -> str:
    """Mean ± standard deviation; of a single seed there is none."""
    mean = f"{value['mean'] * scale:.1f}"
    return mean if len(row["seeds"]) == 1 else f"{mean} ± {value['sd'] * scale:.1f}"


def pooling_table() -> str:
    """How many times faster than torchvision our pooling is, from `data/results/roi_ops-cpu.json`."""
    settings = _read("roi_ops-cpu")["settings"]
    columns = [("forward", "tsdlab"), ("forward + backward", "tsdlab")]
    columns += [(passes, f"{name}, offsets") for passes, name in columns]
    rows = [
        [
            "× torchvision",
            *(f"{passes}{name.removeprefix('tsdlab')}" for passes, name in columns),
            "peak memory, ours : torchvision's",
        ]
    ]
    for name, passes in settings.items():
        speeds = [passes[p][contestant]["times_torchvision"] for p, contestant in columns]
        ours, theirs = (passes["forward + backward"][who]["peak_MB"] for who in ("tsdlab, offsets", "torchvision"))
        memory = f"{ours:.0f} : {theirs:.0f} MB" if ours is not None and theirs is not None else ""
        rows.append([name, *(f"{speed:.1f}" for speed in speeds), memory])
    return markdown(rows)


def _read(name: str) -> dict[str, Any]:
    """The results file `data/results/<name>.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(rows: list[list[str]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def left_aligned(rows: list[list[str]]) -> str:
    """A table of text."""
    return markdown(rows).replace("---:", "---")


TABLES: dict[str, Callable[[], str]] = {
    "finding": finding_table,
    "badges": partial(accuracy_table, "badges"),
    "bccd": partial(accuracy_table, "bccd"),
    "heads": partial(comparison_table, "heads", ("AP", "AP50", "AP75", "AP_small", "AP_medium")),
    "dose": dose_table,
    "leash": partial(comparison_table, "leash", ("AP", "AP50", "AP75")),
    "ablations": partial(comparison_table, "ablations", ("AP", "AP50", "AP75")),
    "misalignment": misalignment_table,
    "pooling": pooling_table,
    "cost": cost_table,
    "paper": lambda: left_aligned(claims.table(claims.PAPER)),
    "ours": lambda: left_aligned(claims.table(claims.OURS)),
}

MARKED = re.compile(r"<!-- (?P<name>[a-z]+) -->\n.*?<!-- /(?P=name) -->", re.DOTALL)


def fill(text: str) -> str:
    """`text` with every marked table made again.

    Raises:
        KeyError: a marker names no table.
    """
    return MARKED.sub(lambda marked: _between_markers(marked["name"]), text)


def _between_markers(name: str) -> str:
    return f"<!-- {name} -->\n{TABLES[name]()}\n<!-- /{name} -->"


def main() -> None:
    for page in PAGES:
        page.write_text(fill(page.read_text()))
        print(f"filled: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
