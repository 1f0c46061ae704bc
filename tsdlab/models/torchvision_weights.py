"""State dicts of torchvision's detectors, in files as training scripts write them: read them, and take them over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.detection._utils import overwrite_eps

from tsdlab.config import BackboneConfig, HeadName, PublishedName
from tsdlab.errors import WeightsError
from tsdlab.files import claim_outputs
from tsdlab.models.build import from_torchvision
from tsdlab.models.detector import Detector
from tsdlab.models.state_dicts import plain_tensor, read_content, without_wrappers
from tsdlab.models.torchvision_start import published_model
from tsdlab.models.weights import first_misfits, save_weights
from tsdlab.structures import Category

_CLASS_WEIGHT = "roi_heads.box_predictor.cls_score.weight"  # [1 + C, hidden]; every such detector has it
_OTHER_TASKS = ("roi_heads.mask_", "roi_heads.keypoint_")  # of Mask and Keypoint R-CNN; their boxes are used
_UNUSED = "N/A"  # torchvision's name for ids of COCO that have no class


def import_torchvision(
    out: Path,
    source: str | Path = "torchvision",
    head: HeadName = "sibling",
    builder: PublishedName = "fasterrcnn_resnet50_fpn",
    overwrite: bool = False,
) -> Detector:
    """Convert a torchvision Faster R-CNN to a weights file of tsdlab.

    Args:
        out: the file to write.
        source: "torchvision" downloads its COCO weights (network needed); otherwise a local file with its state dict.
        head: the second stage (see `from_torchvision`).
        builder: which of torchvision's detectors it is.
        overwrite: whether `out` may be replaced, if it is not the source.

    Returns:
        The imported model, in eval mode. Its classes are COCO's if it has as many as torchvision's; otherwise, and
        where COCO has no class, they are called "class 1", "class 2", …

    Raises:
        ExistingFileError: `out` exists and may not be replaced.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no state dict, or not that of this detector.
    """
    claim_outputs([out], [Path(source)], overwrite)
    model = from_torchvision(torchvision_model(source, builder), head)
    names = coco_names(model.config.num_classes, builder) or [None] * model.config.num_classes
    model.categories = tuple(Category(label, name or f"class {label}") for label, name in enumerate(names, 1))
    origin = {"source": str(source), "builder": builder}
    save_weights(out, model, model.categories, half=False, origin=origin, overwrite=overwrite)
    return model.eval()


def coco_names(num_classes: int, builder: PublishedName) -> list[str | None] | None:
    """torchvision's name of every label 1…C of its COCO detectors, None for unused labels; None for other numbers."""
    names = get_model_weights(builder).DEFAULT.meta["categories"][1:]
    return [None if name == _UNUSED else name for name in names] if num_classes == len(names) else None


def torchvision_model(source: str | Path, builder: PublishedName) -> FasterRCNN:
    """One of torchvision's detectors, with its weights.

    Args:
        source: "torchvision" downloads the COCO weights (network needed); otherwise a local file, as for
            `read_state_dict`, with any number of classes.
        builder: the function in torchvision.models.detection that makes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no state dict, or not that of this detector.
    """
    if source == "torchvision":
        return get_model(builder, weights="DEFAULT")
    path = Path(source)
    state = read_state_dict(path)
    # torchvision runs this one file with an ε of 0 in its norms, which are frozen.
    without_epsilon = path.name == Path(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url).name
    counts = any(key.endswith("num_batches_tracked") for key in state)  # batch norms count them, frozen norms do not
    backbone = BackboneConfig(norm="batch" if counts and not without_epsilon else "frozen")
    model = published_model(builder, len(state[_CLASS_WEIGHT]) - 1, backbone)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit torchvision's {builder}: {shorten(str(error), 400)}") from error
    if without_epsilon:
        overwrite_eps(model, 0.0)
    return model


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a torchvision detector, in the file of a training script.

    It may lie under a key beside others ("model", "state_dict", …; the first that fits is taken), its names may have a
    prefix (such as the "module." of DistributedDataParallel), its tensors may be in half precision. It may be a
    .safetensors file. Only tensors and plain values are unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else, or values that are not finite; says what to do.
    """
    content = read_content(path)
    state = _find_state_dict(content)
    if state is None:
        raise WeightsError(f"{path} is not the state dict of a torchvision Faster R-CNN with FPN")
    state = {name: plain_tensor(path, name, tensor) for name, tensor in state.items()}
    if state[_CLASS_WEIGHT].dim() != 2 or len(state[_CLASS_WEIGHT]) < 2:
        raise WeightsError(
            f"{path}: {_CLASS_WEIGHT} is {tuple(state[_CLASS_WEIGHT].shape)}; it must be [1 + classes, features]"
        )
    return state


def _find_state_dict(content: dict[Any, Any], depth: int = 3) -> dict[str, Any] | None:
    """The first state dict of a torchvision detector in `content`, under torchvision's names."""
    plain = without_wrappers(content)
    for name in plain:
        if name.endswith(_CLASS_WEIGHT):
            prefix = name.removesuffix(_CLASS_WEIGHT)
            own = {n.removeprefix(prefix): v for n, v in plain.items() if n.startswith(prefix)}
            return {n: v for n, v in own.items() if not n.startswith(_OTHER_TASKS)}
    if depth:
        for value in content.values():
            found = _find_state_dict(value, depth - 1) if isinstance(value, dict) else None
            if found is not None:
                return found
    return None


def load_torchvision(model: Detector, state_dict: dict[str, Tensor]) -> list[str]:
    """Load a torchvision Faster R-CNN with FPN into the backbone, the RPN and the head's `torchvision_modules`.

    The branches of TSD and D_head become copies of torchvision's layers, so that they detect as torchvision does until
    they are trained. torchvision pools with `aligned=False`: for equal detections, build the model with
    `roi.aligned=False`.

    Returns:
        The names of the output layers that were not loaded, because torchvision's have another number of classes.

    Raises:
        ValueError: a weight is missing, unknown to the model or of another shape; names them.
    """
    own, renamed = model.state_dict(), under_own_names(model, state_dict)
    left = {k for k, v in renamed.items() if v.shape != own[k].shape}
    model.load_state_dict({k: v for k, v in renamed.items() if k not in left}, strict=False)
    return sorted(left)


def under_own_names(model: Detector, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision detector's tensors under the names that they have in `model`, which must be all that it needs.

    Output layers may have another number of classes.

    Raises:
        ValueError: as for `load_torchvision`.
    """
    own = model.state_dict()
    modules = model.roi_heads.head.torchvision_modules
    renamed = _renamed(state_dict, modules)
    places = {f"roi_heads.head.{place}.": module for module, group in modules.items() for place in group}
    expected = {k for k in own if k.startswith(("backbone.", "rpn.", *places))}
    # BatchNorm counts batches, torchvision's FrozenBatchNorm2d does not. A deformable convolution's offsets are new.
    missing = {k for k in expected - renamed.keys() if not k.endswith("num_batches_tracked") and ".offset." not in k}
    unknown = {k for k in renamed.keys() - own.keys() if not k.endswith("num_batches_tracked")}
    misfits = {k for k, v in renamed.items() if k in own and v.shape != own[k].shape}
    outputs = tuple(place for place, module in places.items() if module.startswith("box_predictor"))
    # An output layer may have another number of classes (rows), but not other features (columns).
    misfits = {k for k in misfits if not k.startswith(outputs) or renamed[k].shape[1:] != own[k].shape[1:]}
    problems = [f"{k} is missing" for k in sorted(missing)] + [f"{k} is unknown" for k in sorted(unknown)]
    problems += [f"{k} is {tuple(renamed[k].shape)}, not {tuple(own[k].shape)}" for k in sorted(misfits)]
    if problems:
        raise WeightsError(f"these torchvision weights do not fit the model: {first_misfits(problems)}")
    return {k: v for k, v in renamed.items() if k in own}


def _renamed(state_dict: dict[str, Tensor], modules: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """A torchvision detector's tensors under the names that they have in ours; `modules` are `torchvision_modules`."""
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key.startswith("roi_heads."):
            name = key.removeprefix("roi_heads.")
            for module, places in modules.items():
                if name.startswith(f"{module}."):
                    renamed |= {f"roi_heads.head.{place}{name.removeprefix(module)}": value for place in places}
        else:
            renamed[key] = value
    return renamed
