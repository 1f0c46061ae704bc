"""The command line as tests call it."""

from __future__ import annotations

import shlex

import pytest

from tsdlab.cli import main

# badges-tiny, shrunken as in `tiny_config`.
SMALL = shlex.split(
    "--image.min-size 64 --image.max-size 64 --backbone.stages 2 3 --backbone.fpn-channels 16 "
    "--rpn.anchor-sizes 16 24 40 --rpn.post-nms-train 20 --rpn.post-nms-test 20 "
    "--roi.hidden 16 --roi.samples-per-image 16 --tsd.offset-hidden 16 "
    "--train.batch-size 2 --train.warmup-steps 2 --train.checkpoint-every 2 --device cpu"
)


def run(*args: object, exits: int | None = None) -> None:
    """`tsdlab ARGS…` in this process; `exits` is the status that it has to end with, None for success."""
    arguments = [str(a) for a in args]
    if exits is None:
        main(arguments)
        return
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == exits
