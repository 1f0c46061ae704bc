"""Columns of one proposal, compared with numbers counted by hand."""

import math

import numpy as np
import pytest
import torch

from tsdlab.analysis.columns import COLUMNS, DIRECTIONS, EDGES, Moved
from tsdlab.ops.sampling import bin_centres

P = torch.tensor([[0.0, 0.0, 70.0, 14.0]])
NOWHERE = torch.full((1, 4), math.nan)


def columns(proposals, points, moved, objects, salient):
    measured = Moved(proposals, points, bin_centres(moved), objects, salient)
    return {name: column.compute(measured).tolist() for name, column in COLUMNS.items()}


def first(found):
    return {name: values[0] for name, values in found.items()}


def test_by_hand():
    """All bins of a 70 × 14 proposal are gathered on its badge, and its box moved onto the object."""
    badge = torch.tensor([[60.0, 0.0, 70.0, 2.0]])  # the last bin of the first row
    points = torch.tensor([65.0, 1.0]).expand(1, 7, 7, 2)
    moved, thing = P + torch.tensor([7.0, 0.0, 7.0, 0.0]), P + torch.tensor([14.0, 0.0, 14.0, 0.0])
    found = first(columns(P, points, moved, thing, badge))
    assert found["grid_on_salient"] == pytest.approx(1 / 49) and found["moved_on_salient"] == 1
    size = torch.tensor([70.0, 14.0])
    distance = torch.linalg.vector_norm((bin_centres(P) - points) / size, dim=-1).mean().item()
    assert found["towards_salient"] == found["classification_offset"] == pytest.approx(distance)
    pixels = torch.linalg.vector_norm(bin_centres(P) - points, dim=-1).mean().item()
    assert found["classification_offset_px"] == pytest.approx(pixels)
    assert (found["centre_distance"], found["localization_centre_distance"]) == pytest.approx((0.2, 0.1))
    assert (found["localization_offset"], found["localization_offset_px"]) == pytest.approx((0.1, 7))
    assert (found["localization_gain"], found["localization_heading"]) == pytest.approx((0.1, 1))
    gathered = ((65 - 49) ** 2 / 70**2 + (1 - 7) ** 2 / 14**2) ** 0.5
    assert found["classification_centre_distance"] == pytest.approx(gathered)
    plain = torch.linalg.vector_norm((bin_centres(P) - torch.tensor([35.0, 7.0])) / size, dim=-1)
    assert found["moved_spread"] == 0 and found["grid_spread"] == pytest.approx(plain.mean().item())


@pytest.mark.parametrize("name", COLUMNS | DIRECTIONS)
def test_the_unit_says_how_a_column_changes_with_the_size_of_the_image(name):
    column = (COLUMNS | DIRECTIONS)[name]
    corners = torch.rand(4, 9, 2, generator=torch.Generator().manual_seed(0)) * 80
    proposals, moved, objects, salient = torch.cat([corners, corners + torch.tensor([15.0, 40.0])], dim=-1)
    points = bin_centres(proposals) + 5 * torch.randn(9, 7, 7, 2, generator=torch.Generator().manual_seed(1))
    small, large = (
        column.compute(Moved(*(of * scale for of in (proposals, points, bin_centres(moved), objects, salient))))
        for scale in (1, 3)
    )
    factor = {"pixels": 3, "% of P": 1, "%": 1, "degrees": 1, "": 1}[column.unit]
    torch.testing.assert_close(large, factor * small, rtol=1e-3, atol=1e-3)
    assert column.label == column.title + (f" ({column.unit})" if column.unit else "")
    assert column.scale == (100 if "%" in column.unit else 1)


def test_the_bins_of_histograms():
    widths = {
        "classification_offset": (0, 0.5, 0.01),
        "localization_offset": (0, 0.5, 0.01),
        "classification_offset_px": (0, 60, 1),
        "localization_offset_px": (0, 30, 0.5),
        "classification_direction": (-180, 180, 15),
        "localization_direction": (-180, 180, 15),
    }
    assert EDGES.keys() == widths.keys()
    for name, (low, high, width) in widths.items():
        assert EDGES[name] == pytest.approx(np.arange(low, high + width / 2, width))


def test_without_displacement_nothing_changes():
    found = first(columns(P, bin_centres(P), P, P, P))
    assert found["grid_on_salient"] == found["moved_on_salient"] == 1
    assert found["moved_spread"] == pytest.approx(found["grid_spread"])
    assert math.isnan(found["localization_heading"]), "no step, no heading"
    zero = COLUMNS.keys() - {
        "grid_on_salient",
        "moved_on_salient",
        "moved_spread",
        "grid_spread",
        "localization_heading",
    }
    assert [found[name] for name in zero] == pytest.approx([0] * len(zero), abs=1e-6)


def test_steps_sideways_and_away_head_elsewhere():
    goal = P + torch.tensor([7.0, 0.0, 7.0, 0.0])
    for step, heading in ((torch.tensor([0.0, 2, 0, 2]), 0), (torch.tensor([-7.0, 0, -7, 0]), -1)):
        found = first(columns(P, bin_centres(P), P + step, goal, NOWHERE))
        assert found["localization_heading"] == pytest.approx(heading, abs=1e-6)
        assert found["localization_gain"] < 0


def test_where_nobody_marked_a_salient_part_there_is_no_number_of_it():
    found = first(columns(P, bin_centres(P), P, P, NOWHERE))
    missing = {name for name, value in found.items() if math.isnan(value)} - {"localization_heading"}
    assert missing == {"grid_on_salient", "moved_on_salient", "towards_salient"}


@pytest.mark.parametrize("role", ["classification", "localization"])
def test_a_task_that_is_pooled_from_the_proposal_has_no_number(role):
    nowhere = torch.full((1, 7, 7, 2), math.nan)
    other = bin_centres(P + 3)
    points = (nowhere, other) if role == "classification" else (other, nowhere)
    measured = Moved(P, *points, P + 5, P)
    for name, column in (COLUMNS | DIRECTIONS).items():
        values = column.compute(measured)
        assert values.isnan().all() == (column.role == role), name
        assert values.isfinite().all() == (column.role != role), name
