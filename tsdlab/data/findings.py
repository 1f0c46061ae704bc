"""What is found in a data set, grouped: a fault that thousands of entries share is one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsdlab.errors import listed

_KEPT = 5  # entries of a group that a message spells out


@dataclass
class _Group:
    first: str
    others: list[str] = field(default_factory=list)  # the first few
    count: int = 1


class Findings:
    """Messages by kind: the first one of each kind, and which and how many entries share it."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def add(self, kind: str, where: str, what: str) -> None:
        """Add a message.

        Args:
            kind: what the messages of one group have in common; it is not shown.
            where: names the entry or the file, such as "annotation 7".
            what: follows the name: what is wrong, and what to do.
        """
        group = self._groups.get(kind)
        if group is None:
            self._groups[kind] = _Group(f"{where}{what}")
            return
        group.count += 1
        if len(group.others) < _KEPT:
            group.others.append(where)

    def update(self, other: Findings) -> None:
        """Add the messages of `other`, whose kinds are different ones."""
        self._groups.update(other._groups)

    def __len__(self) -> int:
        """How many messages were added."""
        return sum(group.count for group in self._groups.values())

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [
            group.first
            + (f" (the same in {listed(group.others, _KEPT, count=group.count - 1)})" if group.count > 1 else "")
            for group in self._groups.values()
        ]
