"""Data: COCO-format folders, the synthetic badges, augmentation, and the order of training images."""

from typing import TYPE_CHECKING

from tsdlab.lazy import lazy_names

if TYPE_CHECKING:
    from tsdlab.data.arrays import as_image as as_image
    from tsdlab.data.badges import BadgesConfig as BadgesConfig
    from tsdlab.data.badges import draw_scene as draw_scene
    from tsdlab.data.badges import make_badges as make_badges
    from tsdlab.data.check import SplitReport as SplitReport
    from tsdlab.data.check import check_folder as check_folder
    from tsdlab.data.coco import CocoDataset as CocoDataset
    from tsdlab.data.images import inspect_image as inspect_image
    from tsdlab.data.images import read_image as read_image
    from tsdlab.data.loading import batch_loader as batch_loader
    from tsdlab.data.loading import collate as collate
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
    "SplitReport": "tsdlab.data.check",
    "TrainingBatches": "tsdlab.data.sampling",
    "as_image": "tsdlab.data.arrays",
    "batch_loader": "tsdlab.data.loading",
    "check_folder": "tsdlab.data.check",
    "collate": "tsdlab.data.loading",
    "draw_scene": "tsdlab.data.badges",
    "inspect_image": "tsdlab.data.images",
    "make_badges": "tsdlab.data.badges",
    "read_image": "tsdlab.data.images",
    "train_transforms": "tsdlab.data.transforms",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
