"""Pascal VOC: an XML file for each image.

`ImageSets/Main/<split>.txt` lists the images of a split, if there are such files; otherwise the folder says it. Objects
marked "difficult" become crowds: as in VOC's own evaluation they are neither trained on nor counted as errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tsdlab.data.imports.source import UNSEEN, Found, Source, box_around, split_name, split_of_path


def finds(source: Source) -> bool:
    """Whether one of the first XML files is about one image."""
    return any(_root(path) == "annotation" for path in [p for p in source.files if p.suffix.lower() == ".xml"][:5])


def read(source: Source) -> None:
    """Fill `source`."""
    listed = _listed(source)

    def split_of(path: Path) -> str | None:
        return listed.get(path.stem) if listed else split_of_path(path, source.root)

    first_pixel = None
    for path in (path for path in source.files if path.suffix.lower() == ".xml"):
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            source.problem(path, f"is no XML ({error})")
            continue
        if root.tag != "annotation":
            source.problem(path, f"is no file of Pascal VOC: it begins with <{root.tag}>")
            continue
        folders = (path.parent.parent / "JPEGImages", path.parent.parent / "images")
        names = [name.strip() for name in [root.findtext("filename") or ""] if name.strip()]
        found = (source.find_image(path, name, folders) for name in (*names, path.stem))
        image = next((candidate for candidate in found if candidate is not None), None)
        if image is None:
            source.note(UNSEEN, path.name)
            continue
        objects = list(_objects(root, path, source))
        source.add(image, split_of(path), objects, _size(root))
        edges = [edge for thing in objects for edge in thing.box[:2]]
        first_pixel = min(edges if first_pixel is None else [first_pixel, *edges], default=None)
    source.add_unlabelled(split_of)
    if first_pixel is None:
        return
    # VOC counts pixels from 1, and its xmax is the last pixel inside. Tools that write 0 count from 0.
    if first_pixel >= 1:
        for thing in (thing for picture in source.pictures for thing in picture.objects):
            x, y, width, height = thing.box
            thing.box = [x - 1, y - 1, width + 1, height + 1]
        source.note("pixels are counted from 1, and xmax is the last one inside: VOC's own rule")
    else:
        source.note("pixels are counted from 0, because a box begins there")


def _root(path: Path) -> str | None:
    try:
        return next(element.tag for _, element in ElementTree.iterparse(path, ["start"]))
    except (ElementTree.ParseError, ValueError, LookupError, StopIteration):
        return None


def _listed(source: Source) -> dict[str, str]:
    """Image name → split, from ImageSets/Main."""
    lists = {p.stem: p for p in source.files if p.parent.name == "Main" and p.suffix == ".txt"}
    splits = {name: path for name, path in lists.items() if split_name(name)}
    if not splits and "trainval" in lists:
        splits = {"train": lists["trainval"]}
    found: dict[str, str] = {}
    for name, path in splits.items():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                found.setdefault(line.split()[0], split_name(name) or "train")
    return found


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _objects(root: ElementTree.Element, path: Path, source: Source) -> Iterator[Found]:
    for number, element in enumerate(root.iter("object"), 1):
        name = (element.findtext("name") or "").strip()
        corners = [element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x1, y1, x2, y2 = (float(corner or "") for corner in corners)
            box = box_around([(x1, y1), (x2, y2)])
            if not name:
                raise ValueError("it has no name")
        except ValueError as error:
            source.problem(path, f"object {number} cannot be read ({error})")
            continue
        yield Found(name, box, (element.findtext("difficult") or "").strip() == "1")
