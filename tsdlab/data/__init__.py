"""Data: any COCO-format folder, the synthetic world of badges, augmentation, and which image comes when."""

from typing import TYPE_CHECKING

from tsdlab.lazy import lazy_names

if TYPE_CHECKING:
    from tsdlab.data.badges import BadgesConfig as BadgesConfig
    from tsdlab.data.badges import draw_scene as draw_scene
    from tsdlab.data.badges import make_badges as make_badges
    from tsdlab.data.coco import CocoDataset as CocoDataset
    from tsdlab.data.coco import SplitReport as SplitReport
    from tsdlab.data.coco import check as check
    from tsdlab.data.coco import collate as collate
    from tsdlab.data.coco import read_image as read_image
    from tsdlab.data.sampling import TrainingBatches as TrainingBatches
    from tsdlab.data.transforms import train_transforms as train_transforms
    from tsdlab.errors import DataError as DataError
    from tsdlab.shipped import SAMPLE as SAMPLE
    from tsdlab.structures import Category as Category

# Imported when they are first used: the command line's help describes `BadgesConfig` without waiting for torch.
_HOMES = {
    "SAMPLE": "tsdlab.shipped",
    "BadgesConfig": "tsdlab.data.badges.config",
    "Category": "tsdlab.structures",
    "CocoDataset": "tsdlab.data.coco",
    "DataError": "tsdlab.errors",
    "SplitReport": "tsdlab.data.coco",
    "TrainingBatches": "tsdlab.data.sampling",
    "check": "tsdlab.data.coco",
    "collate": "tsdlab.data.coco",
    "draw_scene": "tsdlab.data.badges",
    "make_badges": "tsdlab.data.badges",
    "read_image": "tsdlab.data.coco",
    "train_transforms": "tsdlab.data.transforms",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
