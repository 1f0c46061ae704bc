"""What every head costs against torchvision's Faster R-CNN, in one run: parameters, time and memory.

    python benchmarks/heads.py [--rounds 5] [--only r50 badges] [--device cpu]

The peer is `torchvision.models.detection.FasterRCNN` with the same backbone, inputs, proposals and sampling, and the
same weights in all that the two share. It runs twice: as it comes, and in channels-last memory, which alone makes its
convolutions faster on a CPU; ratios are against the latter. A ratio below 1 is faster than torchvision. Memory is the
peak of one training step, or one inference, above what the model holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from measure import against, peak_megabytes, print_table, side_by_side
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from tsdlab.config import HEADS, Config
from tsdlab.memory import keep_freed_memory
from tsdlab.models.backbones import build_backbone
from tsdlab.models.build import build_detector
from tsdlab.models.torchvision_weights import load_torchvision
from tsdlab.presets import PRESETS
from tsdlab.provenance import provenance, write_results

PEER = "torchvision, channels-last"
SETTINGS: dict[str, tuple[Config, tuple[int, int], int]] = {  # preset, (height, width), images per step
    "r50": (PRESETS["coco-r50-1x"], (800, 1088), 1),
    "badges": (PRESETS["badges-tiny"], (128, 128), 8),
}


def torchvision_detector(config: Config) -> FasterRCNN:
    """torchvision's Faster R-CNN of the same shape; its random classifier is sharpened so that it detects things."""
    rpn, roi = config.rpn, config.roi
    anchors = AnchorGenerator(tuple((size,) for size in rpn.anchor_sizes), (rpn.aspect_ratios,) * len(rpn.anchor_sizes))
    levels = [str(i) for i in range(len(config.backbone.stages))]
    model = FasterRCNN(
        build_backbone(config.backbone),
        min_size=config.image.min_size,
        max_size=config.image.max_size,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=rpn.pre_nms_train,
        rpn_pre_nms_top_n_test=rpn.pre_nms_test,
        rpn_post_nms_top_n_train=rpn.post_nms_train,
        rpn_post_nms_top_n_test=rpn.post_nms_test,
        rpn_batch_size_per_image=rpn.samples_per_image,
        box_roi_pool=MultiScaleRoIAlign(
            levels, roi.output_size, roi.sampling_ratio, canonical_scale=roi.canonical_size
        ),
        box_head=TwoMLPHead(config.backbone.fpn_channels * roi.output_size**2, roi.hidden),
        box_predictor=FastRCNNPredictor(roi.hidden, 1 + config.num_classes),
        box_batch_size_per_image=roi.samples_per_image,
    )
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.5)
    return model


def make_contestants(config: Config) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    plain = torchvision_detector(config)
    models: dict[str, nn.Module] = {"torchvision, as it comes": plain}
    models[PEER] = torchvision_detector(config)
    models[PEER].load_state_dict(plain.state_dict())
    models[PEER].to(memory_format=torch.channels_last)
    for head in HEADS:
        model = build_detector(replace(config, head=head))
        load_torchvision(model, plain.state_dict())
        models[f"tsdlab {head}"] = model
    return models


def train_step(model: nn.Module, images: list, targets: list) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        torch.manual_seed(0)  # the same samples for all
        model.train()
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()

    return step


def inference(model: nn.Module, images: list, score_thresh: float) -> Callable[[], None]:
    def run() -> None:
        model.eval()
        heads = model.roi_heads
        if isinstance(model, FasterRCNN):
            heads.score_thresh = score_thresh
        else:
            heads.config = replace(heads.config, score_thresh=score_thresh)
        with torch.inference_mode():
            model(images)

    return run


def measure(name: str, rounds: int, device: str) -> dict:
    config, (height, width), batch = SETTINGS[name]
    torch.manual_seed(1)
    images = [torch.rand(3, height, width).to(device) for _ in range(batch)]
    corners = torch.rand(8, 2) * torch.tensor([width * 0.7, height * 0.7])
    sizes = (0.1 + 0.2 * torch.rand(8, 2)) * torch.tensor([width, height])
    target = {
        "boxes": torch.cat([corners, corners + sizes], 1),
        "labels": torch.randint(1, 1 + config.num_classes, (8,)),
    }
    target = {key: value.to(device) for key, value in target.items()}
    models = {model_name: model.to(device) for model_name, model in make_contestants(config).items()}
    results: dict = {"image": [height, width], "batch": batch, "rounds": rounds}
    results["parameters"] = {k: sum(p.numel() for p in m.parameters()) for k, m in models.items()}
    steps = {k: train_step(m, images, [target] * batch) for k, m in models.items()}
    results["train"] = against(side_by_side(steps, rounds, device), PEER)
    print_table(f"{name}: training step", results["train"])
    inferences = {k: inference(m, images, 0.05) for k, m in models.items()}
    results["peak_MB"] = {
        kind: {k: peak_megabytes(run, device) for k, run in runs.items()}
        for kind, runs in {"train": steps, "inference": inferences}.items()
    }
    print(f"\npeak memory, MB: {results['peak_MB']}")
    by_threshold = {}
    for model_name, model in models.items():
        for threshold in (0.05, 0.0):
            by_threshold[f"{model_name} @ {threshold}"] = inference(model, images, threshold)
    seconds = side_by_side(by_threshold, rounds, device)
    results["inference"] = against(seconds, f"{PEER} @ 0.05")
    print_table(f"{name}: inference", results["inference"])
    # What a score threshold of 0 costs a model, against its own inference at 0.05.
    results["threshold_0"] = {
        model_name: against(seconds, f"{model_name} @ 0.05")[f"{model_name} @ 0.0"]["ratio"] for model_name in models
    }
    print("\nthreshold 0 against the model's own 0.05:", results["threshold_0"])
    return results


def main() -> None:
    keep_freed_memory()  # as the command line does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    for name in arguments.only:
        result = measure(name, arguments.rounds, arguments.device)
        key = name if arguments.device == "cpu" else f"{name}, {arguments.device}"
        write_results("cost", {key: {**result, **provenance(arguments.device)}})


if __name__ == "__main__":
    main()
