"""The named runs: `PRESETS["badges-tiny"]` and so on. Odd values carry their reason beside them.

"Paper" is arXiv 2003.07540; "reference code" is Sense-X/TSD.
"""

from __future__ import annotations

from dataclasses import replace

from tsdlab.config import BackboneConfig, Config, DoubleConfig, ImageConfig, RoIConfig, RPNConfig, TrainConfig

# 128 px badges on a laptop CPU: a ResNet-10 to stride 16, pyramid of 64 channels. Objects are 24–96 px, so the
# pyramid's levels are assigned at half the usual size: otherwise every object would sit on the finest one.
_BADGES_TINY = Config(
    num_classes=6,
    image=ImageConfig(min_size=128, max_size=128),
    backbone=BackboneConfig(name="resnet10", stages=(1, 2, 3), fpn_channels=64, norm="batch", trainable_stages=5),
    rpn=RPNConfig(
        anchor_sizes=(24, 40, 64, 96),
        samples_per_image=128,
        pre_nms_train=300,
        pre_nms_test=300,
        post_nms_train=150,
        post_nms_test=150,
    ),
    roi=RoIConfig(canonical_size=112, hidden=256, samples_per_image=64),
    double=DoubleConfig(bottlenecks=2),  # the publication's four would make a step four times a sibling's on a CPU
    train=TrainConfig(
        steps=5000,
        batch_size=8,
        optimizer="adamw",
        lr=1e-3,
        lr_batch_size=8,
        weight_decay=1e-2,
        schedule="cosine",
        warmup_steps=250,
        eval_every=1250,
        checkpoint_every=500,
        workers=0,
    ),
)

# COCO 1x: 90k steps of 16 images, torchvision's ResNet-50 recipe with the paper's clipping.
_COCO_R50 = Config()

# The paper's recipe: 16 GPUs × 2 images, lr 0.04, 13 epochs of 117,266 images, ÷10 at epochs 8 and 11.
_PAPER_TRAIN = TrainConfig(
    steps=13 * 117_266 // 32,
    batch_size=32,
    lr=0.04,
    lr_batch_size=32,
    milestones=(8 / 13, 11 / 13),
    warmup_steps=117_266 // 32,
)

PRESETS: dict[str, Config] = {
    "badges-tiny": _BADGES_TINY,
    "badges": replace(
        _BADGES_TINY,
        backbone=replace(_BADGES_TINY.backbone, name="resnet18", fpn_channels=128),
        double=DoubleConfig(),
        roi=replace(_BADGES_TINY.roi, hidden=512, samples_per_image=128),
        train=replace(
            _BADGES_TINY.train,
            steps=4000,
            batch_size=32,
            lr=2e-3,  # √4 times that of 8 images: AdamW, and mixed precision
            lr_batch_size=32,
            eval_every=1000,
            precision="bf16-mixed",
            workers=8,
        ),
    ),
    # 640×480 microscope images, cells of 30–250 px, trained from scratch.
    "bccd": Config(
        num_classes=3,
        image=ImageConfig(min_size=480, max_size=640),
        backbone=BackboneConfig(name="resnet18", fpn_channels=128, norm="batch", trainable_stages=5),
        rpn=RPNConfig(
            anchor_sizes=(32, 64, 96, 160, 256), pre_nms_train=600, pre_nms_test=600, post_nms_train=400,
            post_nms_test=300,
        ),
        roi=RoIConfig(hidden=512, samples_per_image=128),
        train=TrainConfig(
            steps=3000, batch_size=4, optimizer="adamw", lr=4e-4, lr_batch_size=4, weight_decay=1e-2,
            schedule="cosine", warmup_steps=200, scale_jitter=(0.7, 1.4), eval_every=500, checkpoint_every=250,
            workers=2,
        ),
    ),
    # A few hundred photographs of a few hundred pixels, from a small ImageNet network: `--imagenet`.
    "photos": Config(
        image=ImageConfig(min_size=384, max_size=640, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),  # this network's
        backbone=BackboneConfig(name="timm:tf_efficientnet_lite0", fpn_channels=64, trainable_stages=4),
        rpn=RPNConfig(
            anchor_sizes=(32, 64, 96, 160, 256), pre_nms_train=600, pre_nms_test=600, post_nms_train=400,
            post_nms_test=300,
        ),
        roi=RoIConfig(hidden=256, samples_per_image=128),
        train=TrainConfig(
            steps=3000,  # 40 epochs of 300 images
            batch_size=4, optimizer="adamw", lr=4e-4, lr_batch_size=4, weight_decay=1e-2, schedule="cosine",
            warmup_steps=200, scale_jitter=(0.8, 1.25), eval_every=500, checkpoint_every=250, workers=2,
        ),
    ),
    # A few hundred photographs of one's own, from torchvision's COCO detector: `--weights torchvision`.
    "finetune": Config(
        roi=RoIConfig(aligned=False),  # as these weights were trained to pool
        train=TrainConfig(
            steps=3000,  # 12 epochs of 500 images
            batch_size=2,
            lr=0.005,  # with batch size and decay from torchvision's fine-tuning tutorial
            lr_batch_size=2,
            weight_decay=5e-4,
            warmup_steps=250,  # an epoch, as there
            eval_every=500,  # the best is kept: a small set is soon learnt by heart
            checkpoint_every=250,
            workers=2,
        ),
    ),
    "coco-r50-1x": _COCO_R50,
    "coco-r101": replace(
        _COCO_R50, backbone=replace(_COCO_R50.backbone, name="resnet101"), train=_PAPER_TRAIN
    ),
    # The paper's largest model, 51.2 AP on test-dev when tested at several scales (`tsdlab eval --min-sizes … --flip`).
    # The paper's: the backbone, that it is deformable, both margins. Assumed: its usual schedule; and, as in the
    # reference code's ResNeXt101-DCN config, which stages are deformable and that stem, first stage and norms stay
    # ImageNet's. That config trains longer (34 epochs, ÷10 at 24 and 33), at shorter sides of 400–1400.
    "coco-senet154-dcn": replace(
        _COCO_R50,
        backbone=replace(_COCO_R50.backbone, name="timm:legacy_senet154", deformable_stages=(2, 3, 4)),
        tsd=replace(_COCO_R50.tsd, classification_margin=0.5, localization_margin=0.2),
        train=_PAPER_TRAIN,
    ),
}  # fmt: skip
