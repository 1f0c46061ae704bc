"""Start training from weights: each class takes the rows of the output layers that were its own, by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsdlab.config import TORCHVISION, Config, ImageConfig
from tsdlab.errors import WeightsError, listed
from tsdlab.models.detector import Detector
from tsdlab.models.heads import build_head
from tsdlab.models.imagenet import normalization_options
from tsdlab.models.torchvision_start import fold_epsilon
from tsdlab.models.torchvision_weights import coco_names, torchvision_model, under_own_names
from tsdlab.models.weights import convert, find_weights, has_header, read_header, read_tensors
from tsdlab.structures import Category


@dataclass(frozen=True)
class Start:
    """What a model took from weights, and what it keeps of its random ones."""

    classes: tuple[str, ...]  # whose output rows were taken
    new: tuple[str, ...]  # whose output rows start from random
    kept: tuple[str, ...] = ()  # tensors that are missing in the weights, or have another shape
    note: str = ""  # how classes were found, if the weights do not name them
    normalization: str = ""  # what to change in the config if the weights expect other images

    def lines(self) -> list[str]:
        """What to tell the user, a sentence a line."""
        lines = [line for line in (self.normalization, self.note) if line]
        if self.classes and self.new:
            lines.append(f"classes {_names(self.classes)} keep their output rows; {_names(self.new)} start from random")
        elif self.new:
            lines.append(f"the weights have none of the classes: output rows of {_names(self.new)} start from random")
        if self.kept:
            lines.append(f"{_names(self.kept, 4)} do not fit these weights and start from random")
        return lines


def _names(names: Sequence[str], most: int = 8) -> str:
    return listed(names, most, limit=60)


def start_from(model: Detector, source: str | Path, categories: Sequence[Category]) -> Start:
    """Load weights into `model` to start training from.

    A class takes its rows of the output layers from the class of the same name. Classes that the weights do not have
    keep the model's random rows. Background, and everything that belongs to no class, is taken whatever the classes.

    Args:
        model: the model to fill.
        source: one of
            - "torchvision": downloads the COCO weights of a torchvision detector (network needed). It is the builder
              that `model.config.backbone.name` names, or otherwise the one with ResNet-50 and FPN.
            - a file with a state dict of that torchvision detector (.pth; see `read_state_dict`).
            - a weights file of tsdlab, or the name of shipped weights.
        categories: the classes of the model: label i is categories[i − 1].

    Returns:
        What was taken, and what was not.

    Raises:
        FileNotFoundError: there is no such file or name.
        ValueError: the weights do not fit; names them.
    """
    if source != "torchvision" and has_header(path := find_weights(source)):
        header, stored = read_header(path), read_tensors(path)
        _check_backbone(path, stored, model)
        pairs, note = _pairs([c.name for c in header.categories], len(header.categories), categories), ""
        kept = _fill(model, path, stored, pairs, len(header.categories))
        expected = header.config.image
    else:
        name = model.config.backbone.name
        builder: Any = name.removeprefix(TORCHVISION) if name.startswith(TORCHVISION) else "fasterrcnn_resnet50_fpn"
        theirs = torchvision_model(source, builder)
        fold_epsilon(theirs)
        count = theirs.roi_heads.box_predictor.cls_score.out_features - 1
        names = coco_names(count, builder)
        pairs = _pairs(names, count, categories)
        _fill(model, source, under_own_names(model, theirs.state_dict()), pairs, count)
        kept, note = (), "" if source == "torchvision" else _note(names, count, len(categories))
        expected = ImageConfig()  # torchvision's detectors normalize in the same way
    found = {own for own, _ in pairs}
    return Start(
        classes=tuple(category.name for label, category in enumerate(categories) if label in found),
        new=tuple(category.name for label, category in enumerate(categories) if label not in found),
        kept=kept,
        note=note,
        normalization=_normalization(model.config, expected),
    )


def _normalization(config: Config, expected: ImageConfig) -> str:
    options = normalization_options(config, {"mean": expected.mean, "std": expected.std})
    return f"these weights were trained with images normalized in another way: give {options}" if options else ""


def _check_backbone(path: Path, stored: Mapping[str, Tensor], model: Detector) -> None:
    """Raises WeightsError if most of the model's backbone is not in the file."""
    body = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    fits = sum(name in stored and stored[name].shape == tensor.shape for name, tensor in body.items())
    if 2 * fits < len(body):  # a few norms fit even in a different network
        raise WeightsError(
            f"{path} has {fits} of the {len(body)} tensors of the model's backbone; give weights of the same backbone"
        )


def _pairs(names: Sequence[str | None] | None, count: int, categories: Sequence[Category]) -> list[tuple[int, int]]:
    """Each class that weights of `count` classes have too: its index in `categories` and in the weights.

    `names` are those of the weights' classes; None if they have none, then equal numbers of classes are in order.
    """
    if names is None:
        return [(i, i) for i in range(count)] if count == len(categories) else []
    index = {name: i for i, name in enumerate(names)}
    return [(i, index[category.name]) for i, category in enumerate(categories) if category.name in index]


def _note(names: Sequence[str | None] | None, count: int, wanted: int) -> str:
    if names is not None:
        return f"the weights have {count} classes without names, which are taken to be COCO's"
    if count == wanted:
        return "the weights have no class names: output rows are taken in order"
    return f"the weights have no class names, and {count} classes instead of {wanted}"


def _fill(
    model: Detector, source: str | Path, stored: Mapping[str, Tensor], pairs: Sequence[tuple[int, int]], count: int
) -> tuple[str, ...]:
    """Load what fits of the tensors `stored`, of a detector of `count` classes; names the tensors that do not."""
    own, rows = model.state_dict(), class_rows(model.config)
    taken = {}
    for name, tensor in own.items():
        if name not in stored:
            continue
        theirs = convert(source, name, stored[name], tensor.dtype).to(tensor.device)
        if name in rows:
            background, each = rows[name]
            if theirs.shape == (background + each * count, *tensor.shape[1:]):
                taken[name] = tensor.clone()
                taken[name][:background] = theirs[:background]
                ours_by_class, theirs_by_class = (
                    t[background:].unflatten(0, (-1, each)) for t in (taken[name], theirs)
                )
                for label, their_label in pairs:
                    ours_by_class[label] = theirs_by_class[their_label]
        elif theirs.shape == tensor.shape:
            taken[name] = theirs
    model.load_state_dict(taken, strict=False)
    return tuple(name for name in own if name not in taken)


class Rows(NamedTuple):
    """How the rows of a tensor belong to classes: first those of the background, then class after class."""

    background: int
    each: int  # rows per class


def class_rows(config: Config) -> dict[str, Rows]:
    """The tensors of a detector's head that have rows for each class, found as those whose length depends on it."""
    with torch.device("meta"):  # shapes only
        one, two = (build_head(replace(config, num_classes=count)).state_dict() for count in (1, 2))
    found = {}
    for name, tensor in one.items():
        each = len(two[name]) - len(tensor) if tensor.dim() else 0
        if each and two[name].shape[1:] == tensor.shape[1:]:
            found[f"roi_heads.head.{name}"] = Rows(len(tensor) - each, each)
    return found
