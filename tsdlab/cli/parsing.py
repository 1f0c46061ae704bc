"""The table of commands, and the way from the words of a command line to one of them.

Leading words choose the command, and tyro parses the rest for that command alone: help and errors name it, and no
time is spent on the options of the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Union

import tyro
from tyro.conf import OmitSubcommandPrefixes, subcommand

import tsdlab
from tsdlab.cli.analyze import Analyze
from tsdlab.cli.compare import Compare
from tsdlab.cli.data import CheckData, ImportData, MakeData
from tsdlab.cli.detect import Detect
from tsdlab.cli.evaluate import Eval
from tsdlab.cli.page import Page
from tsdlab.cli.train import Train, summary
from tsdlab.cli.weights import ExportWeights, ImportTorchvision, ListWeights, ShowWeights
from tsdlab.errors import TsdlabError, shown
from tsdlab.presets import PRESETS
from tsdlab.ranges import check_fields


class _Command(NamedTuple):
    """A dataclass whose fields are the options, and whose `run` does the work."""

    description: str
    cls: Any
    default: Any = None


class _Group(NamedTuple):
    """A word that another word has to follow."""

    description: str
    members: dict[str, _Command | _Group]


def _command(cls: Any) -> _Command:
    return _Command(inspect.cleandoc(cls.__doc__), cls)


_TSDLAB = _Group(
    str(tsdlab.__doc__),
    {
        "data": _Group(
            "Make a data set, import one from another format, or check one.",
            {"make": _command(MakeData), "import": _command(ImportData), "check": _command(CheckData)},
        ),
        "train": _Group(
            "Train a detector: choose a preset, then override any field of its config.",
            {
                name: _Command(summary(preset), Train, Train(preset, tyro.MISSING, tyro.MISSING))
                for name, preset in PRESETS.items()
            },
        ),
        "eval": _command(Eval),
        "detect": _command(Detect),
        "analyze": _command(Analyze),
        "compare": _command(Compare),
        "page": _command(Page),
        "weights": _Group(
            "List the shipped weights, show what is in a file, import torchvision's, or export a program.",
            {
                "list": _command(ListWeights),
                "show": _command(ShowWeights),
                "import-torchvision": _command(ImportTorchvision),
                "export": _command(ExportWeights),
            },
        ),
    },
)


def parse(args: Sequence[str]) -> Any:
    """The command that a command line asks for, with its options; call its `run`.

    Raises:
        InputError: an option is out of its range; names the option.
        SystemExit: 0 after help or the version, 2 after wrong usage; either has been printed.
    """
    if list(args) == ["--version"]:
        print(f"tsdlab {tsdlab.__version__}")
        sys.exit(0)
    node: _Command | _Group = _TSDLAB
    words, rest = ["tsdlab"], list(args)
    while isinstance(node, _Group):
        word = rest[0].replace("_", "-") if rest else ""
        if word not in node.members:
            _explain(node, " ".join(words), rest)
        node = node.members[word]
        words.append(word)
        del rest[0]
    options = {} if node.default is None else {"default": node.default}
    command = _ask_tyro(node.cls, " ".join(words), node.description, rest, **options)
    check_fields(command, "--", separator="-")
    return command


def _explain(group: _Group, prog: str, args: list[str]) -> None:
    """Print the choices of a group, because help was asked for or because `args` choose none of them; then exit."""
    if args and not args[0].startswith("-"):
        longer = [name for name in group.members if name.startswith(args[0])]
        near = longer or difflib.get_close_matches(args[0], group.members, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        print(f"{prog}: there is no {shown(args[0], 60)!r}{hint}", file=sys.stderr)
    choices: Any = Union[  # noqa: UP007 (made from a table)
        tuple(
            Annotated[dataclasses.make_dataclass(name, ()), subcommand(name, description=member.description)]
            for name, member in group.members.items()
        )
    ]
    _ask_tyro(choices, prog, group.description, args)
    raise AssertionError(f"tyro found a command in {args}")


def _ask_tyro(cls: Any, prog: str, description: str, args: list[str], **options: Any) -> Any:
    """tyro.cli, but an error that a config has raised comes out as itself, not in a frame of tyro's."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                cls, prog=prog, description=description, args=args, config=(OmitSubcommandPrefixes,), **options
            )
    except SystemExit as leaving:
        reason: BaseException | None = leaving
        while reason is not None and not isinstance(reason, TsdlabError):
            reason = reason.__context__
        if reason is not None:
            said = io.StringIO()
            raise reason from None
        raise
    finally:
        print(said.getvalue(), end="", file=sys.stderr)
