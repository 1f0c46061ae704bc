"""`tsdlab detect`: which images, what is written, and what happens to images that cannot be read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from command_line import run
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from tsdlab.cli.detect import _drawing_names
from tsdlab.data import CocoDataset
from tsdlab.data.image_files import find_images
from tsdlab.errors import InputError, MissingFileError
from tsdlab.evaluation import collect_detections
from tsdlab.models.weights import load_detector

EVERYTHING = ["--score-thresh", 0.0, "--device", "cpu"]


def results(out: Path) -> tuple[dict, list]:
    return json.loads((out / "images.json").read_text()), json.loads((out / "detections.json").read_text())


# What is written


def test_results_are_cocos_and_equal_to_evaluation(tiny_weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("detect", tiny_weights, tiny_data / "val", "--out", out, "--draw", "nothing", *EVERYTHING)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(out / "images.json"))
        loaded = truth.loadRes(str(out / "detections.json"))
    by_name = {Path(image["file_name"]).name: image["id"] for image in truth.loadImgs(truth.getImgIds())}
    dataset = CocoDataset(tiny_data, "val")
    wanted = collect_detections(load_detector(tiny_weights, score_thresh=0.0), dataset, 1, progress=False)
    assert wanted
    for image_id, path in zip(dataset.image_ids, dataset.files[1:]):
        found = sorted(
            (a["score"], a["category_id"], *a["bbox"])
            for a in loaded.loadAnns(loaded.getAnnIds(imgIds=[by_name[path.name]]))
        )
        expected = sorted((d["score"], d["category_id"], *d["bbox"]) for d in wanted if d["image_id"] == image_id)
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-4)
    assert truth.loadCats(truth.getCatIds()) == [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    assert all((image["width"], image["height"]) == (64, 64) for image in truth.loadImgs(truth.getImgIds()))
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "images.json"]


def test_batches_change_nothing_but_the_speed(tiny_weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    for number, size in enumerate([(64, 64), (96, 64), (64, 64), (64, 96), (96, 64), (64, 64), (64, 64)]):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.open(tiny_data / "val/11.png").rotate(number * 40).resize(size).save(tmp_path / f"in/{number}.png")
    found = []
    for batch_size in (1, 3):
        out = tmp_path / f"out{batch_size}"
        options = ["--draw", "nothing", "--batch-size", batch_size, *EVERYTHING]
        run("detect", tiny_weights, tmp_path / "in", "--out", out, *options)
        found.append(sorted((d["image_id"], d["category_id"], d["score"], *d["bbox"]) for d in results(out)[1]))
    assert {row[0] for row in found[0]} == {*range(1, 8)}
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]), rtol=0, atol=1e-3)


def test_an_image_that_cannot_be_read_ends_nothing(
    tiny_weights: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(tiny_data / "val", folder)
    (folder / "10.png").write_bytes((folder / "10.png").read_bytes()[:200])
    (folder / "a.jpg").touch()
    (folder / "dangling.png").symlink_to("gone.png")
    os.mkfifo(folder / "pipe.png")
    Image.new("RGB", (1, 3000)).save(folder / "thin.png")  # it can be read, but the detector refuses it
    (tmp_path / "list.txt").write_text("in/10.png\nin/11.png\nno/such.png\n")
    for words, failed, images in (([folder], 5, 9), ([tmp_path / "list.txt"], 2, 3)):
        out = tmp_path / f"out{images}"
        run("detect", tiny_weights, *words, "--out", out, *EVERYTHING, exits=1)
        said = capsys.readouterr()
        assert f"{failed} of {images} images cannot be used" in said.err.splitlines()[-1]
        assert "10.png cannot be decoded" in said.err and "Traceback" not in said.err
        listed, found = results(out)
        assert len(listed["images"]) == images - failed
        assert {result["image_id"] for result in found} == {image["id"] for image in listed["images"]}
        assert len(list(out.glob("*.png"))) == images - failed


def test_a_line_of_a_list_that_is_no_path_is_named_like_a_bad_image(
    tiny_weights: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["x" * 5000, "a\0b.png", "a/" * 4000, "\udcff.png", str(tiny_data / "val/11.png"), "~nobody/x"]
    (tmp_path / "list.txt").write_text("\n".join(lines), errors="surrogateescape")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images.json").touch()
    run("detect", tiny_weights, tmp_path / "list.txt", "--out", tmp_path / "out", "--overwrite", exits=1)
    said = capsys.readouterr().err.splitlines()
    assert "5 of 6 images cannot be" in said[-1] and len(said) == 6 and max(map(len, said)) < 1000
    assert [image["id"] for image in results(tmp_path / "out")[0]["images"]] == [5]


def test_a_list_that_is_no_file_or_never_ends_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("a", "/dev/zero"), ("b", tmp_path / "pipe"), ("c", "gone")):
        (tmp_path / f"{name}.txt").symlink_to(target)
        with pytest.raises(MissingFileError, match=rf"{name}\.txt leads to no file"):
            find_images([str(tmp_path / f"{name}.txt")])
    with (tmp_path / "long.txt").open("wb") as file:
        file.truncate(100_000_001)  # takes no space
    with pytest.raises(InputError, match=r"long\.txt has more than 100 MB"):
        find_images([str(tmp_path / "long.txt")])


def test_ctrl_c_keeps_what_is_done(
    tiny_weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsdlab.data import images

    read, seen = images.read_image, []

    def pressed_at_the_third(path: Path) -> torch.Tensor:
        seen.append(path)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(images, "read_image", pressed_at_the_third)
    run("detect", tiny_weights, tiny_data / "val", "--out", tmp_path / "out", *EVERYTHING, exits=130)
    listed, found = results(tmp_path / "out")
    assert [image["id"] for image in listed["images"]] == [1, 2] == sorted({result["image_id"] for result in found})


# Drawings


def test_drawings_have_the_size_and_kind_of_their_image(tiny_weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    sizes = {"photo.JPG": (613, 401), "drawing.png": (400, 433), "tiny.gif": (30, 17)}
    (tmp_path / "in").mkdir()
    for name, size in sizes.items():
        Image.open(tiny_data / "val/11.png").resize(size).save(tmp_path / "in" / name)
    run("detect", tiny_weights, tmp_path / "in", "--out", tmp_path / "out", *EVERYTHING)
    drawn = {path.name: Image.open(path) for path in (tmp_path / "out").iterdir() if path.suffix != ".json"}
    assert {name: (image.format, image.size) for name, image in drawn.items()} == {
        "photo.jpg": ("JPEG", (613, 401)),
        "drawing.png": ("PNG", (400, 433)),
        "tiny.png": ("PNG", (30 * 27, 17 * 27)),
    }
    assert {image["drawn"] for image in results(tmp_path / "out")[0]["images"]} == set(drawn)


def test_proposals_are_drawn_for_every_head(tiny_weights: Path, tiny_data: Path, tmp_path: Path) -> None:
    for weights in (tiny_weights, "badges-sibling"):
        out = tmp_path / Path(weights).stem
        run("detect", weights, tiny_data / "val/11.png", "--out", out, "--draw", "proposals", *EVERYTHING)
        assert Image.open(out / "11.png").size[0] > 400


@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1, max_size=90))
)
@example(["a.png", "A.png", "a-2.png", "b/a.png", "a.gif"])
@example(["é.png", "e\u0301.png", "É.png"])
@example(["名" * 85 + ".png", "名" * 84 + "字.png"])
@example(["detections.json", "images.json", "x.jpeg", "x.jpg", "\udcff.png"])
def test_drawings_never_share_a_name(names: list[str]) -> None:
    drawn = _drawing_names([Path(name) for name in names if name not in (".", "..")], "detections")
    keys = {unicodedata.normalize("NFC", str(name)).casefold() for name in drawn} | {"detections.json", "images.json"}
    assert len(keys) == len(drawn) + 2
    assert all(len(os.fsencode(str(name))) < 240 and "/" not in str(name) for name in drawn)


# Which images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images in two folders."""
    for name in ("a.png", "b.JPG", "deep/c.tiff", "deep/er/d.webp", ".hidden/e.png", "out/a.png", "[x].png", "f.dat"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(path, format="png")
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "deep/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "deep/list.txt").write_text("\ufeffc.tiff\n\n  a.png  \r\nno.png\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["b.JPG", "a.png"], ["b.JPG", "a.png"]),
        (["deep/er"], ["deep/er/d.webp"]),
        (["*.png"], ["[x].png", "a.png"]),
        (["[x].png"], ["[x].png"]),  # a file of that name comes before the pattern
        (["**/*.webp"], ["deep/er/d.webp"]),
        (["?.*"], ["a.png", "b.JPG"]),  # f.dat does not look like an image, and neither does x.json
        (["f.dat"], ["f.dat"]),
        (["a.png", "./a.png", "deep/../a.png", "*.png"], ["a.png", "[x].png"]),
        (["deep/list.txt"], ["deep/c.tiff", "a.png", "no.png"]),
    ],
)
def test_words_become_images(words: list[str], expected: list[str], photos: Path) -> None:
    assert [str(path) for path in find_images(words, Path("out"))] == expected


def test_a_folder_is_searched_once_and_without_the_results(photos: Path) -> None:
    found = [str(path) for path in find_images(["."], Path("out"))]
    assert found == ["[x].png", "a.png", "b.JPG", "deep/c.tiff", "deep/er/d.webp"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "an empty name"),
        (" ", "an empty name"),
        ("x.json", "x.json is not an image"),
        ("notes.md", "notes.md is not an image"),
        ("no.png", "no file or folder no.png"),
        ("no", "no file or folder no;"),
        ("empty", "empty has no images"),
        ("*.bmp", r"\*.bmp has no images"),
    ],
)
def test_a_word_that_means_no_image_is_named(
    word: str, message: str, photos: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((InputError, MissingFileError), match=message):
        find_images(["a.png", word])
    run("detect", tiny_weights, "a.png", word, "--out", "new", exits=1)
    said = capsys.readouterr().err
    assert said.startswith("tsdlab: ") and said.count("\n") == 1
    assert not (photos / "new").exists()
