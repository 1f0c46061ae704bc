"""Three images with their objects, written as the programs and the data sets of each format write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

SIZE = (80, 40)  # width, height
# Image → class and [x, y, width, height] of its objects; whole pixels, so that every format can say them exactly.
BOXES: dict[str, list[tuple[str, list[int]]]] = {
    "one": [("Katze & 犬", [8, 4, 16, 20]), ("fox", [40, 10, 8, 10])],
    "two.v2": [("fox", [16, 2, 24, 30])],
    "empty": [],
}


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 120, 0)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def voc_text(name: str, objects: list[tuple[str, list[int]]], extra: str = "", size: tuple[int, int] = SIZE) -> str:
    """VOC counts from 1, and xmax is inside."""
    parts = [
        f"<object><name>{escape(label)}</name>{extra}<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for label, (x, y, w, h) in objects
    ]
    size_tag = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size_tag}{''.join(parts)}</annotation>"


def voc(root: Path, split: str, name: str) -> None:
    """As the VOC challenges came."""
    picture(root / "JPEGImages" / f"{name}.png")
    write(root / "Annotations" / f"{name}.xml", voc_text(f"{name}.png", BOXES[name]))
    with (write(root / "ImageSets/Main/.keep", "").parent / f"{split}.txt").open("a") as file:
        file.write(f"{name}\n")


def roboflow_voc(root: Path, split: str, name: str) -> None:
    picture(root / split.replace("val", "valid") / f"{name}.png")
    write(root / split.replace("val", "valid") / f"{name}.xml", voc_text(f"{name}.png", BOXES[name]))


YOLO_NAMES = ["fox", "never seen", "Katze & 犬"]


def yolo_lines(name: str) -> str:
    return "".join(
        f"{YOLO_NAMES.index(label)} {(x + w / 2) / SIZE[0]} {(y + h / 2) / SIZE[1]} {w / SIZE[0]} {h / SIZE[1]}\n"
        for label, (x, y, w, h) in BOXES[name]
    )


def ultralytics(root: Path, split: str, name: str) -> None:
    picture(root / "images" / split / f"{name}.png")
    if BOXES[name]:
        write(root / "labels" / split / f"{name}.txt", yolo_lines(name))
    write(
        root / "data.yaml",
        f"path: ../datasets/x\ntrain: images/train\nval: images/val\nnames: {json.dumps(YOLO_NAMES)}",
    )


def roboflow_yolo(root: Path, split: str, name: str) -> None:
    folder = root / split.replace("val", "valid")
    picture(folder / "images" / f"{name}.png")
    write(folder / "labels" / f"{name}.txt", yolo_lines(name))
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(YOLO_NAMES))
    write(root / "data.yaml", f"train: ../train/images\nval: ../valid/images\nnames:\n{names}")


def darknet(root: Path, split: str, name: str) -> None:
    """Lists of paths, polygons for boxes, and labels beside the images."""
    picture(root / "data" / f"{name}.png")
    lines = [
        f"{YOLO_NAMES.index(label)} " + " ".join(f"{px / SIZE[0]} {py / SIZE[1]}" for px, py in
                                                 ((x, y), (x + w, y), (x + w, y + h), (x, y + h / 2)))
        for label, (x, y, w, h) in BOXES[name]
    ]  # fmt: skip
    write(root / "data" / f"{name}.txt", "\n".join(lines))
    write(root / "data/obj.names", "\n".join(YOLO_NAMES))
    write(root / "data.yaml", f"train: train.txt\nval: val.txt\nnames: {json.dumps(YOLO_NAMES)}")
    with (root / f"{split}.txt").open("a") as file:
        file.write(f"data/{name}.png\n")


def add_coco(file: Path, name: str, path: str, categories: list[dict]) -> None:
    content = (
        json.loads(file.read_text()) if file.exists() else {"images": [], "annotations": [], "categories": categories}
    )
    image_id = 10**17 + len(content["images"])
    content["images"].append({"id": image_id, "file_name": path, "width": SIZE[0], "height": SIZE[1]})
    for label, box in BOXES[name]:
        category = next(c["id"] for c in categories if c["name"] == label)
        content["annotations"].append(
            {
                "id": len(content["annotations"]),
                "image_id": image_id,
                "category_id": category,
                "bbox": box,
                "iscrowd": 0,
            }
        )
    write(file, json.dumps(content))


def coco(root: Path, split: str, name: str) -> None:
    """COCO's own layout."""
    picture(root / f"{split}2017" / f"{name}.png")
    categories = [{"id": 17, "name": "Katze & 犬"}, {"id": 90, "name": "fox"}]
    add_coco(root / "annotations" / f"instances_{split}2017.json", name, f"{name}.png", categories)
    write(root / "annotations" / f"captions_{split}2017.json", '{"images": [], "annotations": [], "categories": []}')


def roboflow_coco(root: Path, split: str, name: str) -> None:
    folder = root / split.replace("val", "valid")
    picture(folder / f"{name}.png")
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "Katze & 犬", "supercategory": "animals"},
        {"id": 2, "name": "fox", "supercategory": "animals"},
    ]
    add_coco(folder / "_annotations.coco.json", name, f"{name}.png", categories)


def cvat(root: Path, split: str, name: str) -> None:
    picture(root / "images" / split / f"{name}.png")
    shapes = [
        f'<box label={quoteattr(label)} source="manual" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
        if label == "fox"
        else f'<polygon label={quoteattr(label)} points="{x},{y + 1};{x + w - 1},{y};{x + w},{y + h}"/>'
        for label, (x, y, w, h) in BOXES[name]
    ]
    sizes = f'width="{SIZE[0]}" height="{SIZE[1]}"'
    image = f'<image id="0" name="{name}.png" subset="{split}" {sizes}>{"".join(shapes)}</image>'
    file = root / "annotations.xml"
    labels = "".join(f"<label><name>{escape(n)}</name></label>" for n in ("fox", "Katze & 犬"))
    empty = f"<annotations><version>1.1</version><meta><job><labels>{labels}</labels></job></meta></annotations>"
    text = file.read_text(encoding="utf-8") if file.exists() else empty
    write(file, text.replace("</annotations>", image + "</annotations>"))


def labelme(root: Path, split: str, name: str) -> None:
    picture(root / split / f"{name}.png")
    shapes = [
        {"label": label, "shape_type": "rectangle", "points": [[x + w, y], [x, y + h]]}
        for label, (x, y, w, h) in BOXES[name]
    ]
    content = {"imagePath": f"..\\{split}\\{name}.png", "imageWidth": 80, "imageHeight": 40, "shapes": shapes}
    write(root / split / f"{name}.json", json.dumps(content))


Writer = Callable[[Path, str, str], None]
WRITERS: dict[str, tuple[str, Writer]] = {
    "voc": ("voc", voc),
    "roboflow voc": ("voc", roboflow_voc),
    "ultralytics": ("yolo", ultralytics),
    "roboflow yolo": ("yolo", roboflow_yolo),
    "darknet": ("yolo", darknet),
    "coco": ("coco", coco),
    "roboflow coco": ("coco", roboflow_coco),
    "cvat": ("cvat", cvat),
    "labelme": ("labelme", labelme),
}
