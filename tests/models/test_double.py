"""Double-Head's own geometry, losses and score fusion; Double-Head-Ext beside it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tsdlab.models.boxes import decode
from tsdlab.models.build import build_detector
from tsdlab.models.heads.double import DoubleExtOutput, DoubleHead, WideningBlock, enlarge, fuse_scores
from tsdlab.models.heads.sibling import SiblingHead
from tsdlab.models.probe import trace
from tsdlab.ops import MultiScaleDeformRoIAlign
from tsdlab.presets import PRESETS
from tsdlab.structures import HeadOutput, Samples

TINY = PRESETS["badges-tiny"]
CONFIG = replace(TINY, head="double", roi=replace(TINY.roi, hidden=64), double=replace(TINY.double, bottlenecks=1))
EXTENDED = replace(CONFIG, double=replace(CONFIG.double, extended=True))
BOTH = pytest.mark.parametrize("config", [CONFIG, EXTENDED], ids=["double", "extended"])
# √(50 · 50) belongs to stride 4 (finer than 112 / 2 = 56), enlarged by 1.3 it would be 65 and belong to stride 8.
ROIS = torch.tensor([[0, 10.0, 20.0, 60.0, 70.0], [1, 30.0, 20.0, 120.0, 126.0]])
SAMPLES = Samples(ROIS, torch.tensor([2, 0]), ROIS[:, 1:] + torch.tensor([5.0, 0.0, 5.0, 0.0]))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def pool():
    pyramid = [torch.randn(2, 64, 128 // s, 128 // s) for s in (4, 8, 16)]
    return MultiScaleDeformRoIAlign((4, 8, 16), canonical_size=112)(pyramid)


def test_enlarging_keeps_the_centre():
    rois = torch.tensor([[3, 10.0, 20.0, 30.0, 60.0], [0, 0.0, 0.0, 10.0, 10.0]])
    expected = torch.tensor([[3, 7.0, 14.0, 33.0, 66.0], [0, -1.5, -1.5, 11.5, 11.5]])
    torch.testing.assert_close(enlarge(rois, 1.3), expected)


def test_regions_are_the_proposal_and_it_enlarged_both_on_its_level(pool):
    asked = []

    def recording(rois, levels=None, offsets=None):
        asked.append((rois, levels))
        return pool(rois, levels, offsets)

    recording.assign_levels = pool.assign_levels
    DoubleHead(CONFIG)(recording, ROIS)
    DoubleHead(replace(CONFIG, double=replace(CONFIG.double, box_scale=2.0)))(recording, ROIS)
    (fc_rois, fc_levels), (conv_rois, conv_levels), _, (twice, _) = asked
    assert torch.equal(twice[0], torch.tensor([0, -15.0, -5.0, 85.0, 95.0]))
    assert torch.equal(fc_rois, ROIS)
    expected = torch.tensor([[0, 2.5, 12.5, 67.5, 77.5], [1, 16.5, 4.1, 133.5, 141.9]])
    torch.testing.assert_close(conv_rois, expected)
    assert pool.assign_levels(conv_rois).tolist() == [1, 2]
    assert fc_levels.tolist() == conv_levels.tolist() == [0, 1]


@pytest.mark.parametrize(("channels", "groups"), [(64, 4), (16, 1), (24, 3), (8, 1)])
def test_convolutions_are_normalized_in_groups_of_sixteen_channels(channels, groups):
    """Or of as many as divide both: 24 channels have three groups of 8."""
    norms = [m for m in WideningBlock(channels, channels).modules() if isinstance(m, torch.nn.GroupNorm)]
    assert [norm.num_groups for norm in norms] == [groups] * 3


@BOTH
def test_deltas_are_relative_to_the_proposal(pool, config):
    """With the output's weights at zero its bias is the delta of every box: (1, 0, …) moves by a tenth of P's width."""
    head = DoubleHead(config)
    torch.nn.init.zeros_(head.localization.out.weight)
    with torch.no_grad():
        head.localization.out.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(7))
    output = head(pool, ROIS)
    assert output.deltas.shape == (2, 7, 4)
    moved = decode(output.deltas[:, 3], output.boxes)
    torch.testing.assert_close(moved, torch.tensor([[15.0, 20.0, 65.0, 70.0], [39.0, 20.0, 129.0, 126.0]]))


def test_each_branch_answers_its_task_from_its_region(pool):
    head = DoubleHead(CONFIG)
    output = head(pool, ROIS)
    torch.testing.assert_close(output.logits, head.classification(pool(ROIS)))
    conv_features = pool(enlarge(ROIS, 1.3), pool.assign_levels(ROIS))
    torch.testing.assert_close(output.deltas, head.localization(conv_features).unflatten(1, (-1, 4)))
    torch.testing.assert_close(output.scores(), output.logits.softmax(1))


def test_scores_are_fused_by_class():
    fc = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    conv = torch.tensor([[0.2, 0.6, 0.2], [0.4, 0.6, 0.0], [0.5, 0.5, 0.0]])
    # 0.3 + 0.6 · 0.7 = 0.72, 0.2 + 0.2 · 0.8 = 0.36; in front what both say of background
    expected = torch.tensor([[0.1, 0.72, 0.36], [0.4, 0.6, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(fuse_scores(fc, conv), expected)


def test_extended_scores_come_from_both_branches(pool):
    output = DoubleHead(EXTENDED)(pool, ROIS)
    fc, conv = output.logits.softmax(1), output.counterpart.logits.softmax(1)
    torch.testing.assert_close(output.scores(), fuse_scores(fc, conv))
    assert torch.equal(output.counterpart.boxes, output.boxes)


def hand_made_output(counterpart=None):
    """Cross-entropy of SAMPLES: (log 3 + log 2) / 2, smooth L1: (1 − 1/18) / 2, as the target's dx is 10 · 5 / 50."""
    logits = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]]).log()
    output = HeadOutput(logits, torch.zeros(2, 3, 4), ROIS[:, 1:])
    return output if counterpart is None else DoubleExtOutput(**vars(output), counterpart=counterpart)


CLASSIFICATION, LOCALIZATION = (1.0986123 + 0.6931472) / 2, (1 - 1 / 18) / 2


def test_losses_have_the_branches_weight(pool):
    losses = DoubleHead(CONFIG).losses(pool, hand_made_output(), SAMPLES)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        {"loss_classifier": 2 * CLASSIFICATION, "loss_box_reg": 2 * LOCALIZATION}
    )


def test_extended_losses_share_the_branches_weight(pool):
    # The counterpart is certain of the wrong class of the first RoI by e⁴ (the rest of it is below 1e-6), and its
    # delta of 2 for the right class misses the target of 1 by as much as none.
    counterpart = hand_made_output()
    counterpart.logits = torch.tensor([[0.0, 20.0, 16.0], [20.0, 0.0, 0.0]])
    counterpart.deltas[0, 2, 0] = 2.0
    losses = DoubleHead(EXTENDED).losses(pool, hand_made_output(counterpart), SAMPLES)
    wrong = 4.0181499 / 2  # log(1 + e⁴), over two RoIs
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(
        {
            "loss_classifier": 2 * 0.7 * CLASSIFICATION,
            "loss_counterpart_box_reg": 2 * 0.3 * LOCALIZATION,
            "loss_counterpart_classifier": 2 * 0.2 * wrong,
            "loss_box_reg": 2 * 0.8 * LOCALIZATION,
        },
        rel=1e-5,
    )


@BOTH
@pytest.mark.parametrize("count", [0, 1, 2])
def test_any_number_of_rois_trains_every_parameter(pool, config, count):
    head = DoubleHead(config).train()
    samples = Samples(ROIS[:count], SAMPLES.labels[:count], SAMPLES.matched_boxes[:count])
    output = head(pool, samples.rois, all_branches=True)
    losses = head.losses(pool, output, samples)
    assert len(losses) == (4 if config is EXTENDED else 2)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    if count == 2:
        assert [name for name, p in head.named_parameters() if not p.grad.any()] == []


def test_extension_adds_one_output_to_each_branch():
    def names(config):
        return {name for name, _ in DoubleHead(config).named_parameters()}

    added = {"fc_deltas.weight", "fc_deltas.bias", "conv_logits.weight", "conv_logits.bias"}
    assert names(EXTENDED) - names(CONFIG) == added and names(CONFIG) <= names(EXTENDED)


@BOTH
def test_a_roi_is_answered_alike_in_any_company_and_mode(pool, config):
    """Nothing is averaged over RoIs or kept between batches."""
    head = DoubleHead(config).train()
    assert list(head.buffers()) == []
    together = head(pool, ROIS)
    alone = head.eval()(pool, ROIS[1:])
    torch.testing.assert_close(together.deltas[1:], alone.deltas)
    torch.testing.assert_close(together.scores()[1:], alone.scores())


def test_a_trace_has_the_fused_scores():
    model = build_detector(replace(EXTENDED, roi=replace(EXTENDED.roi, score_thresh=0.0)))
    found = trace(model, torch.rand(3, 128, 128))
    softmax = F.softmax(found.detection.logits, dim=1)
    assert (found.detection.scores[:, 1:] > softmax[:, 1:]).all()
    best = found.detections["scores"][0]
    torch.testing.assert_close(best, found.detection.scores[:, 1:].max(), rtol=1e-4, atol=1e-5)


@BOTH
def test_the_fc_branch_may_begin_as_torchvisions_second_stage(pool, config):
    sibling, head = SiblingHead(config), DoubleHead(config)
    for module, places in head.torchvision_modules.items():
        for place in places:
            head.get_submodule(place).load_state_dict(sibling.get_submodule(module).state_dict())
    torch.testing.assert_close(head(pool, ROIS).logits, sibling(pool, ROIS).logits)


def test_widths_that_bottlenecks_cannot_have_are_refused():
    with pytest.raises(ValueError, match=r"roi\.hidden must be a multiple of 4 for this head, got 66"):
        DoubleHead(replace(CONFIG, roi=replace(CONFIG.roi, hidden=66)))
