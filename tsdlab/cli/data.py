"""`tsdlab data`: make a data set, import one from another format, or check one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg

from tsdlab.data.badges.config import BadgesConfig
from tsdlab.errors import DataError
from tsdlab.presets import PRESETS
from tsdlab.ranges import FractionBelowOne, ImageSide, NonEmptyText, Seed

if TYPE_CHECKING:
    PresetName: TypeAlias = str
else:  # what the command line accepts
    PresetName = Literal[tuple(PRESETS)]


@dataclass(frozen=True)
class MakeData:
    """Make the synthetic world of badges: the limbs of a creature set its box, and its badge alone shows its class."""

    world: Annotated[Positional[Literal["badges"]], arg(metavar="badges", help="The kind of data; there is only one.")]
    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder to make.")]
    config: Annotated[BadgesConfig, arg(name="")] = field(default_factory=BadgesConfig)

    def run(self, line: str) -> None:
        from tsdlab.data.badges import make_badges

        print(f"wrote {make_badges(self.dir, self.config)}")


@dataclass(frozen=True)
class ImportData:
    """Write a data set in another format as a new folder in COCO's format.

    SRC is Pascal VOC, YOLO, COCO in its own layout or Roboflow's, CVAT for images, or LabelMe. It is only read.
    """

    source: Annotated[Positional[Path], arg(metavar="SRC", help="Folder with images and labels.")]
    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder to make.")]
    format: Annotated[
        Literal["coco", "cvat", "labelme", "voc", "yolo"] | None,
        arg(help="Format of SRC.", help_behavior_hint="(default: recognized)"),
    ] = None
    images: Literal["copy", "hardlink", "link"] = "copy"
    """How images get into DIR. Links take no space; hard links need the same disk, and an edit of one file changes
    both; other links need SRC to stay where it is."""
    val: FractionBelowOne = 0.2
    """Fraction of images drawn for the split val, if SRC has none."""
    seed: Seed = 0
    """Seed of that draw."""
    skip: bool = False
    """Leave out labels that cannot be read, with their images, instead of stopping."""

    def run(self, line: str) -> None:
        from tsdlab.data.imports import import_data

        print(*import_data(self.source, self.dir, self.format, self.images, self.val, self.seed, self.skip), sep="\n")
        print(f"wrote {self.dir}")
        CheckData(self.dir).run(line)


@dataclass(frozen=True)
class CheckData:
    """Read every annotation and the header of every image, and list everything that would stop or ruin training."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder in COCO format.")]
    decode: bool = False
    """Also decode the pixels of every image: this finds damaged files, and takes longer."""
    train_split: NonEmptyText = "train"
    """The split that will be trained on. All others are checked too."""
    val_split: NonEmptyText = "val"
    """The split that will be evaluated during training."""
    preset: PresetName = "photos"
    """Compare the boxes with the anchors of this preset, at its image size."""
    min_size: Annotated[ImageSide | None, arg(metavar="INT", help_behavior_hint="(default: the preset's)")] = None
    """image.min_size: the shorter side after resizing, pixels."""
    max_size: Annotated[ImageSide | None, arg(metavar="INT", help_behavior_hint="(default: the preset's)")] = None
    """image.max_size: the bound on the longer side, pixels."""

    def run(self, line: str) -> None:
        from tsdlab.data.check import check_folder

        preset = PRESETS[self.preset]
        image = replace(
            preset.image,
            min_size=self.min_size or preset.image.min_size,
            max_size=self.max_size or preset.image.max_size,
        )
        reports = check_folder(
            self.dir,
            decode=self.decode,
            train_split=self.train_split,
            val_split=self.val_split,
            config=replace(preset, image=image),
        )
        print(*reports, sep="\n")
        problems = sum(len(report.problems) for report in reports)
        if problems:
            raise DataError(f"{self.dir} has {problems} problem(s), listed above")
        if not self.decode:
            print("pixels were not decoded; --decode does that too")
