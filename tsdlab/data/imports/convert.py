"""`import_data`: read a data set in another format, and write it as a folder in COCO's format."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from tsdlab.data.annotations import annotation_file
from tsdlab.data.imports import coco, cvat, labelme, voc, yolo
from tsdlab.data.imports.source import Picture, Source, same_name
from tsdlab.errors import DataError, ExistingFileError, InputError, MissingFileError, listed, shown
from tsdlab.files import new_folder, write_json
from tsdlab.progress import progress_bar
from tsdlab.ranges import FractionBelowOne, Seed, check_value

FormatName = Literal["voc", "yolo", "coco", "cvat", "labelme"]
ImagesAs = Literal["copy", "hardlink", "link"]
FORMATS: dict[str, ModuleType] = {"coco": coco, "cvat": cvat, "labelme": labelme, "voc": voc, "yolo": yolo}


def import_data(
    source: str | Path,
    root: str | Path,
    format: FormatName | None = None,
    images: ImagesAs = "copy",
    val: float = 0.2,
    seed: int = 0,
    skip: bool = False,
    progress: bool = True,
) -> list[str]:
    """Write a data set in another format as a new folder in COCO's format; see `CocoDataset`.

    The source is only read. The folder gets its name when it is complete. The splits of the source are kept; "valid"
    becomes val. If it has no val, a part of its training images is drawn for it.

    Args:
        source: a folder in the format of Pascal VOC, YOLO, COCO, Roboflow, CVAT (images) or LabelMe.
        root: the new folder; it may exist if it is empty.
        format: of the source; None finds out.
        images: "copy" them; "hardlink" takes no space, but an edit of one file changes both; "link" takes no space, but
            the source has to stay where it is.
        val: the fraction of images that is drawn for val if the source has none; 0 leaves val out.
        seed: of that draw. The same files and seed give the same split.
        skip: leave out what cannot be read, and the images that it is about, instead of stopping.
        progress: show a progress bar.

    Returns:
        Remarks, a line each: what was found, decided and left out.

    Raises:
        MissingFileError: there is no such folder.
        ExistingFileError: `root` is not empty, or inside the source.
        DataError: the format is not recognized, or labels cannot be read; names files and lines.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {shown(format)}")
    if images not in get_args(ImagesAs):
        raise InputError(f"images must be one of {', '.join(get_args(ImagesAs))}, got {shown(images)}")
    check_value("val", val, FractionBelowOne)
    check_value("seed", seed, Seed)
    source, root = Path(source), Path(root)
    if source.is_file():
        raise MissingFileError(f"{shown(source)} is a file; give the folder that holds the labels and the images")
    if not source.is_dir():
        raise MissingFileError(f"there is no folder {shown(source)}; unpack the export first, and give its folder")
    if root.resolve().is_relative_to(source.resolve()):
        raise ExistingFileError(f"{shown(root)} is inside {shown(source)}, which is only read; choose another folder")
    with new_folder(root) as partial:
        found = Source(source)
        name = format or _recognized(found)
        FORMATS[name].read(found)
        remarks = [f"read as {name}: {len(found.pictures)} images"]
        if found.problems and skip:
            remarks += [f"left out: {problem}" for problem in found.problems]
            before = len(found.pictures)
            found.pictures = [picture for picture in found.pictures if picture.path not in found.unreadable]
            if len(found.pictures) < before:
                remarks.append(f"images with such labels, left out too: {before - len(found.pictures)}")
        elif found.problems:
            raise DataError(_summary(found))
        if not any(picture.objects or picture.annotations for picture in found.pictures):
            raise DataError(f"{shown(source)} has no image with an object, read as {name}; is it another --format?")
        remarks += found.remarks()
        remarks += _split(found.pictures, val, seed)
        empty = [picture.path for picture in found.pictures if picture.path in found.unlabelled]
        if empty:
            what = f"{len(empty)}, such as {shown(empty[0])}"
            remarks.append(f"images without labels, kept as images without objects: {what}")
        remarks += _write(found, partial, images, progress)
    return remarks


def _recognized(source: Source) -> str:
    matching = [name for name, reader in FORMATS.items() if reader.finds(source)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise DataError(f"{shown(source.root)} may be {' or '.join(matching)}; say which with --format")
    raise DataError(
        f"{shown(source.root)} is in none of the formats {', '.join(FORMATS)}: it has {len(source.images)} images and "
        f"{len(source.files)} other files; give the folder that holds images and labels"
    )


def _summary(source: Source) -> str:
    problems = source.problems
    return (
        f"{shown(source.root)}: {len(problems)} problem(s), nothing was written; correct them, or leave them out "
        "with --skip\n  - " + listed(problems, 20, separator="\n  - ", last="\n  … and ", limit=1000)
    )


def _split(pictures: list[Picture], val: float, seed: int) -> list[str]:
    """Give every picture a split; drops those that the source leaves out of all of its splits."""
    given = {picture.split for picture in pictures} - {None}
    remarks = []
    if given:
        left = [picture for picture in pictures if picture.split is None]
        if left:
            remarks.append(f"images in no split of the source, left out: {len(left)}, such as {shown(left[0].path)}")
        pictures[:] = [picture for picture in pictures if picture.split is not None]
    else:
        for picture in pictures:
            picture.split = "train"
    train = sorted((p for p in pictures if p.split == "train"), key=lambda p: p.path.as_posix())
    if "val" not in given and val > 0 and len(train) > 1:
        drawn = random.Random(seed).sample(train, min(max(1, round(val * len(train))), len(train) - 1))
        for picture in drawn:
            picture.split = "val"
        remarks.append(
            f"no split val in the source: {len(drawn)} of {len(train)} images drawn for it with seed {seed}. Frames of "
            "one video or copies of one image should not be in both splits; then make the split by hand"
        )
    return remarks


def _write(source: Source, root: Path, images: ImagesAs, progress: bool) -> list[str]:
    (root / "annotations").mkdir()
    categories = source.categories
    if categories is None:
        used = {found.name for picture in source.pictures for found in picture.objects}
        names = [*dict.fromkeys(source.names), *sorted(used - set(source.names))]
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    ids = {entry.get("name"): entry.get("id") for entry in categories}
    renamed = 0
    for split in dict.fromkeys(["train", "val", *(str(picture.split) for picture in source.pictures)]):
        pictures = [picture for picture in source.pictures if picture.split == split]
        if not pictures:
            continue
        (root / split).mkdir()
        content: dict[str, list] = {"images": [], "annotations": [], "categories": categories}
        names = _file_names([picture.path for picture in pictures], source.root)
        renamed += sum(name != picture.path.name for name, picture in zip(names, pictures))
        bar = progress_bar(pictures, f"write {split}", shown=progress)
        for number, (picture, name) in enumerate(zip(bar, names), 1):
            _place(picture.path, root / split / name, images)
            _add_entries(content, picture, name, number, ids)
        write_json(annotation_file(root, split), content)
    return [f"{renamed} images have a name that another one has too; their folders are part of their new names"] * (
        renamed > 0
    )


def _add_entries(
    content: dict[str, list], picture: Picture, name: str, number: int, ids: dict[str | None, Any]
) -> None:
    if picture.entry is not None:
        content["images"].append({**picture.entry, "file_name": name})
        content["annotations"] += picture.annotations or []
        return
    width, height = picture.size
    content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
    for found in picture.objects:
        box = [round(float(value), 4) for value in found.box]
        content["annotations"].append(
            {
                "id": len(content["annotations"]) + 1,
                "image_id": number,
                "category_id": ids[found.name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(found.crowd),
            }
        )


def _file_names(paths: Sequence[Path], root: Path) -> list[str]:
    """A name for each image of a split that no other has, on any file system."""
    count: dict[str, int] = {}
    for path in paths:
        count[same_name(path.name)] = count.get(same_name(path.name), 0) + 1
    taken: set[str] = set()
    names = []
    for path in paths:
        name = path.name if count[same_name(path.name)] == 1 else "_".join(path.relative_to(root).parts)
        stem, suffix, number = Path(name).stem, path.suffix, 1
        while same_name(name) in taken or len(os.fsencode(name)) > 255:
            number += 1
            name = f"{stem[:40]}-{number}{suffix}"
        taken.add(same_name(name))
        names.append(name)
    return names


def _place(image: Path, target: Path, images: ImagesAs) -> None:
    if images == "copy":
        shutil.copyfile(image, target)
    elif images == "hardlink":
        target.hardlink_to(image.resolve())
    else:
        target.symlink_to(image.resolve())
