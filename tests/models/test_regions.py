"""A region is where a head really pools a task from: what it says is compared with what its pooler was asked for."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_heads import OwnHead, both_deformed, surroundings
from torch import nn

from tsdlab.config import HEADS
from tsdlab.errors import InputError
from tsdlab.models.build import build_detector
from tsdlab.models.heads.tsd import translate
from tsdlab.models.probe import Probe
from tsdlab.presets import PRESETS
from tsdlab.structures import TASKS, Region

TINY = PRESETS["badges-tiny"]
IMAGE = torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(0))  # resized on its way in
BOXES = torch.tensor([[10.0, 20.0, 50.0, 60.0], [70.0, 30.0, 90.0, 40.0], [0.0, 5.0, 120.0, 90.0]])
FLAT = torch.tensor([[5.0, 5.0, 5.0, 40.0], [5.0, 5.0, 40.0, 5.0], [7.3, 7.1, 7.3, 7.1]])  # without an area


class Recording(nn.Module):
    """A head whose calls of the pooler are kept. Pooled features are leaves, so that gradients tell who reads them."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, pool, rois, all_branches=False):
        self.calls = []

        def recording(rois, levels=None, offsets=None):
            self.calls.append((rois[:, 1:], offsets, pool(rois, levels, offsets).detach().requires_grad_()))
            return self.calls[-1][2]

        recording.assign_levels = pool.assign_levels
        self.output = self.head(recording, rois, all_branches)
        return self.output

    def pooled_by(self, task):
        """The boxes and offsets of the pooling that a task of the branch in use is read from; it must be one."""
        predicted = self.output.logits if task == "classification" else self.output.deltas
        gradients = torch.autograd.grad(
            predicted.sum(), [features for *_, features in self.calls], retain_graph=True, allow_unused=True
        )
        ((boxes, offsets, _),) = [call for call, gradient in zip(self.calls, gradients) if gradient is not None]
        return boxes.detach(), offsets if offsets is None else offsets.detach()


def tsd(**fields):
    return replace(TINY, head="tsd", tsd=replace(TINY.tsd, **fields))


def double(**fields):
    return replace(TINY, head="double", double=replace(TINY.double, **fields))


# By name: the configuration, what finds the regions of an own head, and which tasks have a region.
CASES = {
    **{head: (replace(TINY, head=head), None, ()) for head in HEADS},
    "tsd": (tsd(), None, TASKS),
    "tsd, box by bins": (tsd(localization_region="bins"), None, TASKS),
    "tsd, class by proposal": (tsd(classification_region="proposal"), None, TASKS),
    "double": (double(), None, ("localization",)),
    "double, twice": (double(box_scale=2.0), None, ("localization",)),
    "double, extended": (double(extended=True), None, ("localization",)),
    "own, surroundings": (TINY, surroundings, ("classification",)),
    "own, both": (TINY, both_deformed, TASKS),
    "own, none": (TINY, lambda rois: {}, ()),
}


def make_model(config, find=None):
    torch.manual_seed(0)
    model = build_detector(config)
    if find is not None:
        model.roi_heads.head = OwnHead(config, find)
    for name, parameter in model.named_parameters():
        if "offset" in name:
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
def test_each_task_is_pooled_from_its_region(name):
    config, find, tasks = CASES[name]
    model = make_model(config, find)
    head = model.roi_heads.head = Recording(model.roi_heads.head)
    found = Probe(model, IMAGE).answer(BOXES)
    assert set(found.regions) == set(tasks)
    zoom = torch.tensor([160, 96]) / torch.tensor(Probe(model, IMAGE).seen_size[::-1])  # (x, y)
    for task in TASKS:
        boxes, offsets = head.pooled_by(task)
        if task not in tasks:
            torch.testing.assert_close(boxes * zoom.repeat(2), BOXES)
            assert offsets is None
            continue
        region = found.regions[task]
        assert region.deformed == (offsets is not None)
        torch.testing.assert_close(region.boxes, boxes * zoom.repeat(2))
        for k in range(len(BOXES)):
            x1, y1, x2, y2 = (boxes[k] * zoom.repeat(2)).tolist()
            left, top, right, bottom = BOXES[k].tolist()
            lengths = []
            for i in range(7):
                for j in range(7):
                    dx, dy = (0.0, 0.0) if offsets is None else offsets[k, i, j].tolist()
                    x = x1 + (x2 - x1) * ((j + 0.5) / 7 + dx)
                    y = y1 + (y2 - y1) * ((i + 0.5) / 7 + dy)
                    assert region.points[k, i, j].tolist() == pytest.approx([x, y], abs=1e-3)
                    across = (x - left) / (right - left) - (j + 0.5) / 7
                    down = (y - top) / (bottom - top) - (i + 0.5) / 7
                    assert region.offsets[k, i, j].tolist() == pytest.approx([across, down], abs=1e-4)
                    lengths.append(math.hypot(across, down))
            assert region.moved[k].item() == pytest.approx(sum(lengths) / 49, abs=1e-4) != 0


def test_moved_of_an_enlarged_region_by_hand():
    """Of 49 bins at −3/7…3/7 around the centre, the mean distance from it is 0.37893 of P; 30% is added."""
    found = Probe(make_model(double(box_scale=1.3)), IMAGE).ask(BOXES).regions["localization"]
    assert found.moved.tolist() == pytest.approx([0.3 * 0.37893] * 3, abs=1e-4)
    torch.testing.assert_close(found.boxes[0], torch.tensor([4.0, 14.0, 56.0, 66.0]))
    assert found.translation.abs().max() < 1e-5


@pytest.fixture(scope="module")
def movable():
    """A probe of a head that moves P by the `move` it has, for the box."""
    model = make_model(TINY, lambda rois: {"localization": Region(translate(rois, model.move)[:, 1:])})
    return model, Probe(model, IMAGE)


coordinates = st.floats(-20, 150, width=32)
boxes = st.tuples(coordinates, coordinates, st.floats(4, 100, width=32), st.floats(4, 100, width=32))
moves = st.tuples(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(boxes, moves), min_size=1, max_size=4))
def test_of_a_translation_moved_is_its_length(movable, pairs):
    model, probe = movable
    box, model.move = (torch.tensor(list(values)) for values in zip(*pairs))
    proposals = torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)
    found = probe.ask(proposals).regions["localization"]
    torch.testing.assert_close(found.moved, model.move.norm(dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.translation, model.move, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.boxes, proposals + (model.move * box[:, 2:]).repeat(1, 2), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, (_, _, tasks) in CASES.items() if tasks])
def test_a_proposal_without_an_area_has_finite_regions(name):
    """Along a side of no length nothing is moved."""
    config, find, _ = CASES[name]
    found = Probe(make_model(config, find), IMAGE).ask(FLAT)
    for region in found.regions.values():
        assert all(of.isfinite().all() for of in (region.boxes, region.points, region.offsets))
        assert not region.offsets[0, ..., 0].any() and not region.offsets[1, ..., 1].any()
        assert not region.moved[2]


def test_a_region_of_an_unknown_task_is_named():
    model = make_model(TINY, lambda rois: {"mask": Region(rois[:, 1:])})
    with pytest.raises(InputError, match="has a region of 'mask'; tasks are classification, localization"):
        Probe(model, IMAGE).ask(BOXES)
