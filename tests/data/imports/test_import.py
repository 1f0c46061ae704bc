"""Data sets in other formats become the same folder in COCO's format, and nothing of them is lost or made up."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from exports import BOXES, SIZE, WRITERS, labelme, picture, ultralytics, voc_text, write
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdlab.data import CocoDataset
from tsdlab.data.imports import import_data
from tsdlab.errors import DataError, ExistingFileError, InputError, MissingFileError


def found(root: Path, split: str) -> dict[str, list[tuple[str, list[float]]]]:
    dataset = CocoDataset(root, split)
    result = {}
    for index, path in enumerate(dataset.files[1:]):
        image, target = dataset[index]
        assert image.shape == (3, SIZE[1], SIZE[0])
        boxes = target["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        names = [dataset.categories[label - 1].name for label in target["labels"]]
        result[path.stem] = list(zip(names, [[round(v, 3) for v in box] for box in boxes.tolist()]))
    return result


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_format_becomes_the_same_folder(layout: str, tmp_path: Path) -> None:
    name, writer = WRITERS[layout]
    for split, images in (("train", ["one", "empty"]), ("val", ["two.v2"])):
        for image in images:
            writer(tmp_path / "source", split, image)
    before = snapshot(tmp_path / "source")
    remarks = import_data(tmp_path / "source", tmp_path / "out", progress=False)
    assert remarks[0] == f"read as {name}: 3 images"
    assert found(tmp_path / "out", "train") == {image: BOXES[image] for image in ("one", "empty")}
    assert found(tmp_path / "out", "val") == {"two.v2": BOXES["two.v2"]}
    assert snapshot(tmp_path / "source") == before
    classes = {category.name for category in CocoDataset(tmp_path / "out", "val").categories}
    assert classes == {"fox", "Katze & 犬"} | ({"never seen"} if name == "yolo" else set())
    if name == "coco":
        assert CocoDataset(tmp_path / "out", "train").image_ids == [10**17, 10**17 + 1]


@pytest.mark.parametrize("layout", WRITERS)
def test_what_is_no_file_is_named_and_never_waited_for(layout: str, tmp_path: Path) -> None:
    name, writer = WRITERS[layout]
    source = tmp_path / "source"
    for split, image in (("train", "one"), ("val", "two.v2")):
        writer(source, split, image)
    (source / "Main").mkdir()
    places = [f"a.{suffix}" for suffix in ("json", "txt", "xml", "yaml", "names")] + ["Main/train.txt", "plain"]
    for place in places:
        os.mkfifo(source / place)
    (source / "endless.json").symlink_to("/dev/zero")
    (source / "gone.xml").symlink_to("nowhere")
    with pytest.raises(DataError, match="source: 9 problem") as caught:
        import_data(source, tmp_path / "out", name, progress=False)
    assert all(f"{source / place}: is not a file" in str(caught.value) for place in (*places, "endless.json"))
    remarks = import_data(source, tmp_path / "out", skip=True, progress=False)
    assert remarks[0] == f"read as {name}: 2 images"
    assert found(tmp_path / "out", "val") == {"two.v2": BOXES["two.v2"]}


@pytest.mark.parametrize("images", ["copy", "hardlink", "link"])
def test_images_are_copied_or_linked(images, tmp_path: Path) -> None:
    labelme(tmp_path / "source", "train", "one")
    import_data(tmp_path / "source", tmp_path / "out", images=images, val=0, progress=False)
    image = tmp_path / "out/train/one.png"
    assert image.is_symlink() == (images == "link")
    assert image.samefile(tmp_path / "source/train/one.png") == (images != "copy")
    assert found(tmp_path / "out", "train") == {"one": BOXES["one"]}


@pytest.mark.parametrize("val", [0, 0.2, 0.9])
def test_a_split_is_drawn_where_there_is_none_and_always_the_same(val: float, tmp_path: Path) -> None:
    for number in range(10):
        picture(tmp_path / f"source/{number}.png")
        write(tmp_path / f"source/{number}.txt", "0 0.5 0.5 0.5 0.5")
    write(tmp_path / "source/classes.txt", "fox\n")

    def drawn(out: str, seed: int) -> set[str]:
        import_data(tmp_path / "source", tmp_path / out, val=val, seed=seed, progress=False)
        assert len(list((tmp_path / out).glob("*/*.png"))) == 10
        return {path.name for path in (tmp_path / out / "val").glob("*")}

    once = drawn("a", 0)
    assert len(once) == round(10 * val) and once == drawn("b", 0)
    assert val == 0 or any(drawn(f"c{seed}", seed) != once for seed in (1, 2, 3))


def test_images_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    for folder, width in (("a", 80), ("b", 60), ("B2", 50)):
        picture(tmp_path / "source" / folder / ("x.png" if folder != "B2" else "X.png"), (width, 40))
        label = "x.txt" if folder != "B2" else "X.txt"
        write(tmp_path / "source" / folder / label, f"0 0.5 0.5 {8 / width} 0.5")
    write(tmp_path / "source/classes.txt", "fox")
    remarks = import_data(tmp_path / "source", tmp_path / "out", val=0, progress=False)
    assert any("3 images have a name that another one has too" in remark for remark in remarks)
    dataset = CocoDataset(tmp_path / "out", "train")
    assert [path.name for path in dataset.files[1:]] == ["B2_X.png", "a_x.png", "b_x.png"]
    for size, index in (((50, 40), 0), ((80, 40), 1), ((60, 40), 2)):
        image, target = dataset[index]
        assert image.shape[2] == size[0]
        (box,) = target["boxes"].tolist()
        assert box == pytest.approx([size[0] / 2 - 4, 10, size[0] / 2 + 4, 30])


def test_voc_difficult_objects_are_crowds_and_a_zero_says_how_pixels_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "source/a.png")
    text = voc_text("a.png", [("fox", [-1, 4, 17, 20])], "<difficult>1</difficult>")
    write(tmp_path / "source/a.xml", text)
    remarks = import_data(tmp_path / "source", tmp_path / "out", val=0, progress=False)
    assert any("counted from 0" in remark for remark in remarks)
    (annotation,) = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
    assert (annotation["bbox"], annotation["iscrowd"]) == ([0, 5, 16, 19], 1)


def test_shapes_become_the_boxes_around_them(tmp_path: Path) -> None:
    picture(tmp_path / "source/a.png")
    shapes = """<box label="s" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>
      <ellipse label="s" cx="40" cy="20" rx="10" ry="5"/>
      <mask label="s" left="3" top="4" width="5" height="6" rle="1"/> <points label="s" points="3,4"/>"""
    text = f'<annotations><image id="0" name="a.png" width="80" height="40">{shapes}</image></annotations>'
    write(tmp_path / "source/x.xml", text)
    remarks = import_data(tmp_path / "source", tmp_path / "cvat", val=0, progress=False)
    assert "shapes without a box (points), left out: 1, such as a.png" in remarks
    boxes = [box for _, box in found(tmp_path / "cvat", "train")["a"]]
    assert boxes == [[15, 5, 10, 20], [30, 15, 20, 10], [3, 4, 5, 6]]
    (tmp_path / "source/x.xml").unlink()
    shapes = [{"label": "s", "shape_type": "circle", "points": [[20, 20], [20, 26]]},
              {"label": "s", "shape_type": "polygon", "points": [[5, 5], [15, 8], [9, 25]]},
              {"label": "s", "shape_type": "point", "points": [[5, 5]]}]  # fmt: skip
    write(tmp_path / "source/a.json", json.dumps({"imagePath": "a.png", "shapes": shapes}))
    import_data(tmp_path / "source", tmp_path / "labelme", val=0, progress=False)
    assert [box for _, box in found(tmp_path / "labelme", "train")["a"]] == [[14, 14, 12, 12], [5, 5, 10, 20]]


BROKEN: dict[str, tuple[str, str, str]] = {  # file, its text, what is said about it
    "too few numbers": ("b.txt", "0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5", "b.txt: line 2 .*3 numbers"),
    "a word": ("b.txt", "0 0.5 half 0.5 0.5", "b.txt: line 1 .*half"),
    "pixels": ("b.txt", "0 40 20 16 8", "b.txt: line 1 .*fractions"),
    "not a number": ("b.txt", "0 nan 0.5 0.5 0.5", "b.txt: line 1 .*fractions"),
    "an unknown class": ("b.txt", "\n1 0.5 0.5 0.5 0.5", "b.txt: line 2 .*class 1 is not among the 1 names"),
    "half a class": ("b.txt", "0.5 0.5 0.5 0.5 0.5", "b.txt: line 1 .*class 0.5"),
    "names cut off": ("data.yaml", "names: [fox", "data.yaml: is no YAML"),
    "a negative side": ("b.txt", "0 0.5 0.5 -0.01 0.5", "b.txt: line 1 .*negative"),
    "scores": ("b.txt", "0 0.5 0.5 0.5 0.5 0.9", "b.txt: line 1 .*5 numbers"),
    "xml cut off": ("b.xml", "<annotation><object>", "b.xml: is no XML"),
    "xml without a corner": (
        "b.xml",
        voc_text("b.png", [("f", [1, 1, 2, 2])]).replace("xmin", "min"),
        "b.xml: object 1",
    ),
    "xml without a name": ("b.xml", voc_text("b.png", [(" ", [1, 1, 2, 2])]), "b.xml: object 1 .*no name"),
    "xml of another size": ("b.xml", voc_text("b.png", [("f", [1, 1, 2, 2])], size=(160, 80)), "b.png is 80×40"),
    "json cut off": ("b.json", '{"shapes": [', "b.json: is no file of LabelMe .*no JSON"),
    "json without points": ("b.json", '{"shapes": [{"label": "x"}]}', "b.json: shape 1 .*points"),
    "json with text": ("b.json", '{"shapes": [{"label": "x", "points": [["a", 1], [2, 3]]}]}', "b.json: shape 1"),
    "json with a number": ("b.json", '{"shapes": [3]}', "b.json: shape 1"),
}


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 99)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data.yaml", "names: {0: a, 0: b}", "is no YAML .*the key '0' is given twice"),
        ("data.yaml", "names: {0: a, 00: b}", "names: class 0 is given twice"),
        ("data.yaml", "names: [a]\nnames: [b]", "is no YAML .*the key 'names' is given twice"),
        ("data.yaml", "names: [b, a, a]", "names: 'a' is the name of the classes 1 and 2"),
        ("data.yaml", "names: {0: a, 7: a}", "names: 'a' is the name of the classes 0 and 7"),
        ("classes.txt", "a\nb\na", "names: 'a' is the name of the classes 0 and 2"),
        ("data.yaml", "names: 5", "names must be a list of names, got '5'"),
        ("data.yaml", "names: fox", "names must be a list of names, got 'fox'"),
        ("data.yaml", "names: {-1: a}", "names must be numbered from 0, got '-1'"),
        ("data.yaml", "names: {fox: 0}", "names must be numbered from 0, got 'fox'"),
        ("data.yaml", "names: [[a, b]]", "names: class 0 must be called by a text, got a list"),
        ("data.yaml", "names: {0: {en: a}}", "names: class 0 must be called by a text, got a list or a mapping"),
        ("data.yaml", "names: [a, '']", "names: class 1 must be called by a text, got nothing"),
        ("data.yaml", BOMB + "names: *a8", r"the alias \*a0 in line 2; write out"),
        ("data.yaml", "a: &a [fox]\nnames: *a", r"the alias \*a in line 2; write out"),
        ("data.yaml", "names: &a [*a]", "is no YAML"),
    ],
)  # fmt: skip
def test_names_of_classes_are_neither_changed_nor_invented(file: str, text: str, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "source/a.png")
    write(tmp_path / "source/a.txt", "0 0.5 0.5 0.5 0.5")
    write(tmp_path / "source" / file, text)
    with pytest.raises(DataError, match=f"{file}: .*{message}"):
        import_data(tmp_path / "source", tmp_path / "out", progress=False)


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    file, text, message = BROKEN[case]
    source, out = tmp_path / "source", tmp_path / "out"
    good = {
        ".txt": "0 0.5 0.5 0.5 0.5",
        ".yaml": "",
        ".xml": voc_text("a.png", [("f", [1, 1, 2, 2])]),
        ".json": '{"imagePath": "a.png", "shapes": [{"label": "f", "points": [[1, 2], [5, 6]]}]}',
    }
    for name in "ab":
        picture(source / f"{name}.png")
    write(source / f"a{Path(file).suffix}", good[Path(file).suffix])
    write(source / file, text)
    if file.endswith(("txt", "yaml")):
        write(source / "a.txt", good[".txt"])
        write(source / "classes.txt", "fox")
    with pytest.raises(DataError, match=message):
        import_data(source, out, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    remarks = import_data(source, out, skip=True, val=0, progress=False)
    assert any(remark.startswith("left out: ") for remark in remarks)
    assert found(out, "train")["a"]
    assert Path(file).stem != "b" or "b" not in found(out, "train")  # it would be an image without objects


def test_what_has_no_counterpart_is_kept_or_named(tmp_path: Path) -> None:
    ultralytics(tmp_path / "source", "train", "one")
    picture(tmp_path / "source/images/train/unlabelled.png")
    write(tmp_path / "source/labels/train/gone.txt", "0 0.5 0.5 0.5 0.5")
    picture(tmp_path / "source/cover.png")
    remarks = "\n".join(import_data(tmp_path / "source", tmp_path / "out", val=0, progress=False))
    assert "images without labels, kept as images without objects: 1, such as" in remarks
    assert "unlabelled.png" in remarks
    assert "labels without an image, left out: 1, such as gone.txt" in remarks
    assert "images in no split of the source, left out: 1, such as" in remarks and "cover.png" in remarks
    assert found(tmp_path / "out", "train") == {"one": BOXES["one"], "unlabelled": []}


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    picture(source / "a.png")
    with pytest.raises(DataError, match="none of the formats"):
        import_data(source, tmp_path / "out", progress=False)
    write(source / "a.xml", voc_text("a.png", []))
    write(source / "a.json", '{"shapes": []}')
    with pytest.raises(DataError, match="labelme or voc; say which with --format"):
        import_data(source, tmp_path / "out", progress=False)
    with pytest.raises(MissingFileError):
        import_data(tmp_path / "no", tmp_path / "out", progress=False)
    with pytest.raises(ExistingFileError, match="is inside"):
        import_data(source, source / "out", progress=False)
    with pytest.raises(InputError, match="format must be one of"):
        import_data(source, tmp_path / "out", format="tfrecord", progress=False)  # type: ignore[arg-type]
    (source / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"a\.png cannot be decoded"):
        import_data(source, tmp_path / "out", format="voc", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]), min_size=1).filter(str.strip),
            st.tuples(*[st.integers(0, 38)] * 2, *[st.integers(2, 40)] * 2),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_boxes_and_names_arrive_as_they_were(objects: list[tuple[str, tuple[int, int, int, int]]]) -> None:
    """The same objects through YOLO's fractions, VOC's inclusive pixels and LabelMe's corners."""
    wanted = [(name.strip(), [x, y, min(w, SIZE[0] - x), min(h, SIZE[1] - y)]) for name, (x, y, w, h) in objects]
    names = list(dict.fromkeys(name for name, _ in wanted))
    yolo = [
        f"{names.index(n)} {(x + w / 2) / 80!r} {(y + h / 2) / 40!r} {w / 80!r} {h / 40!r}"
        for n, (x, y, w, h) in wanted
    ]
    shapes = [{"label": n, "shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]} for n, (x, y, w, h) in wanted]
    texts = {
        "a.txt": "\n".join(yolo),
        "a.xml": voc_text("a.png", wanted),
        "a.json": json.dumps({"imagePath": "a.png", "shapes": shapes}),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, (file, text) in enumerate(texts.items()):
            source, out = Path(folder) / f"{number}", Path(folder) / f"out{number}"
            picture(source / "a.png")
            write(source / file, text)
            if file == "a.txt":
                write(source / "data.yaml", "names: " + json.dumps(names, ensure_ascii=False))
            import_data(source, out, val=0, progress=False)
            assert [(n, pytest.approx(b)) for n, b in wanted] == found(out, "train")["a"], file


def test_names_that_yaml_takes_for_values_stay_names(tmp_path: Path) -> None:
    picture(tmp_path / "source/a.png")
    write(tmp_path / "source/a.txt", "1 0.5 0.5 0.5 0.5")
    write(tmp_path / "source/data.yaml", "names: [no, 1_000, 1.10, ~]")
    import_data(tmp_path / "source", tmp_path / "out", val=0, progress=False)
    names = [category.name for category in CocoDataset(tmp_path / "out", "train").categories]
    assert names == ["no", "1_000", "1.10", "~"]
