"""Damages data sets the way that people, scripts and copies do: each damage is one entry of `DAMAGES`.

A damage changes one split of a folder that `tests/conftest.py` wrote. It says what is right: "refused", "accepted",
"pixels" (found by decoding alone), or "either" where that depends on the random value.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

Expected = Literal["refused", "accepted", "pixels", "either"]


@dataclass(frozen=True)
class Place:
    """What a damage changes: one split of the folder `root`."""

    root: Path
    split: str
    rng: random.Random

    @property
    def file(self) -> Path:
        return self.root / "annotations" / f"instances_{self.split}.json"

    @property
    def images(self) -> Path:
        return self.root / self.split

    def image(self) -> Path:
        """Some image of the split."""
        return self.rng.choice(sorted(path for path in self.images.iterdir() if path.is_file()))

    def text(self) -> bytes:
        """The annotation file."""
        if not self.file.is_file():  # reading a pipe would wait for its writer
            raise OSError
        return self.file.read_bytes()

    def content(self) -> Any:
        """The parsed annotation file."""
        return json.loads(self.text())


@dataclass(frozen=True)
class Damage:
    expected: Expected
    apply: Callable[[Place], None]


DAMAGES: dict[str, Damage] = {}


def damaged(root: Path, seed: int, count: int) -> list[tuple[str, str]]:
    """Apply `count` damages; the first one goes through all of them as `seed` grows. Returns (name, split) of each."""
    rng = random.Random(seed)
    names = list(DAMAGES)
    chosen = [names[seed % len(names)], *(rng.choice(names) for _ in range(count - 1))]
    applied = []
    for name in chosen:
        split = "train" if rng.random() < 0.5 else "val"
        try:
            DAMAGES[name].apply(Place(root, split, rng))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # an earlier damage has left nothing to change
        applied.append((name, split))
    return applied


def _damage(expected: Expected) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    def register(apply: Callable[[Place], None]) -> Callable[[Place], None]:
        DAMAGES[apply.__name__] = Damage(expected, apply)
        return apply

    return register


def _content(expected: Expected) -> Callable[[Callable[[random.Random, dict], Any]], Any]:
    """Registers a change of the parsed annotation file; a returned value replaces the content."""

    def register(change: Callable[[random.Random, dict], Any]) -> Any:
        def apply(place: Place) -> None:
            content = place.content()
            changed = change(place.rng, content)
            place.file.write_text(json.dumps(content if changed is None else changed))

        DAMAGES[change.__name__] = Damage(expected, apply)
        return change

    return register


def _raw(expected: Expected) -> Callable[[Callable[[random.Random, bytes], bytes]], Any]:
    """Registers a change of the bytes of the annotation file."""

    def register(change: Callable[[random.Random, bytes], bytes]) -> Any:
        def apply(place: Place) -> None:
            place.file.write_bytes(change(place.rng, place.text()))

        DAMAGES[change.__name__] = Damage(expected, apply)
        return change

    return register


# The text of the annotation file ----------------------------------------------------------------------------


@_raw("refused")
def nothing_written(rng: random.Random, text: bytes) -> bytes:
    return b""


@_raw("refused")
def cut_off(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(1, len(text) - 1)]


@_raw("refused")
def two_documents(rng: random.Random, text: bytes) -> bytes:
    return text + text


@_raw("accepted")
def byte_order_mark(rng: random.Random, text: bytes) -> bytes:
    return b"\xef\xbb\xbf" + text


@_raw("accepted")
def sixteen_bits(rng: random.Random, text: bytes) -> bytes:
    return text.decode().encode(rng.choice(["utf-16", "utf-16-le", "utf-32"]))


@_raw("refused")
def latin_letters(rng: random.Random, text: bytes) -> bytes:
    return text.replace(b'"blue"', '"bleuté"'.encode("latin-1"))


@_raw("refused")
def zero_bytes(rng: random.Random, text: bytes) -> bytes:
    return bytes(len(text)) if rng.random() < 0.5 else text[:-9] + bytes(9)


@_raw("refused")
def deeply_nested(rng: random.Random, text: bytes) -> bytes:
    return text[:-1] + b', "info": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@_raw("accepted")
def long_number_that_nobody_reads(rng: random.Random, text: bytes) -> bytes:
    return text[:-1] + b', "info": ' + b"7" * 5000 + b"}"


@_raw("refused")
def key_twice(rng: random.Random, text: bytes) -> bytes:
    key, value = rng.choice([(b'"width": ', b"65"), (b'"bbox": ', b"[1, 2, 3, 4]"), (b'"category_id": ', b"77")])
    return text.replace(key, key + value + b", " + key, 1)


@_raw("accepted")
def key_twice_with_one_value(rng: random.Random, text: bytes) -> bytes:
    return text.replace(b'"width": 64', b'"width": 64, "width": 64', 1)


@_raw("refused")
def token_that_is_no_number(rng: random.Random, text: bytes) -> bytes:
    token = rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e400", b"9" * 5000])
    return text.replace(b'"bbox": [', b'"bbox": [' + token + b", ", 1).replace(b"], ", b"], ", 1)


@_raw("refused")
def page_of_a_web_server(rng: random.Random, text: bytes) -> bytes:
    return b"<!DOCTYPE html><title>404</title>"


# Its structure ----------------------------------------------------------------------------------------------


@_content("refused")
def other_top_level(rng: random.Random, content: dict) -> Any:
    return rng.choice([[], [content], 7, "text", content["images"], {}])


@_content("refused")
def list_missing(rng: random.Random, content: dict) -> None:
    del content[rng.choice(["images", "annotations", "categories"])]


@_content("refused")
def list_of_another_type(rng: random.Random, content: dict) -> None:
    content[rng.choice(["images", "annotations", "categories"])] = rng.choice([None, {}, 3, "text", True])


@_content("refused")
def list_emptied(rng: random.Random, content: dict) -> None:
    content[rng.choice(["images", "annotations", "categories"])] = []


@_content("refused")
def entry_of_another_type(rng: random.Random, content: dict) -> None:
    entries = content[rng.choice(["images", "annotations", "categories"])]
    entries[rng.randrange(len(entries))] = rng.choice([None, [], 3, "text", True])


@_content("refused")
def field_missing(rng: random.Random, content: dict) -> None:
    key = rng.choice(["images", "annotations", "categories"])
    needed = {
        "images": ["id", "file_name", "width", "height"],
        "annotations": ["id", "image_id", "category_id", "bbox"],
        "categories": ["id", "name"],
    }
    del rng.choice(content[key])[rng.choice(needed[key])]


_VALUES = [
    *(True, False, None, "", " ", "7", "12.5", "abc", "NaN", "inf", "1_0", "٣", 0, -1, -0.0, 0.5, 12.5, 1e300),
    *(10**18, 10**40, float("nan"), float("inf"), [], {}, [1, 2, 3], "\ud800", "a\0b", ["1", "2", "30", "20"]),
]


@_content("either")
def odd_value(rng: random.Random, content: dict) -> None:
    entry = rng.choice(content[rng.choice(["images", "annotations", "annotations", "categories"])])
    entry[rng.choice(list(entry))] = rng.choice(_VALUES)


@_content("either")
def odd_value_everywhere(rng: random.Random, content: dict) -> None:
    entries = content[rng.choice(["images", "annotations", "annotations", "categories"])]
    key, value = rng.choice(list(entries[0])), rng.choice(_VALUES)
    for entry in entries:
        entry[key] = value


@_content("either")
def odd_number_in_a_box(rng: random.Random, content: dict) -> None:
    rng.choice(content["annotations"])["bbox"][rng.randrange(4)] = rng.choice(_VALUES)


@_content("refused")
def too_many_numbers_in_a_box(rng: random.Random, content: dict) -> None:
    rng.choice(content["annotations"])["bbox"].append(3)


@_content("accepted")
def numbers_as_text(rng: random.Random, content: dict) -> None:
    for entry in content["annotations"]:
        entry["bbox"] = [str(number) for number in entry["bbox"]]
        entry["area"], entry["iscrowd"] = str(entry["area"]), str(entry["iscrowd"])
    for entry in content["images"]:
        entry["width"] = str(entry["width"])


@_content("accepted")
def numbers_as_floats(rng: random.Random, content: dict) -> None:
    for entry in [*content["images"], *content["annotations"]]:
        entry.update({key: float(value) for key, value in entry.items() if isinstance(value, int)})


@_content("accepted")
def flags_as_words(rng: random.Random, content: dict) -> None:
    for entry in content["annotations"]:
        entry["iscrowd"] = rng.choice(["false", False, "0", 0.0, None])


# Ids --------------------------------------------------------------------------------------------------------


def _rename(content: dict, image: Callable[[Any], Any], category: Callable[[Any], Any]) -> None:
    for entry in content["images"]:
        entry["id"] = image(entry["id"])
    for entry in content["categories"]:
        entry["id"] = category(entry["id"])
    for entry in content["annotations"]:
        entry["image_id"], entry["category_id"] = image(entry["image_id"]), category(entry["category_id"])


@_content("accepted")
def ids_of_many_digits(rng: random.Random, content: dict) -> None:
    _rename(content, lambda id: 10 ** rng.choice([18]) + id, lambda id: 2**64 + id)


@_content("accepted")
def ids_as_words(rng: random.Random, content: dict) -> None:
    _rename(content, lambda id: f"image {id}", lambda id: f"k{id}")


@_content("accepted")
def ids_as_text_in_one_list(rng: random.Random, content: dict) -> None:
    for entry in content["annotations"]:
        entry["image_id"], entry["category_id"] = str(entry["image_id"]), f"0{entry['category_id']}"


@_content("refused")
def id_twice(rng: random.Random, content: dict) -> None:
    entries = content[rng.choice(["images", "annotations", "categories"])]
    entries[-1]["id"] = entries[0]["id"]


@_content("refused")
def id_of_nothing(rng: random.Random, content: dict) -> None:
    rng.choice(content["annotations"])[rng.choice(["image_id", "category_id"])] = rng.choice([999, "x", -1, 10**30])


@_content("refused")
def id_with_two_meanings(rng: random.Random, content: dict) -> None:
    first, second = content["images"][0], content["images"][1]
    first["id"], second["id"] = "0100", "00100"
    content["annotations"][0]["image_id"] = 100


@_content("refused")
def large_ids_as_floats(rng: random.Random, content: dict) -> None:
    _rename(content, lambda id: 1e17 + 64 * id, lambda id: id)


# Boxes ------------------------------------------------------------------------------------------------------


def _every_box(content: dict, change: Callable[[float, float, float, float], list[float]]) -> None:
    for entry in content["annotations"]:
        entry["bbox"] = change(*entry["bbox"])


@_content("refused")
def fractions(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [x / 64, y / 64, w / 64, h / 64])


@_content("refused")
def fractions_from_the_centre(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [(x + w / 2) / 64, (y + h / 2) / 64, w / 64, h / 64])


@_content("refused")
def corners(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [x, y, x + w, y + h])


@_content("either")  # a few boxes prove nothing
def centres(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [x + w / 2, y + h / 2, w, h])


@_content("refused")
def all_boxes_outside(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [x + 100, y, w, h])


@_content("refused")
def all_boxes_without_size(rng: random.Random, content: dict) -> None:
    side = rng.choice([0, -3, 0.2, 1e-9])
    _every_box(content, lambda x, y, w, h: [x + 2, y + 2, w, side])


@_content("accepted")
def one_box_without_size(rng: random.Random, content: dict) -> None:
    content["annotations"][0]["bbox"][2] = rng.choice([0, -3, 0.2, 1e-9])


@_content("accepted")
def one_box_outside(rng: random.Random, content: dict) -> None:
    content["annotations"][0]["bbox"][0] = rng.choice([-1000, 64, 1e200])


@_content("accepted")
def one_box_of_everything(rng: random.Random, content: dict) -> None:
    content["annotations"][0]["bbox"] = [-1e200, -1e200, 2e200, 2e200]


@_content("refused")
def area_beyond_what_counts(rng: random.Random, content: dict) -> None:
    rng.choice(content["annotations"])["area"] = rng.choice([1.1e10, "1e11", 1e299])


@_content("refused")
def boxes_in_a_convention_without_a_name(rng: random.Random, content: dict) -> None:
    _every_box(content, lambda x, y, w, h: [x * 100 / 6.4, y * 100 / 6.4, w * 100 / 6.4, h * 100 / 6.4])


@_content("refused")
def crowds_only(rng: random.Random, content: dict) -> None:
    for entry in content["annotations"]:
        entry["iscrowd"] = rng.choice([1, "1", True])


@_content("accepted")
def more_objects_than_detections(rng: random.Random, content: dict) -> None:
    entry = content["annotations"][0]
    content["annotations"] += [{**entry, "iscrowd": 0, "id": 10_000 + i} for i in range(120)]


@_content("accepted")
def objects_in_one_image_only(rng: random.Random, content: dict) -> None:
    for entry in content["annotations"]:
        entry["image_id"], entry["iscrowd"] = content["images"][0]["id"], 0


# Classes ----------------------------------------------------------------------------------------------------


@_content("refused")
def class_renamed(rng: random.Random, content: dict) -> None:
    content["categories"][0]["name"] = "green"


@_content("refused")
def class_added(rng: random.Random, content: dict) -> None:
    content["categories"].append({"id": 12, "name": "green"})


@_content("refused")
def class_name_twice(rng: random.Random, content: dict) -> None:
    content["categories"].append({"id": 12, "name": "red"})


@_content("accepted")
def class_ids_exchanged(rng: random.Random, content: dict) -> None:
    _rename(content, lambda id: id, lambda id: 10 - id)


# Files ------------------------------------------------------------------------------------------------------


@_damage("refused")
def annotation_file_missing(place: Place) -> None:
    place.file.unlink()


@_damage("refused")
def annotation_file_is_something_else(place: Place) -> None:
    place.file.unlink()
    place.rng.choice([place.file.mkdir, lambda: os.mkfifo(place.file), lambda: place.file.symlink_to("nowhere")])()


@_damage("accepted")
def annotation_file_is_a_link(place: Place) -> None:
    place.file.rename(place.root / f"{place.split}.json")
    place.file.symlink_to(f"../{place.split}.json")


@_damage("refused")
def image_missing(place: Place) -> None:
    place.image().unlink()


@_damage("refused")
def image_folder_missing(place: Place) -> None:
    shutil.rmtree(place.images)
    place.rng.choice([lambda: None, place.images.mkdir, place.images.touch])()


@_damage("accepted")
def image_folder_is_a_link(place: Place) -> None:
    place.images.rename(place.root / f"images of {place.split}")
    place.images.symlink_to(f"images of {place.split}")


@_damage("accepted")
def image_is_a_link(place: Place) -> None:
    path = place.image()
    path.rename(place.root / path.name)
    path.symlink_to(place.root / path.name)


@_damage("refused")
def image_is_something_else(place: Place) -> None:
    path = place.image()
    path.unlink()
    place.rng.choice([path.mkdir, lambda: os.mkfifo(path), lambda: _bind(path), lambda: path.symlink_to("nowhere")])()


def _bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


@_damage("refused")
def image_of_another_kind(place: Place) -> None:
    place.image().write_bytes(place.rng.choice([b"", b"not an image", b"<html>", bytes(5000), b"\x89PNG\r\n\x1a\n"]))


@_damage("refused")
def image_of_another_size(place: Place) -> None:
    path = place.image()
    Image.open(path).resize(place.rng.choice([(64, 63), (65, 64), (32, 32), (1, 1)])).save(path)


@_damage("pixels")
def image_cut_off(place: Place) -> None:
    path = place.image()
    path.write_bytes(path.read_bytes()[: place.rng.randrange(60, 2000)])


@_damage("refused")
def image_without_area(place: Place) -> None:
    size = place.rng.choice([(1, 64), (1, 1), (3000, 1), (3000, 10), (2, 200)])
    path = place.image()
    _resize(place, path.name, size)
    Image.new("RGB", size).save(path)


@_damage("accepted")
def image_of_many_sizes(place: Place) -> None:
    size = place.rng.choice([(2, 30), (300, 10), (500, 400), (64, 1000)])
    path = place.image()
    _resize(place, path.name, size)
    Image.new("L", size).save(path)


def _resize(place: Place, name: str, size: tuple[int, int]) -> None:
    content = place.content()
    for entry in content["images"]:
        if entry["file_name"] == name:
            entry["width"], entry["height"] = size
    place.file.write_text(json.dumps(content))


@_damage("accepted")
def image_with_a_rotation_tag(place: Place) -> None:
    path = place.image()
    size = (80, 40)  # as it is shown; its pixels are stored as 40×80
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size[::-1]).save(path, format="JPEG", exif=exif)
    _resize(place, path.name, place.rng.choice([size, size[::-1]]))


def _renamed(expected: Expected) -> Callable[[Callable[[Place, Path], str]], Any]:
    """Registers a change of "file_name" of an image: the function moves the file and returns the new name."""

    def register(rename: Callable[[Place, Path], str]) -> Any:
        def apply(place: Place) -> None:
            content = place.content()
            path = place.image()
            (entry,) = [entry for entry in content["images"] if entry["file_name"] == path.name]
            entry["file_name"] = rename(place, path)
            place.file.write_text(json.dumps(content))

        DAMAGES[rename.__name__] = Damage(expected, apply)
        return rename

    return register


@_renamed("refused")
def name_beside_the_folder(place: Place, path: Path) -> str:
    shutil.copy(path, place.root / path.name)
    return place.rng.choice([f"../{path.name}", f"x/../../{path.name}", f"..\\{path.name}"])


@_renamed("refused")
def name_from_the_root(place: Place, path: Path) -> str:
    return place.rng.choice([str(path), f"C:\\data\\{path.name}", f"/{path.name}", f"\\\\server\\data\\{path.name}"])


@_renamed("refused")
def name_that_is_none(place: Place, path: Path) -> str:
    return place.rng.choice(["", " ", ".", "..", "a\0b.png", "\ud800.png", "x" * 300, "x/" * 3000, "/"])


@_renamed("refused")
def name_of_another_image(place: Place, path: Path) -> str:
    return next(other.name for other in sorted(path.parent.iterdir()) if other != path)


@_renamed("refused")
def name_in_other_case(place: Place, path: Path) -> str:
    return path.with_suffix(".PNG").name


@_renamed("accepted")
def name_with_a_backslash(place: Place, path: Path) -> str:
    (path.parent / "sub").mkdir(exist_ok=True)
    path.rename(path.parent / "sub" / path.name)
    return f"sub\\{path.name}"


@_renamed("accepted")
def name_with_dots(place: Place, path: Path) -> str:
    return f"./x/../{path.name}"


@_renamed("accepted")
def name_in_any_script(place: Place, path: Path) -> str:
    path.rename(path.with_name("фото 写真 \u202e\n.png"))
    return "фото 写真 \u202e\n.png"


@_renamed("accepted")
def name_that_is_not_utf8(place: Place, path: Path) -> str:
    path.rename(path.with_name("\udce9.png"))
    return "\udce9.png"


@_damage("accepted")
def broken_test_split(place: Place) -> None:
    (place.root / "annotations" / "instances_test.json").write_text("{")


@_damage("accepted")
def test_split_without_annotations(place: Place) -> None:
    content = Place(place.root, "val", place.rng).content()
    del content["annotations"]
    (place.root / "annotations" / "instances_test2017.json").write_text(json.dumps(content))
    shutil.copytree(place.root / "val", place.root / "test2017")


@_damage("accepted")
def test_split_without_contents(place: Place) -> None:
    content = Place(place.root, "val", place.rng).content()
    for key in place.rng.choice([["annotations"], ["images", "annotations"], ["categories", "annotations"]]):
        content[key] = []
    (place.root / "annotations" / "instances_a.json").write_text(json.dumps(content))
    shutil.copytree(place.root / "val", place.root / "a")
