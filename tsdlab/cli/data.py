"""`tsdlab data`: make a data set, or check one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tsdlab.data.badges.config import BadgesConfig
from tsdlab.errors import DataError


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
class CheckData:
    """Read every annotation and every image, and list everything that would stop training."""

    dir: Annotated[Positional[Path], arg(metavar="DIR", help="Folder in COCO format.")]

    def run(self, line: str) -> None:
        from tsdlab.data.check import check_folder

        reports = check_folder(self.dir)
        print(*reports, sep="\n")
        problems = sum(len(report.problems) for report in reports)
        if problems:
            raise DataError(f"{self.dir} has {problems} problem(s), listed above")
