"""Data: any COCO-format folder, the synthetic world of badges, augmentation, and which image comes when."""

from tsdlab.data.badges import BadgesConfig, draw_scene, make_badges
from tsdlab.data.coco import Category, CocoDataset, SplitReport, check, collate, read_image
from tsdlab.data.sampling import TrainingBatches
from tsdlab.data.transforms import train_transforms
from tsdlab.errors import DataError
from tsdlab.shipped import SAMPLE

__all__ = [
    "SAMPLE",
    "BadgesConfig",
    "Category",
    "CocoDataset",
    "DataError",
    "SplitReport",
    "TrainingBatches",
    "check",
    "collate",
    "draw_scene",
    "make_badges",
    "read_image",
    "train_transforms",
]
