"""Weights files that are damaged or made up: refused on loading, in one line, by name; nothing is fetched."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tsdlab.config import Config, DoubleConfig, IoUConfig
from tsdlab.errors import InputError, TsdlabError, WeightsError
from tsdlab.models.build import build_detector
from tsdlab.models.weights import load_detector, read_header, save_weights
from tsdlab.structures import Category

CATEGORIES = (Category(3, "red"), Category(7, "blaü"))
BIAS = "rpn.head.bbox_pred.bias"


@pytest.fixture(scope="module")
def sound(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sound") / "w.safetensors"
    save_weights(path, build_detector(tiny_config), CATEGORIES, origin={"step": 3})
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a weights file asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def written(path: Path, sound: Path, header: Any = None, **tensors: torch.Tensor | None) -> Path:
    """The sound file with another header, or with other tensors (None leaves one out)."""
    stored = {k: v for k, v in {**load_file(sound), **tensors}.items() if v is not None}
    values = read_header(sound).as_dict() if header is None else header
    save_file(stored, path, {"tsdlab": values if isinstance(values, str) else json.dumps(values)})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_detector(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 1000
    return message


def leaves(values: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in nested dicts and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else []
    return [place] + [found for key, value in items for found in leaves(value, (*place, key))]


def changed(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[place[0]] = changed(values[place[0]], place[1:], value)
    return copy


VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    10**6,
    10**9,
    10**40,
    float("nan"),
    float("inf"),
    "",
    "x",
    "timm:hf-hub:timm/resnet18.a1_in1k",
    "timm:local-dir:/tmp",
    "timm:https://example.org/model",
    "torchvision:own",
    "torchvision:maskrcnn_resnet50_fpn",
    [],
    {},
    [[1]],
    [1, 2],
    "\ud800",
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_at_any_place_of_the_header(data: st.DataObject, sound: Path, tmp_path: Path) -> None:
    """A detector of the header's own config, or one line."""
    values = json.loads(json.dumps(read_header(sound).as_dict()))
    place = data.draw(st.sampled_from(leaves(values)))
    bad = changed(values, place, data.draw(st.sampled_from(VALUES)))
    path = written(tmp_path / "w.safetensors", sound, json.dumps(bad))
    try:
        model = load_detector(path)
    except WeightsError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert model.config == read_header(path).config and len(model.categories) == model.config.num_classes


def test_no_field_takes_an_object(sound: Path, tmp_path: Path) -> None:
    values = json.loads(json.dumps(read_header(sound).as_dict()))
    fields = [p for p in leaves(values) if p and p[0] != "origin" and not isinstance(values_at(values, p), dict)]
    assert len(fields) > 60
    for place in fields:
        path = written(tmp_path / "w.safetensors", sound, changed(values, place, {"a": 1}))
        with pytest.raises(WeightsError, match="header"):
            read_header(path)


def values_at(values: Any, place: tuple[Any, ...]) -> Any:
    return values if not place else values_at(values[place[0]], place[1:])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        "[" * 100_000,
        '{"config":' * 5000,
        "1" * 5000,
        '{"config": ' + "9" * 5000,
    ],
    ids=lambda text: text[:12],
)
def test_a_header_that_is_no_header(text: str, sound: Path, tmp_path: Path) -> None:
    assert "header" in refusal(written(tmp_path / "w.safetensors", sound, text))


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 20_000},
        {"roi": {"hidden": 2**16}},
        {"backbone": {"fpn_channels": 2**16}},
        {"tsd": {"offset_hidden": 2**16}},
        {"num_classes": 20_000, "roi": {"hidden": 2**16, "output_size": 64}, "backbone": {"fpn_channels": 2**16}},
    ],
    ids=str,
)
def test_sizes_that_no_memory_holds(change: dict[str, Any], sound: Path, tmp_path: Path) -> None:
    header = read_header(sound).as_dict()
    for name, value in change.items():
        header["config"][name] = {**header["config"][name], **value} if isinstance(value, dict) else value
    if "num_classes" in change:
        header["categories"] = [{"id": i, "name": str(i)} for i in range(change["num_classes"])]
    assert "does not fit the model" in refusal(written(tmp_path / "w.safetensors", sound, header))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_are_not_finite(value: float, sound: Path, tmp_path: Path) -> None:
    tensor = load_file(sound)[BIAS].double()
    tensor[3] = value
    path = written(tmp_path / "w.safetensors", sound, **{BIAS: tensor})
    assert f"{BIAS} has values that are NaN or infinite" in refusal(path)


def test_what_float16_could_not_hold(sound: Path, tmp_path: Path) -> None:
    name = "rpn.head.bbox_pred.weight"
    path = written(tmp_path / "w.safetensors", sound, **{name: (load_file(sound)[name].float() + 1e5).half()})
    assert f"{name} has values that are NaN or infinite" in refusal(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (None, f"{BIAS} is missing"),
        (torch.zeros(12, dtype=torch.int64), f"{BIAS} is torch.int64, not torch.float32"),
        (torch.zeros(12, dtype=torch.bool), f"{BIAS} is torch.bool, not torch.float32"),
        (torch.zeros(12, dtype=torch.complex64), f"{BIAS} is torch.complex64, not torch.float32"),
        (torch.zeros(12).to(torch.float8_e4m3fn), f"{BIAS} is torch.float8_e4m3fn, not torch.float32"),
        (torch.zeros(13), f"{BIAS} is (13,), not (12,)"),
        (torch.zeros(12, 1), f"{BIAS} is (12, 1), not (12,)"),
        (torch.zeros(()), f"{BIAS} is (), not (12,)"),
        (torch.zeros(0), f"{BIAS} is (0,), not (12,)"),
    ],
    ids=str,
)
def test_a_tensor_of_another_kind(tensor: torch.Tensor | None, message: str, sound: Path, tmp_path: Path) -> None:
    assert message in refusal(written(tmp_path / "w.safetensors", sound, **{BIAS: tensor}))


def test_an_unknown_tensor_and_negative_variances(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert "x is unknown" in refusal(written(path, sound, x=torch.zeros(1)))
    name = next(name for name in load_file(sound) if name.endswith("running_var"))
    assert f"{name} has negative variances" in refusal(written(path, sound, **{name: -load_file(sound)[name]}))
    count = next(name for name in load_file(sound) if name.endswith("num_batches_tracked"))
    assert f"{count} is torch.float32, not torch.int64" in refusal(written(path, sound, **{count: torch.tensor(1.0)}))


def test_a_file_cut_anywhere(sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, 5000, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        assert "is not a readable safetensors file" in refusal(tmp_path / "cut.safetensors")


def test_other_content_under_the_name_of_weights(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    torch.save(load_file(sound), path)
    assert "is not a readable safetensors file" in refusal(path)
    for metadata in (b'{"__metadata__":{"tsdlab":3}}', b'{"__metadata__":{"tsdlab":"\xff"}}', b"{}", b"[]"):
        path.write_bytes(struct.pack("<Q", len(metadata)) + metadata)
        assert refusal(path)
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert refusal(path)
    save_file({"w": torch.zeros(1)}, path)
    assert "has no tsdlab header" in refusal(path)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="is a folder; give a weights file: it has none"):
        load_detector(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"it has weights\.safetensors"):
        load_detector(tmp_path)
    for name in (tmp_path / "pipe", tmp_path / "link", "x" * 5000, "a\0b", tmp_path / "x" / "y"):
        with pytest.raises(FileNotFoundError, match="neither a file nor shipped; shipped: badges") as caught:
            load_detector(name)
        assert isinstance(caught.value, TsdlabError) and len(str(caught.value)) < 500


def test_a_name_that_is_not_utf8(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"w\xff.safetensors")
    path.write_bytes(sound.read_bytes())
    assert "is not a readable safetensors file" in refusal(path)


@pytest.mark.parametrize("given", [3, None, b"w", ["badges-tsd"], 1.5])
def test_what_is_no_name(given: Any) -> None:
    with pytest.raises(InputError, match="weights must be the name of shipped weights or a file, got a"):
        load_detector(given)


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:99", "", 99, None, ["cpu"], 1.5], ids=lambda value: f"device {value!r}"
)
def test_what_is_no_device(device: Any, sound: Path) -> None:
    with pytest.raises(InputError, match="device must be"):
        load_detector(sound, device)


def test_the_first_files_lack_fields_that_were_built_in(sound: Path, tmp_path: Path) -> None:
    header = read_header(sound).as_dict()
    config = json.loads(json.dumps(header["config"]))
    del config["backbone"]["deformable_stages"], config["double"], config["iou"]
    for field in ("loss_weight", "nms", "soft_nms_sigma"):
        del config["roi"][field]
    for field in set(config["tsd"]) & {
        "offsets_teach_features",
        "share_first_layer",
        "classification_region",
        "localization_region",
        "joint_sibling",
        "constraint_teaches_sibling",
    }:
        del config["tsd"][field]
    model = load_detector(written(tmp_path / "w.safetensors", sound, {**header, "config": config}))
    assert model.config == replace(read_header(sound).config, double=DoubleConfig(), iou=IoUConfig())
