"""Measures of two maps, compared with numbers counted by hand."""

import math

import pytest
import torch
from scipy.stats import spearmanr

from tsdlab.analysis.measures import MEASURES, ObjectMaps
from tsdlab.analysis.misalignment import (
    CELLS,
    window,
)
from tsdlab.analysis.sensitivity import TASKS, Grid, TaskMaps

BOX = torch.tensor([40.0, 30.0, 90.0, 110.0])  # 50 wide, 80 high


def even(shape=(CELLS, CELLS)):
    """The same everywhere but for one cell, so that it has a peak."""
    values = torch.ones(shape)
    values[0, 0] += 1e-6
    return values


def measure_maps(maps, grid, box, salient=None):
    measured = ObjectMaps(maps, grid, box, salient)
    return {name: measure.compute(measured) for name, measure in MEASURES.items()}


def dot(row, column, shape=(CELLS, CELLS)):
    values = torch.zeros(shape)
    values[row, column] = 1.0
    return values


def test_an_even_map_measures_even():
    for box, size in ((BOX, (500, 500)), (BOX, (120, 100)), (torch.tensor([0.0, 0.0, 7.0, 5.0]), (60, 60))):
        salient = torch.cat([box[:2], box[:2] + (box[2:] - box[:2]) / 5])
        found = measure_maps(TaskMaps(even(), even()), window(box, size), box, salient)
        for task in ("classification", "localization"):
            assert found[f"{task}_centre"] == pytest.approx(0.25, abs=1e-4)
            assert found[f"{task}_energy_on_salient"] == pytest.approx(1.0, abs=1e-4)
        for name, measure in MEASURES.items():  # what figures and reports call the value of an even map
            if measure.even is not None and name != "spearman":
                assert measure.even == pytest.approx(found[name], abs=1e-4)
    without = {"peak_distance", "top_overlap", "salient_area"} | {f"{t}_peak_on_salient" for t in TASKS}
    assert {name for name, measure in MEASURES.items() if measure.even is None} == without
    assert MEASURES["spearman"].even == 0


def test_peaks_by_hand():
    """Cells of 10 × 10 px: classification peaks at (35, 5), localization at (65, 45)."""
    grid, box = Grid((0.0, 0.0, 100.0, 100.0), (10, 10)), torch.tensor([20.0, 0.0, 80.0, 80.0])
    salient = torch.tensor([30.0, 0.0, 40.0, 10.0])
    maps = TaskMaps(dot(0, 3, (10, 10)), dot(4, 6, (10, 10)))
    found = measure_maps(maps, grid, box, salient)
    assert found["peak_distance"] == pytest.approx(math.hypot(30 / 60, 40 / 80))
    # The middle is 35…65 × 20…60: half of localization's cell.
    assert found["classification_centre"] == 0 and found["localization_centre"] == pytest.approx(0.5)
    assert found["classification_peak_on_salient"] == 1 and found["localization_peak_on_salient"] == 0
    below = measure_maps(maps, grid, box, torch.tensor([60.0, 0.0, 70.0, 10.0]))
    assert below["localization_peak_on_salient"] == 0, "its column is that of the salient part, its row is not"
    assert found["classification_energy_on_salient"] == pytest.approx(100)  # all of it on one of a hundred cells
    assert found["localization_energy_on_salient"] == 0
    assert found["salient_area"] == pytest.approx(0.01)
    assert found["spearman"] == pytest.approx(-1 / 99)


def test_the_salient_part_may_be_several():
    """Cells of 10 × 10 px: classification peaks at (35, 5), localization at (65, 45)."""
    grid, box = Grid((0.0, 0.0, 100.0, 100.0), (10, 10)), torch.tensor([20.0, 0.0, 80.0, 80.0])
    maps = TaskMaps(dot(0, 3, (10, 10)), dot(4, 6, (10, 10)))
    parts = torch.tensor([[90.0, 90.0, 100.0, 100.0], [30.0, 0.0, 40.0, 10.0], [60.0, 0.0, 70.0, 10.0]])
    found = measure_maps(maps, grid, box, parts)
    assert found["classification_peak_on_salient"] == 1
    assert found["localization_peak_on_salient"] == 0, "its column is in one part, its row in none"
    assert found["salient_area"] == pytest.approx(0.03)
    assert found["classification_energy_on_salient"] == pytest.approx(100 / 3)
    twice = measure_maps(maps, grid, box, parts[[1, 1]])
    assert twice["salient_area"] == pytest.approx(0.01), "a place that two parts share counts once"


def test_parts_of_a_cell_count_in_part():
    grid, box = Grid((0.0, 0.0, 40.0, 40.0), (4, 4)), torch.tensor([0.0, 0.0, 40.0, 40.0])
    maps = TaskMaps(dot(1, 1, (4, 4)), even((4, 4)))
    found = measure_maps(maps, grid, box, torch.tensor([12.0, 15.0, 17.0, 20.0]))  # a quarter of cell (1, 1)
    assert found["classification_energy_on_salient"] == pytest.approx(0.25 / (25 / 1600))
    assert found["localization_energy_on_salient"] == pytest.approx(1.0, abs=1e-5)
    assert found["classification_peak_on_salient"] == 1  # its cell's centre is (15, 15)


def test_centre_energy_by_hand():
    values = torch.zeros(8, 8)
    values[4, 4], values[1, 1], values[0, 7] = 3.0, 1.0, 4.0
    grid, box = Grid((0.0, 0.0, 80.0, 80.0), (8, 8)), torch.tensor([10.0, 10.0, 70.0, 70.0])
    found = measure_maps(TaskMaps(values, even((8, 8))), grid, box)
    assert found["classification_centre"] == pytest.approx(0.75), "what lies outside the box does not count"
    assert math.isnan(found["classification_peak_on_salient"]) and math.isnan(found["classification_energy_on_salient"])


def test_overlap_and_correlation_by_hand():
    grid, box = Grid((0.0, 0.0, 10.0, 10.0), (10, 10)), torch.tensor([0.0, 0.0, 10.0, 10.0])
    first = torch.arange(100.0).view(10, 10)
    second = first.clone()
    second[9, :5] = torch.arange(5.0)  # five of the ten best are no longer among them: 85…89 are
    found = measure_maps(TaskMaps(first, second), grid, box)
    assert found["top_overlap"] == pytest.approx(5 / 15)
    assert found["spearman"] == pytest.approx(spearmanr(first.flatten(), second.flatten()).statistic)
    same, opposite = (measure_maps(TaskMaps(first, other), grid, box) for other in (first, 99 - first))
    assert (same["peak_distance"], same["top_overlap"]) == (0, 1) and same["spearman"] == pytest.approx(1)
    assert opposite["top_overlap"] == 0 and opposite["spearman"] == pytest.approx(-1)


def test_flat_maps_have_no_measure():
    grid = window(BOX, (128, 128))
    found = measure_maps(TaskMaps(torch.zeros(32, 32), even()), grid, BOX, BOX)
    for name in ("peak_distance", "classification_centre", "top_overlap", "spearman", "classification_peak_on_salient"):
        assert math.isnan(found[name])
    assert found["localization_centre"] == pytest.approx(0.25, abs=1e-4)
    assert found["localization_energy_on_salient"] == pytest.approx(1, abs=1e-4)


def test_a_map_that_avoids_the_object_has_no_centre():
    grid, box = Grid((0.0, 0.0, 80.0, 80.0), (8, 8)), torch.tensor([40.0, 40.0, 60.0, 60.0])
    nothing = torch.tensor([70.0, 0.0, 70.0, 0.0])
    found = measure_maps(TaskMaps(dot(0, 0, (8, 8)), dot(0, 1, (8, 8))), grid, box, salient=nothing)
    assert math.isnan(found["classification_centre"]) and math.isnan(found["classification_energy_on_salient"])
    assert found["peak_distance"] == pytest.approx(0.5) and found["classification_peak_on_salient"] == 0
