"""The statistics view: what its table counts, what its traits do, and what is refused; no browser."""

import base64
import json
import math
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_heads import OwnHead, both_deformed, surroundings
from traitlets import Any, HasTraits

pytest.importorskip("anywidget")

import tsdlab
from tsdlab.analysis.columns import COLUMNS
from tsdlab.analysis.displacement import Followed, measure_displacement
from tsdlab.analysis.tables import FollowedTable, even_edges, follow_dataset, shares
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.errors import InputError
from tsdlab.models.build import build_detector
from tsdlab.ops.sampling import bin_centres
from tsdlab.structures import RegionTrace
from tsdlab.widgets.levels import messages
from tsdlab.widgets.levels import widget as levels
from tsdlab.widgets.levels.widget import LevelsView


class Explorer(HasTraits):
    """Stands in for the explorer; as there, opening an image moves the proposal."""

    image_index, proposal = Any(-1), Any(None)
    model_id = "an id"

    def __init__(self):
        super().__init__()
        self.observe(lambda _: setattr(self, "proposal", None), "image_index")


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def table(model, dataset):
    return follow_dataset(model, dataset, 12, progress=False)


@pytest.fixture
def view(table, dataset):
    return LevelsView(table, dataset, Explorer())


@pytest.fixture(scope="module")
def small():
    """Six proposals by hand: sides of 10…60 px, levels 0 0 0 1 1 1, classes 1 2 1 2 1 2, |ΔC| 0.6…0.1."""
    sides = torch.arange(10.0, 70, 10)
    columns = dict.fromkeys(COLUMNS, torch.full((6,), math.nan))
    offsets = torch.zeros(6, 2, 2, 2)
    offsets[:, 0, 1] = torch.stack([torch.arange(6) / 10, torch.zeros(6)], dim=1)
    proposals = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], dim=1)
    shift = torch.tensor([0.1, -0.2])
    boxes = proposals + sides[:, None] * shift.repeat(2)
    regions = {
        "classification": RegionTrace(proposals, bin_centres(proposals, offsets), offsets, True),
        "localization": RegionTrace(boxes, bin_centres(boxes, bins=2), shift.expand(6, 2, 2, 2), False),
    }
    followed = Followed(
        objects=torch.zeros(6, dtype=torch.int64),
        labels=torch.tensor([1, 2, 1, 2, 1, 2]),
        proposals=proposals,
        levels=torch.tensor([0, 0, 0, 1, 1, 1]),
        regions=regions,
        columns={**columns, "classification_offset": torch.arange(6, 0, -1) / 10},
    )
    return FollowedTable(np.array([0, 0, 1, 1, 2, 2]), followed, ("fine", "coarse", "empty"), ("cat", "dog"))


# The table ----------------------------------------------------------------------------------------------------------


def test_filters_keep_what_they_name(small):
    def rows(**filters):
        return np.flatnonzero(small.select(**filters)).tolist()

    assert rows() == [0, 1, 2, 3, 4, 5]
    assert rows(level="coarse") == [3, 4, 5]
    assert rows(category="dog") == [1, 3, 5]
    assert rows(size=(20, 50)) == [1, 2, 3, 4]  # both ends count
    assert rows(level="coarse", category="cat", size=(0, 50)) == [4]
    assert rows(level="empty") == rows(size=(100, 200)) == []


def test_numbers_are_of_the_rows_that_are_kept(small):
    dogs = small.select(category="dog")
    means = small.means(dogs)
    assert means["classification_offset"] == pytest.approx((0.5 + 0.3 + 0.1) / 3)
    assert means["grid_on_salient"] is None  # nobody has marked a salient part
    regions = small.mean_regions(dogs)
    assert regions["classification"].offsets[0, 1].tolist() == pytest.approx([0.3, 0])
    assert regions["classification"].points[0, 1].tolist() == pytest.approx([0.75 + 0.3, 0.25])
    assert regions["localization"].translation.tolist() == pytest.approx([0.1, -0.2])
    assert regions["localization"].boxes.tolist() == pytest.approx([0.1, -0.2, 1.1, 0.8])
    nothing = small.select(level="empty")
    assert small.mean_regions(nothing) == {}
    assert set(small.means(nothing).values()) == {None}


def test_examples_go_from_small_to_large(small):
    everything = small.select()
    assert small.examples(everything, "classification_offset", 3).tolist() == [5, 3, 0]
    assert small.examples(everything, "classification_offset", 10).tolist() == [5, 4, 3, 2, 1, 0]
    assert len(small.examples(everything, "grid_on_salient", 3)) == 0


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(0, 600), low=st.floats(0, 60), narrower=st.floats(0, 30))
def test_a_sample_is_of_the_limit_and_narrowing_keeps_its_points(table, limit, low, narrower):
    wide, narrow = table.select(size=(low, 100)), table.select(size=(low + narrower, 100))
    sample = table.sample(wide, limit)
    assert len(sample) == min(limit, wide.sum()) and wide[sample].all() and (np.diff(sample) > 0).all()
    assert set(sample[narrow[sample]]) <= set(table.sample(narrow, limit))


def test_histograms_hold_every_value():
    values = np.array([0.0, 0.1, 0.1, math.nan, 0.4])
    edges = even_edges(values, bins=4)
    assert edges[0] == 0 and edges[-1] > 0.4
    assert shares(values, edges).tolist() == pytest.approx([0.75, 0, 0, 0.25])
    assert shares(np.array([math.nan]), edges).sum() == 0
    for odd in (np.array([]), np.array([math.nan]), np.array([3.0, 3.0])):
        assert (np.diff(even_edges(odd)) > 0).all()
    assert even_edges(np.array([-0.2, 0.1]))[0] < -0.2


def test_the_shipped_model_gives_the_numbers_of_the_analysis(model, dataset, table):
    """Level by level the same means and fields as `measure_displacement`."""
    found = measure_displacement(model, dataset, 12, progress=False)
    for level, expected in found.levels.items():
        chosen = table.select(level)
        assert chosen.sum() == expected.proposals
        for name, mean in table.means(chosen).items():
            assert mean == pytest.approx(expected.means[name].value, rel=1e-5, abs=1e-7)
        for task, region in table.mean_regions(chosen).items():
            np.testing.assert_allclose(region.offsets, expected.field_of(task), atol=1e-6)


def test_the_boxes_of_the_table_are_those_of_the_trace(model, dataset, table):
    rows = np.flatnonzero(table.images == 3)
    trace = tsdlab.trace(model, dataset[3][0], table.followed.proposals[rows])
    for task, region in trace.regions.items():
        np.testing.assert_allclose(table.followed.regions[task].boxes[rows], region.boxes, atol=0.01)
        np.testing.assert_allclose(table.followed.regions[task].points[rows], region.points, atol=0.01)


# Heads that move regions in another way than TSD


def other_head(model, find=None):
    """`model` with a Double-Head or, if `find` is given, an own head; its proposals are those of `model`."""
    other = build_detector(replace(model.config, head="double"))
    other.load_state_dict(model.state_dict(), strict=False)
    if find is not None:
        other.roi_heads.head = OwnHead(other.config, find)
    return other.eval()


@pytest.mark.parametrize(
    ("find", "deformed", "axes"),
    [
        (None, {"localization": False}, ("localization_offset", "centre_distance")),
        (surroundings, {"classification": False}, ("classification_offset", "centre_distance")),
        (
            both_deformed,
            {"classification": True, "localization": True},
            ("classification_offset", "localization_offset"),
        ),
    ],
    ids=["double", "surroundings", "both"],
)
def test_every_head_that_moves_a_region_has_a_view(model, dataset, find, deformed, axes):
    other = other_head(model, find)
    view = tsdlab.explore_levels(other, dataset, images=3, explorer=Explorer(), selected=0)
    assert (view.x, view.y) == axes and "x=" not in view.python
    json.dumps([view._fixed, view._shown, view._opened], allow_nan=False)
    roles = {column["role"] for column in view._fixed["columns"]}
    assert roles == {"proposal", *deformed}, "only columns that have values are offered"
    assert view._shown["drawable"] == view._shown["count"] == len(view.table) > 20
    trace = tsdlab.trace(other, dataset[0][0])
    for told in (view._fixed["regions"], view._shown["regions"], view._opened["regions"]):
        assert told.keys() == deformed.keys() == trace.regions.keys()
    for task, is_deformed in deformed.items():
        assert (view._shown["regions"][task]["offsets"] is not None) == is_deformed
        assert (view._opened["regions"][task]["points"] is not None) == is_deformed
        lengths = view.table.column(f"{task}_offset")[view.table.images == 0]
        assert set(lengths.round(3)) <= set(trace.regions[task].moved.double().numpy().round(3))
        mean = view._shown["x" if view.x.startswith(task) else "y"]["levels"][0]["mean"]
        assert mean == pytest.approx(100 * view.table.column(f"{task}_offset")[view.table.select("0")].mean(), abs=1e-3)
    assert base64.b64decode(view._repr_mimebundle_()[0]["image/png"]).startswith(b"\x89PNG")


def test_the_mean_region_of_double_head_is_p_enlarged(model, dataset):
    view = tsdlab.explore_levels(other_head(model), dataset, images=1, explorer=Explorer())
    region = view._shown["regions"]["localization"]
    assert region["box"] == pytest.approx([-0.15, -0.15, 1.15, 1.15], abs=1e-3)
    assert region["translation"] == pytest.approx([0, 0], abs=1e-2)


# The view -----------------------------------------------------------------------------------------------------------


def test_traits_filter_and_everything_follows(view, table):
    view.level, view.category, view.size = "0", "star", (20, 40)
    chosen = table.select("0", "star", (20, 40))
    assert 0 < chosen.sum() < len(table)
    shown = view._shown
    assert shown["count"] == chosen.sum() and view.means == table.means(chosen)
    for name, mean in view.means.items():
        assert shown["means"][name] == pytest.approx(COLUMNS[name].scale * mean, abs=1e-4)
    assert {point[0] for point in shown["points"]} == set(np.flatnonzero(chosen))
    assert not {point[0] for point in shown["others"]} & set(np.flatnonzero(chosen))
    assert all(chosen[example["row"]] for example in shown["examples"]) and len(shown["examples"]) == 6
    regions = table.mean_regions(chosen)
    np.testing.assert_allclose(
        shown["regions"]["classification"]["offsets"], regions["classification"].offsets, atol=1e-4
    )
    assert shown["regions"]["localization"]["offsets"] is None
    np.testing.assert_allclose(shown["regions"]["localization"]["box"], regions["localization"].boxes, atol=1e-4)
    # Counts beside a filter's choices say what choosing them would give.
    assert shown["levels"] == [table.select(name, "star", (20, 40)).sum() for name in ("all", *table.levels)]
    assert shown["categories"][0] == table.select("0", size=(20, 40)).sum()
    assert sum(shown["sizes"]["chosen"]) == table.select("0", "star").sum()
    # Every level keeps its row, with the other filters.
    assert [row["count"] for row in shown["x"]["levels"]] == shown["levels"][1:]


def test_columns_choose_axes_distributions_and_examples(view, table):
    view.x, view.y = "centre_distance", "towards_salient"
    row, x, y, *_ = view._shown["points"][7]
    assert x == pytest.approx(100 * table.column("centre_distance")[row], abs=1e-4)
    assert y == pytest.approx(100 * table.column("towards_salient")[row], abs=1e-4)
    values = [example["values"]["centre_distance"] for example in view._shown["examples"]]
    assert values == sorted(values)
    assert values[0] == pytest.approx(100 * table.column("centre_distance").min(), abs=1e-4)
    for axis, name in (("x", "centre_distance"), ("y", "towards_salient")):
        low, high = view._shown[axis]["edges"]
        assert low <= 100 * table.column(name).min() and 100 * table.column(name).max() <= high
        assert view._shown[axis]["levels"][0]["mean"] == pytest.approx(
            100 * table.column(name)[table.select("0")].mean(), abs=1e-3
        )
        assert sum(view._shown[axis]["levels"][0]["chosen"]) == pytest.approx(1, abs=1e-2)


def test_never_more_points_than_the_limit(view, monkeypatch):
    monkeypatch.setattr(messages, "POINTS", 50)
    view.category = "ring"
    view.category = "all"
    assert len(view._shown["points"]) == 50 and view._shown["drawable"] == len(view.table)


def test_a_selection_of_nothing_is_no_error(view):
    view.size = (500, 600)
    shown = view._shown
    assert shown["count"] == 0 and shown["points"] == shown["examples"] == [] and shown["regions"] == {}
    assert "no proposal here" in view.picture().get_suptitle()


def test_selecting_opens_the_proposal_in_the_explorer(view, table):
    view.selected = 42
    assert view.explorer.image_index == table.images[42]
    assert view.explorer.proposal == pytest.approx(table.followed.proposals[42].tolist())
    assert view._opened["row"] == 42 and view._opened["category"] == table.categories[table.followed.labels[42] - 1]
    view.selected = None
    assert view._opened == {} and view.explorer.image_index == table.images[42]


def test_without_an_explorer_one_is_made_when_it_is_needed(model, dataset, monkeypatch):
    made = []

    def explore(*what):
        made.append((what, explorer := Explorer()))
        return explorer

    monkeypatch.setitem(sys.modules, "tsdlab.widgets.explorer.widget", types.SimpleNamespace(explore=explore))
    view = tsdlab.explore_levels(model, dataset, images=2)
    assert made == [] and view._explorer_id == ""
    view.selected = 0
    view.selected = 1
    ((what, explorer),) = made
    assert what == (model, dataset) and view.explorer is explorer and view._explorer_id == "an id"
    assert explorer.proposal == pytest.approx(view.table.followed.proposals[1].tolist())


def test_a_crop_shows_what_is_drawn_over_it(view, dataset):
    for row in (0, 99, 200):
        view.selected = row
        crop = view._opened
        x, y, side = crop["view"]
        moved = crop["regions"]
        corners = np.array([crop["proposal"], crop["truth"], moved["localization"]["box"]]).reshape(-1, 2)
        assert moved["localization"]["points"] is None
        places = np.concatenate([corners, moved["classification"]["points"]])
        assert (places >= (x, y)).all() and (places <= (x + side, y + side)).all()
        left, top, width, height = crop["part"]
        image = dataset[crop["image"]][0]
        assert 0 <= left < left + width <= image.shape[2] and 0 <= top < top + height <= image.shape[1]
        assert base64.b64decode(crop["url"].split(",")[1]).startswith(b"\x89PNG")


def test_state_can_be_given_and_is_written_down(table, dataset):
    state = {"level": "1", "size": (25.0, 60.0), "x": "centre_distance", "selected": 3}
    view = LevelsView(table, dataset, Explorer(), images=12, **state)
    assert {name: getattr(view, name) for name in state} == state and view.explorer.image_index == table.images[3]
    call = "level='1', size=(25.0, 60.0), x='centre_distance', selected=3)"
    assert view.python == view._python == f"tsdlab.explore_levels(model, dataset, images=12, {call}"
    view.set_trait("level", "all")
    assert "level=" not in view._python


def test_an_open_end_of_the_size_is_as_far_as_proposals_go(view, table):
    view.size = (40, math.inf)
    assert view.size[0] == 40 and view.size[1] >= table.sizes.max()
    assert (view.chosen == (table.sizes >= 40)).all()


def test_the_page_gets_json_and_python_takes_the_page_s_lists(small, view):
    json.dumps([view._fixed, view._shown, view._opened, view.size], allow_nan=False)
    view._receive(view, {"serial": 1, "set": {"size": [30, 50], "selected": 5}}, [])
    assert view._request == {"done": 1, "refused": None}
    assert view.size == (30, 50) and view.selected == 5
    json.dumps([view._shown, view._opened], allow_nan=False)
    # Without salient parts their columns are not offered, and NaN is not sent.
    boxes = {"boxes": [[0, 0, 30, 30]], "labels": [1]}
    plain = LevelsView(small, [(torch.rand(3, 80, 80), boxes)] * 3, Explorer(), selected=2)
    json.dumps([plain._fixed, plain._shown, plain._opened], allow_nan=False)
    assert [column["name"] for column in plain._fixed["columns"]] == ["classification_offset"]
    assert plain._shown["points"] == [] and plain._shown["count"] == 6  # its y has no value


def test_a_static_page_shows_a_picture(view):
    data, _ = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("level", "9", "no level '9'; there are all, 0, 1, 2"),
        ("level", 1, "no level 1"),
        ("category", "dragon", "no category 'dragon'; there are all, star, ring"),
        ("x", "offset", "no column 'offset'; there are classification_offset"),
        ("y", None, "no column None"),
        ("size", (5, 3), "smallest, largest"),
        ("size", 7, "two numbers of pixels, got 7"),
        ("size", (1, 2, 3), "two numbers"),
        ("size", (math.nan, 3), "smallest, largest"),
        ("selected", 10**6, "selected must be None or a whole number in 0…499"),
        ("selected", True, "got True"),
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(view, trait, value, message):
    before, shown = getattr(view, trait), view._shown
    with pytest.raises(ValueError, match=message):
        setattr(view, trait, value)
    assert getattr(view, trait) == before and view._shown is shown


def test_what_cannot_be_shown_is_said(model, dataset, table, tiny_config):
    with pytest.raises(ValueError, match="'d_head' has no displacement to follow"):
        tsdlab.explore_levels(build_detector(replace(tiny_config, head="d_head", num_classes=6)), dataset, images=1)
    with pytest.raises(ValueError, match="no proposal overlaps an object in the first 1 images"):
        nothing = [(torch.rand(3, 64, 64), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)})]
        follow_dataset(model, nothing, images=3)
    with pytest.raises(ValueError, match="no proposal overlaps an object"):
        tsdlab.explore_levels(model, nothing)
    with pytest.raises(ValueError, match=r"dataset must be a data set .* got int"):
        tsdlab.explore_levels(model, 3)
    with pytest.raises(ValueError, match=r"does not know|has 2 classes without names"):
        tsdlab.explore_levels(build_detector(replace(tiny_config, num_classes=2)), dataset)
    for images in (0, 1.5, "2", True):
        with pytest.raises(InputError, match=f"images must be a whole number from 1 to .* got {images!r}"):
            tsdlab.explore_levels(model, dataset, images=images)
    with pytest.raises(
        ValueError, match="LevelsView has no 'zoom'; what can be set is level, category, size, x, y, selected"
    ):
        LevelsView(table, dataset, zoom=2)


def test_tsdlab_names_it():
    assert tsdlab.explore_levels is levels.explore_levels and "explore_levels" in tsdlab.__all__
    with pytest.raises(AttributeError, match="no attribute 'explore_nothing'"):
        _ = tsdlab.explore_nothing
