"""TSD's own geometry: what zero offsets mean, where regions go, and what teaches the offsets."""

from dataclasses import replace

import pytest
import torch

from tsdlab.models.heads.tsd import TSDHead, translate
from tsdlab.ops import MultiScaleDeformRoIAlign
from tsdlab.ops.sampling import bin_centres
from tsdlab.presets import PRESETS
from tsdlab.structures import Samples

CONFIG = replace(PRESETS["badges-tiny"], head="tsd")
ROIS = torch.tensor([[0, 10.0, 12.0, 60.0, 50.0], [1, 30.0, 20.0, 120.0, 126.0]])


@pytest.fixture
def pool():
    torch.manual_seed(0)
    pyramid = [torch.randn(2, 64, 128 // s, 128 // s) for s in (4, 8, 16)]
    return MultiScaleDeformRoIAlign((4, 8, 16), canonical_size=112)(pyramid)


def test_a_new_head_looks_where_the_sibling_looks(pool):
    """Offsets start at zero: both of TSD's regions give the sibling's features."""
    head = TSDHead(CONFIG)
    plain = pool(ROIS)
    assert not any(offsets.any() for offsets in head.offsets(plain))
    output = head(pool, ROIS)
    for boxes in (output.boxes, *(region.boxes for region in output.regions.values())):
        assert torch.equal(boxes, ROIS[:, 1:])
    torch.testing.assert_close(pool(ROIS, offsets=output.regions["classification"].offsets), plain)


def test_translation_is_a_fraction_of_the_size_and_keeps_it():
    moved = translate(ROIS, torch.tensor([[0.1, -0.5], [0.0, 0.25]]))
    expected = torch.tensor([[0, 15.0, -7.0, 65.0, 31.0], [1, 30.0, 46.5, 120.0, 152.5]])
    torch.testing.assert_close(moved, expected)


def test_offsets_scale_with_gamma(pool):
    head = TSDHead(CONFIG)
    for net in (head.classification_offset, head.localization_offset):
        torch.nn.init.normal_(net[-1].weight)
    small = head.offsets(pool(ROIS))
    head.config = replace(CONFIG.tsd, gamma=1.0)
    for a, b in zip(small, head.offsets(pool(ROIS))):
        assert a.any()
        torch.testing.assert_close(10 * a, b)


def test_derived_regions_stay_on_the_proposals_level(pool):
    """A region moved far away is still pooled from the level of P; only the size decides, and ΔR keeps the size."""
    head = TSDHead(CONFIG)
    torch.nn.init.constant_(head.localization_offset[-1].bias, 2.0)
    output = head(pool, ROIS)
    # On the boundary between two levels a rounding error in the moved box would change the level.
    asked = []
    recording = lambda rois, levels=None, offsets=None: asked.append(levels) or pool(rois, levels, offsets)  # noqa: E731
    recording.assign_levels = pool.assign_levels
    head(recording, ROIS)
    assert len(asked) == 3 and all(torch.equal(levels, pool.assign_levels(ROIS)) for levels in asked)

    _, offset = head.offsets(pool(ROIS))
    assert offset.abs().max() > 0.1
    expected = translate(ROIS, offset)
    answer = head.localization(pool(expected, pool.assign_levels(ROIS))).unflatten(1, (-1, 4))
    torch.testing.assert_close(output.deltas, answer)
    torch.testing.assert_close(output.boxes, expected[:, 1:])
    torch.testing.assert_close(output.regions["localization"].boxes, expected[:, 1:])


@pytest.mark.parametrize("boxes_teach_offset", [True, False])
def test_what_teaches_the_localization_offset(pool, boxes_teach_offset):
    """With the branch's weights at zero no gradient comes through the features: what is left comes from the boxes."""
    head = TSDHead(replace(CONFIG, tsd=replace(CONFIG.tsd, boxes_teach_offset=boxes_teach_offset)))
    torch.nn.init.zeros_(head.localization.out.weight)
    output = head(pool, ROIS, all_branches=True)
    truth = ROIS[:, 1:] + torch.tensor([4.0, -3.0, 4.0, -3.0])
    losses = head.losses(pool, output, Samples(ROIS, torch.tensor([1, 2]), truth))
    (losses["loss_box_reg"] + losses["loss_margin_box_reg"]).backward()
    assert head.localization_offset[-1].bias.grad.any().item() is boxes_teach_offset


def test_without_the_constraint_its_losses_are_zero(pool):
    head = TSDHead(replace(CONFIG, tsd=replace(CONFIG.tsd, progressive_constraint=False)))
    losses = head.losses(pool, head(pool, ROIS, all_branches=True), Samples(ROIS, torch.tensor([1, 0]), ROIS[:, 1:]))
    assert losses["loss_margin_classifier"] == 0 and losses["loss_margin_box_reg"] == 0


def test_inference_runs_without_the_sibling(pool):
    head = TSDHead(CONFIG)
    assert head(pool, ROIS).sibling is None and head(pool, ROIS).extra_branches() == {}
    everything = head(pool, ROIS, all_branches=True)
    assert everything.extra_branches() == {"sibling": everything.sibling}
    torch.testing.assert_close(everything.sibling.logits, head.sibling(pool, ROIS).logits)


def test_training_without_the_siblings_prediction_says_what_to_do(pool):
    head = TSDHead(CONFIG)
    with pytest.raises(ValueError, match="all_branches=True"):
        head.losses(pool, head(pool, ROIS), Samples(ROIS, torch.tensor([1, 0]), ROIS[:, 1:]))


def test_bin_centres_are_the_grid_and_follow_the_offsets():
    box = torch.tensor([[10.0, 20.0, 80.0, 34.0]])
    grid = bin_centres(box)
    torch.testing.assert_close(grid[0, 0, 0], torch.tensor([15.0, 21.0]))
    torch.testing.assert_close(grid[0, 6, 6], torch.tensor([75.0, 33.0]))
    offsets = torch.zeros(1, 7, 7, 2)
    offsets[0, 2, 3] = torch.tensor([0.1, -0.5])
    torch.testing.assert_close(bin_centres(box, offsets)[0, 2, 3], grid[0, 2, 3] + torch.tensor([7.0, -7.0]))


# The paper's ablations

VARIANTS = [
    {},
    {"progressive_constraint": False},
    {"classification_margin": None},
    {"localization_margin": None},
    {"constraint_teaches_sibling": True},
    {"offsets_teach_features": False},
    {"boxes_teach_offset": False},
    {"share_first_layer": False},
    {"classification_region": "proposal"},
    {"localization_region": "bins"},
    {"joint_sibling": False, "progressive_constraint": False},
]


def variant(fields, displaced=False):
    torch.manual_seed(0)
    head = TSDHead(replace(CONFIG, tsd=replace(CONFIG.tsd, **fields)))
    if displaced:
        for net in (head.classification_offset, head.localization_offset):
            torch.nn.init.normal_(net[-1].weight)
    return head


@pytest.mark.parametrize("labels", [[1, 2], [0, 0]])
@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_every_variant_trains_every_parameter(pool, fields, labels):
    head = variant(fields)
    losses = head.losses(pool, head(pool, ROIS, all_branches=True), Samples(ROIS, torch.tensor(labels), ROIS[:, 1:]))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    siblings = {"loss_sibling_classifier", "loss_sibling_box_reg", "loss_margin_classifier", "loss_margin_box_reg"}
    assert set(losses) == {"loss_classifier", "loss_box_reg"} | (siblings if head.config.joint_sibling else set())


def test_a_margin_of_none_leaves_its_loss_out(pool):
    samples = Samples(ROIS, torch.tensor([1, 2]), ROIS[:, 1:] + 3)
    losses = {}
    for name in ("classification_margin", "localization_margin"):
        head = variant({name: None})
        losses[name] = head.losses(pool, head(pool, ROIS, all_branches=True), samples)
    assert losses["classification_margin"]["loss_margin_classifier"] == 0
    assert losses["classification_margin"]["loss_margin_box_reg"] > 0
    assert losses["localization_margin"]["loss_margin_classifier"] > 0
    assert losses["localization_margin"]["loss_margin_box_reg"] == 0


def test_one_displacement_for_classification_translates_the_proposal(pool):
    output = (head := variant({"classification_region": "proposal"}, displaced=True))(pool, ROIS)
    offsets = output.regions["classification"].offsets
    assert offsets.any() and offsets.shape == (2, 7, 7, 2)
    assert torch.equal(offsets, offsets[:, :1, :1].expand_as(offsets))
    moved = pool(translate(ROIS, offsets[:, 0, 0]), pool.assign_levels(ROIS))
    torch.testing.assert_close(output.logits, head.classification(moved))


def test_localization_by_bins_answers_relative_to_the_proposal(pool):
    head = variant({"localization_region": "bins"}, displaced=True)
    output = head(pool, ROIS)
    region = output.regions["localization"]
    assert region.offsets.any() and region.offsets.shape == (2, 7, 7, 2)
    assert torch.equal(output.boxes, ROIS[:, 1:]) and torch.equal(region.boxes, ROIS[:, 1:])
    answer = head.localization(pool(ROIS, offsets=region.offsets)).unflatten(1, (-1, 4))
    torch.testing.assert_close(output.deltas, answer)


def test_separate_first_layers_answer_by_themselves(pool):
    head = variant({"share_first_layer": False}, displaced=True)
    before = head.offsets(pool(ROIS))
    torch.nn.init.zeros_(head.localization_trunk.weight)
    after = head.offsets(pool(ROIS))
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


@pytest.mark.parametrize("teach", [True, False])
def test_whether_the_offset_nets_shape_the_features(teach):
    torch.manual_seed(0)
    maps = [torch.randn(2, 64, 128 // s, 128 // s, requires_grad=True) for s in (4, 8, 16)]
    head = variant({"offsets_teach_features": teach}, displaced=True)
    sum(o.sum() for o in head.offsets(MultiScaleDeformRoIAlign((4, 8, 16), canonical_size=112)(maps)(ROIS))).backward()
    assert any(m.grad is not None and m.grad.any() for m in maps) is teach


def test_the_constraint_without_a_sibling_is_refused():
    with pytest.raises(ValueError, match=r"turn on tsd\.joint_sibling, or turn off tsd\.progressive_constraint"):
        variant({"joint_sibling": False})
