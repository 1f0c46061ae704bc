"""Costs of errors with known numbers, as tests of figures and reports need them."""

from __future__ import annotations

from tsdlab.analysis.costs import Costs, ErrorCosts
from tsdlab.analysis.errors import KINDS
from tsdlab.analysis.statistics import NOTHING, Estimate


def about(value: float, half: float = 0.5, count: int = 7) -> Estimate:
    """A number whose interval reaches `half` to both sides."""
    return Estimate(value, value - half, value + half, count)


def known_costs(half: float = 0.5, **values: float) -> ErrorCosts:
    """Costs by kind, and "AP", "AP50"; what is not named costs nothing. Their difference has an interval of ±`half`."""
    ap, ap50 = values.get("AP", 60.0), values.get("AP50", 90.0)
    kinds = {kind: about(values.get(kind, 0.0)) for kind in KINDS}
    costs = Costs(about(ap), about(ap50), about(ap50 - ap), kinds)
    localization = ap50 - ap + values.get("localization", 0.0)
    return ErrorCosts(
        overall=costs,
        per_class={"cat": costs, "dog": costs},
        per_size=dict.fromkeys(("small", "medium", "large"), kinds),
        localization_minus_classification=about(localization - values.get("classification", 0.0), half),
        wrong_detections=about(3.0),
        objects_not_found=about(4.0),
    )


def no_costs() -> ErrorCosts:
    """Where there is no object."""
    kinds = dict.fromkeys(KINDS, NOTHING)
    costs = Costs(NOTHING, NOTHING, NOTHING, kinds)
    return ErrorCosts(costs, {"cat": costs}, {"small": kinds}, NOTHING, NOTHING, NOTHING)
