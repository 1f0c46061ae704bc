"""What the paper and this project say, and what the measured results say of it: the table of docs/claims.md.

A result holds if it is as claimed in every seed, and fails if it is the other way round in every seed. With fewer than
`ENOUGH` seeds, or with seeds that differ, it is open, however large the difference is. A claim holds or fails if all
of its results that are not open do.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from tsdlab.shipped import RESULTS

ENOUGH = 3
HOLDS, FAILS, OPEN, MIXED = "holds", "fails", "open", "depends"


@dataclass(frozen=True)
class Evidence:
    """One result about a claim."""

    text: str
    verdict: str
    file: str  # name in data/results


@dataclass(frozen=True)
class Claim:
    """A statement and how it is tested here; without a test it is open."""

    statement: str
    tests: tuple[Callable[[], Evidence | None], ...]  # None if the results are not there yet
    note: str = ""


def compare(file: str, better: str, worse: str, number: str = "AP", world: float = 1.0) -> Evidence | None:
    """Whether `better` is ahead of `worse`, seed by seed."""
    by_seed = [_values(file, system, number, world) for system in (better, worse)]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    if not seeds:
        return None
    gains = [by_seed[0][seed] - by_seed[1][seed] for seed in seeds]
    where = "" if world == 1.0 else f" at misalignment {world:g}"
    means = [statistics.mean(values[seed] for seed in seeds) for values in by_seed]
    text = f"{better} {means[0]:.1f}, {worse} {means[1]:.1f} {_title(number)}{where} ({_signed(gains)})"
    return Evidence(text, _verdict(gains), file)


def grows(file: str, better: str, worse: str, low: str, high: str) -> Evidence | None:
    """Whether the gain of `better` over `worse` in the number `high` is larger than in `low`, seed by seed."""
    gains = {number: _difference(_values(file, better, number), _values(file, worse, number)) for number in (low, high)}
    seeds = sorted(gains[low])
    if not seeds:
        return None
    means = (f"{_signed([statistics.mean(gains[number].values())])} {_title(number)}" for number in (low, high))
    return Evidence(
        f"{better} − {worse}: {', '.join(means)}",
        _verdict([gains[high][seed] - gains[low][seed] for seed in seeds]),
        file,
    )


def _title(number: str) -> str:
    return f"AP at IoU {number}" if number[0].isdigit() else number.replace("_", " ")


def _difference(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    return {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}


def _verdict(gains: list[float]) -> str:
    if len(gains) < ENOUGH:
        return OPEN
    return HOLDS if min(gains) > 0 else FAILS if max(gains) <= 0 else OPEN


def _signed(gains: list[float]) -> str:
    return ", ".join(f"{gain:+.1f}" for gain in gains).replace("-", "−")


def _values(file: str, system: str, number: str, world: float = 1.0) -> dict[int, float]:
    """A number of a system by seed; a number such as "0.90" is AP at this IoU threshold."""
    results = read(file)
    if results is None:
        return {}
    if "models" in results:  # a file of reference_runs.py
        runs = results["models"].get(system, {"runs": []})["runs"]
        rows = {run["seed"]: run["metrics"] for run in runs}
    else:  # a file of compare_heads.py
        rows = {run["seed"]: run for run in results["runs"] if run["system"] == system and run["misalignment"] == world}
    found = {seed: row.get("per_iou", {}).get(number, row.get(number)) for seed, row in rows.items()}
    return {seed: value for seed, value in found.items() if value is not None}


@cache
def read(file: str) -> dict[str, Any] | None:
    """The results file of this name; None if there is none yet."""
    path = RESULTS / f"{file}.json"
    return json.loads(path.read_text()) if path.exists() else None


def close(file: str, one: str, other: str, number: str, within: float) -> Evidence | None:
    """Whether two systems differ by at most `within` points in every seed."""
    gains = _difference(_values(file, one, number), _values(file, other, number))
    if not gains:
        return None
    each = [gains[seed] for seed in sorted(gains)]
    near = [abs(gain) <= within for gain in each]
    verdict = OPEN if len(each) < ENOUGH else HOLDS if all(near) else OPEN if any(near) else FAILS
    return Evidence(f"{one} − {other}: {_signed(each)} {number}", verdict, file)


def looks_at_the_badge(head: str, than: str) -> Evidence:
    """Whether classification peaks on the badge more often in one head's branch than in another's; one seed."""
    shares = []
    for name in (head, than):
        report = read("misalignment")["shipped"][f"badges-{name}"]["misalignment"]  # type: ignore[index]
        shares.append(report["maps"]["gradients"]["0"][name]["classification_peak_on_salient"]["value"])
    text = f"peak on the badge for {shares[0]:.0%} ({head}) and {shares[1]:.0%} ({than}) of the objects, one seed"
    return Evidence(text, OPEN, "misalignment")


def peaks_apart(head: str) -> Evidence:
    """How far the peaks of both tasks are apart; one seed."""
    report = read("misalignment")["shipped"][f"badges-{head}"]["misalignment"]  # type: ignore[index]
    texts = []
    for method, title in (("gradients", "by gradients"), ("proposals", "by the paper's recipe")):
        distance = report["maps"][method]["0"][head]["peak_distance"]["value"]
        texts.append(f"{distance:.0%} of the object's size {title}")
    return Evidence(f"peaks of {head} apart: {', '.join(texts)}, one seed", OPEN, "misalignment")


def inference_cost(most: float) -> Evidence:
    """Time of TSD's inference against the sibling head's, R50."""
    ratios = read("cost")["r50"]["inference"]  # type: ignore[index]
    ratio = ratios["tsdlab tsd @ 0.05"]["ratio"] / ratios["tsdlab sibling @ 0.05"]["ratio"]
    return Evidence(
        f"{ratio:.2f} × the sibling head's time on two CPU cores", HOLDS if ratio <= most else FAILS, "cost"
    )


PAPER = (
    Claim(
        "Both tasks prefer different places of an object.",
        (partial(peaks_apart, "sibling"),),
        "By the paper's own recipe the peaks are near each other in this world; by gradients they are not.",
    ),
    Claim(
        "Separate layers for each task help: D_head is better than the sibling head.",
        tuple(partial(compare, file, "d_head", "sibling") for file in ("heads", "badges", "cards")),
    ),
    Claim(
        "TSD without the progressive constraint is better than D_head.",
        (partial(compare, "heads", "tsd, no constraint", "d_head"),),
    ),
    Claim(
        "TSD is better than D_head.",
        tuple(partial(compare, file, "tsd", "d_head") for file in ("heads", "badges", "cards")),
    ),
    Claim(
        "The gain grows with the IoU threshold.",
        tuple(
            partial(grows, file, "tsd", than, "0.50", "0.90")
            for than in ("sibling", "d_head")
            for file in ("heads", "badges", "cards")
        ),
    ),
    Claim(
        "The gain is larger for medium objects than for small ones.",
        tuple(partial(grows, file, "tsd", "d_head", "AP_small", "AP_medium") for file in ("heads", "badges")),
    ),
    Claim("The progressive constraint adds AP75.", (partial(compare, "heads", "tsd", "tsd, no constraint", "AP75"),)),
    Claim(
        "The progressive constraint leaves AP50 as it is, within one point.",
        (partial(close, "heads", "tsd", "tsd, no constraint", "AP50", 1.0),),
    ),
    Claim(
        "Both margins of the constraint help.",
        (
            partial(compare, "ablations", "tsd", "tsd, M_cls alone"),
            partial(compare, "ablations", "tsd", "tsd, M_loc alone"),
        ),
    ),
    Claim(
        "One displacement per bin suits classification.",
        (partial(compare, "ablations", "tsd", "tsd, class by proposal"),),
    ),
    Claim(
        "One displacement for the whole proposal suits localization.",
        (partial(compare, "ablations", "tsd", "tsd, box by bins"),),
    ),
    Claim(
        "TSD takes about 10% more time to detect.", (partial(inference_cost, 1.1),), "The paper measured it on a GPU."
    ),
    Claim(
        "On COCO, TSD adds 3 to 5 AP to each backbone, and about 6 to MobileNetV2.", (), "COCO was not trained here."
    ),
    Claim("Separate backbones for each task hurt.", (), "No such model is built here."),
)

OURS = (
    Claim(
        "TSD learns sooner than D_head.",
        (partial(compare, "heads", "tsd", "d_head"), partial(compare, "leash", "tsd", "d_head", world=1.5)),
    ),
    Claim(
        "The gain comes from the displacement: without it (γ = 0) TSD is no better than D_head.",
        (partial(compare, "ablations", "d_head", "tsd, γ = 0"), partial(compare, "ablations", "tsd", "tsd, γ = 0")),
    ),
    Claim(
        "Twice the loss does not replace the displacement.",
        (
            partial(compare, "ablations", "tsd", "d_head, loss × 2"),
            partial(compare, "ablations", "d_head, loss × 2", "d_head"),
        ),
        "It gives D_head half of TSD's gain in this seed.",
    ),
    Claim(
        "Half the loss takes nothing from TSD.",
        (partial(compare, "ablations", "tsd, loss × ½", "tsd"),),
    ),
    Claim("TSD does not need its sibling head.", (partial(compare, "ablations", "tsd, no sibling", "tsd"),)),
    Claim(
        "TSD's gain over D_head grows with the misalignment.",
        tuple(partial(compare, "dose", "tsd", "d_head", world=world) for world in (0.0, 1.0, 2.0)),
        "The paper's account predicts it. After 800 steps the gain is largest at 0 in both seeds.",
    ),
    Claim(
        "TSD reads a badge outside the box sooner than the other heads.",
        (
            partial(compare, "leash", "tsd", "d_head", world=1.5),
            partial(compare, "leash", "d_head", "sibling", world=1.5),
        ),
    ),
    Claim("TSD classifies from the badge.", (partial(looks_at_the_badge, "tsd", "sibling"),)),
    Claim(
        "On blood cells, whose evidence is in the middle, TSD gains little.",
        (partial(close, "bccd", "tsd", "sibling", "AP50", 1.0), partial(compare, "bccd", "tsd", "sibling")),
        "On the validation split the sibling head leads at the last step.",
    ),
)


def table(claims: tuple[Claim, ...]) -> list[list[str]]:
    """A row per claim for `tables.markdown`."""
    rows = [["claim", "result", "verdict"]]
    for claim in claims:
        found = [evidence for test in claim.tests if (evidence := test()) is not None]
        texts = [f"{each.text} ([{each.file}](../data/results/{each.file}.json)): {each.verdict}" for each in found]
        decided = {each.verdict for each in found} - {OPEN}
        verdict = OPEN if not decided else MIXED if len(decided) > 1 else decided.pop()
        rows.append([claim.statement, "<br>".join([*texts, *([claim.note] if claim.note else [])]), f"**{verdict}**"])
    return rows
