"""What a data set of badges is made of. It has a file of its own because the command line's help needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tsdlab.errors import InputError
from tsdlab.ranges import ImageSide, Range, Seed, check_fields

Misalignment = Annotated[float, Range(0, 2)]
ImageCount = Annotated[int, Range(0, 10**6)]


@dataclass(frozen=True)
class BadgesConfig:
    """A badges data set; two equal configurations give equal files."""

    train: ImageCount = 3000  # images
    val: ImageCount = 500  # images
    size: ImageSide = 128  # pixels; the scenes do not depend on it, and badges are readable from 32 up
    misalignment: Misalignment = 1.0  # 0…2, where the badge sits: 0 in the centre of the box, 1 in a corner, 2 outside
    room: Misalignment | None = None
    """Creatures are placed so that a badge would fit into the image at any misalignment up to this one. Data sets with
    the same room and seed hold the same scenes and differ only in where the badges sit. None: as much as misalignment
    needs, at least 1."""
    seed: Seed = 0  # same seed, same scenes

    def __post_init__(self) -> None:
        check_fields(self)
        resolve_room(self.misalignment, self.room)


def resolve_room(misalignment: float, room: float | None) -> float:
    """The largest misalignment for which creatures are placed.

    Raises:
        InputError: not 0 ≤ misalignment ≤ room ≤ 2.
    """
    room = max(1.0, misalignment) if room is None else room
    if not 0 <= misalignment <= room <= 2:
        raise InputError(f"misalignment ≤ room must lie in 0…2, got misalignment {misalignment}, room {room}")
    return room
