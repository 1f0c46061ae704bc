"""The explorer as one file: what is in it, and what is refused. What it does in a browser: tests/browser."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

import tsdlab
from tsdlab.analysis.proposal import GroundTruth
from tsdlab.analysis.sensitivity import TASKS, Grid, ask_everywhere, build_maps
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.errors import ExistingFileError, InputError, MissingFileError
from tsdlab.models.probe import Probe
from tsdlab.widgets.saved.maps import STEPS
from tsdlab.widgets.saved.text import json_text, packed_text
from tsdlab.widgets.second_stage import packing


class Read(HTMLParser):
    """The script elements by id, every attribute that can load something, and the text outside of scripts."""

    def __init__(self, path):
        super().__init__()
        self.scripts, self.loads, self.text, self.inside = {}, [], "", None
        self.feed(path.read_text(encoding="utf-8"))
        self.stored = json.loads(self.scripts["stored"])

    def handle_starttag(self, tag, attributes):
        self.inside = dict(attributes).get("id", "") if tag in ("script", "style") else None
        self.loads += [value for name, value in attributes if name in ("src", "href", "data", "action", "poster")]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.text += data
        else:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def page(model, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "page.html"
    tsdlab.explore(model, dataset).save(path)
    return path


@pytest.mark.slow
def test_the_page_of_a_shipped_model_and_twelve_images_is_below_12_mb(page):
    assert page.stat().st_size < 12e6
    assert len(Read(page).stored["images"]) == 12


def test_nothing_is_loaded_from_elsewhere(page):
    read = Read(page)
    assert [address for address in read.loads if not address.startswith(("data:", "#"))] == []
    script = "".join(text for name, text in read.scripts.items() if name == "")
    assert set(re.findall(r"https?://[^\s\"']+", script)) <= {"http://www.w3.org/2000/svg"}  # a name, never loaded
    assert not re.search(r"@import|\bimport\(|(?<![.\w])fetch\([^)]|XMLHttpRequest|WebSocket|sendBeacon", script)


PYTHONS = str.maketrans(",./", "&<>")  # the digits that Python's own base 85 has in their place


def unzipped(text):
    filled = "0123".index(text[0])
    packed = base64.b85decode(text[1:].translate(PYTHONS))
    return gzip.decompress(packed[: len(packed) - filled])


def unpacked(text):
    low, high = np.frombuffer(unzipped(text), np.uint8).reshape(2, -1)
    return np.stack([low, high], axis=1).tobytes()


def test_the_layers_and_features_are_those_that_a_notebook_is_sent(page, model, dataset):
    read = Read(page)
    (name,) = read.stored["heads"]["parts"]
    assert unpacked(read.scripts[name]) == packing.pack_head(model).values
    for index in (0, 7):
        pyramids = read.stored["images"][index]["pyramids"]
        expected = packing.pack_pyramid(Probe(model, dataset[index][0]))
        assert unpacked(read.scripts[pyramids["parts"][0]]) == expected.values
        assert pyramids["about"] == [["tsd", json.loads(json.dumps(expected.about))]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 1001])
def test_values_as_text_survive(count):
    values = torch.randn(count).half().numpy().astype("<f2").tobytes()
    text = packed_text(values)
    assert unpacked(text) == values
    assert text.isascii() and not set(text) & set("&<>\"'\\ \n")


def test_names_as_text_survive():
    names = ["</script><script>", "<!--", "]]>", "&amp;", "\u2028", "שלום", "😀", '"']
    assert json.loads(json_text(names)) == names
    assert "<" not in json_text(names) and json_text(names).isascii()


def test_it_opens_as_the_explorer_stands(model, dataset, tmp_path):
    explorer = tsdlab.explore(model, dataset, image_index=5, level="1", proposal=(10, 20, 60, 70), magnify=5)
    explorer.save(tmp_path / "page.html", 3)
    stored = Read(tmp_path / "page.html").stored
    assert [image["message"]["index"] for image in stored["images"]] == [5, 6, 7]
    assert [image["message"]["position"] for image in stored["images"]] == [1, 2, 3]
    assert {name: stored["state"][name] for name in ("image_index", "level", "proposal", "magnify")} == {
        "image_index": 5, "level": "1", "proposal": [10, 20, 60, 70], "magnify": 5,
    }  # fmt: skip
    assert explorer.image_index == 5 and explorer.answer.level == "1"  # and the explorer is as it was


def test_the_list_goes_on_from_its_start_and_is_not_repeated(model, dataset, tmp_path):
    few = Subset(dataset, range(3))
    tsdlab.explore(model, few, image_index=1).save(tmp_path / "page.html", 100)
    stored = Read(tmp_path / "page.html").stored
    assert [image["message"]["index"] for image in stored["images"]] == [1, 2, 0]


def test_images_can_be_named(model, dataset, tmp_path):
    explorer = tsdlab.explore(model, dataset)
    explorer.save(tmp_path / "page.html", [7, 3, 7])
    stored = Read(tmp_path / "page.html").stored
    assert [image["message"]["index"] for image in stored["images"]] == [7, 3]
    assert stored["state"]["image_index"] == 7 and stored["state"]["proposal"] == stored["images"][0]["proposal"]


@pytest.mark.parametrize("images", [0, -1, 1.5, True, "3", [], [12], [-1], [None], ["0"], None])
def test_images_that_are_not_there_are_refused(model, dataset, tmp_path, images):
    with pytest.raises(InputError, match=r"^images"):
        tsdlab.explore(model, dataset).save(tmp_path / "page.html", images)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_on_request_only(model, dataset, tmp_path):
    explorer = tsdlab.explore(model, dataset)
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(ExistingFileError, match="overwrite=True"):
        explorer.save(path, 1)
    assert path.read_text() == "mine"
    explorer.save(str(path), 1, overwrite=True)
    assert path.stat().st_size > 1e6
    with pytest.raises(MissingFileError):
        explorer.save(tmp_path / "no folder" / "page.html", 1)
    with pytest.raises(ExistingFileError, match="is a folder"):
        explorer.save(tmp_path, 1, overwrite=True)


def test_an_image_without_objects_has_no_maps_and_objects_with_one_box_have_them_once(model, dataset, tmp_path):
    pixels, target = dataset[0]
    twice = {"boxes": target["boxes"][:1].repeat(2, 1), "labels": target["labels"][:1].repeat(2)}
    nothing = {"boxes": target["boxes"][:0], "labels": target["labels"][:0]}
    tsdlab.explore(model, [(pixels, nothing), (pixels, twice)]).save(tmp_path / "page.html")
    first, second = (image["maps"]["messages"] for image in Read(tmp_path / "page.html").stored["images"])
    assert first == [] and {each["object"] for each in second} == {0} and len(second) == 4


@pytest.mark.parametrize(("limit", "value"), [("MOST_MULTIPLICATIONS", 1e6), ("MOST_FEATURES", 1e4)])
def test_what_a_page_cannot_compute_is_refused(model, dataset, tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(packing, limit, value)
    explorer = tsdlab.explore({"mine": model}, dataset)
    with pytest.raises(
        InputError, match=r"^mine cannot answer without Python: the .* (has|needs) .* million"
    ) as caught:
        explorer.save(tmp_path / "page.html")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def summed(values, shape):
    """What maps.js makes of the stored values: sums along both axes, which wrap around."""
    return np.cumsum(np.cumsum(values.reshape(shape), axis=0, dtype=np.uint8), axis=1, dtype=np.uint8)


def test_the_maps_of_every_object_level_branch_and_way_of_pooling_are_stored(page, model, dataset):
    image = Read(page).stored["images"][1]
    values = np.frombuffer(unzipped(Read(page).scripts[image["maps"]["part"]]), np.uint8)
    truth, probe, at = GroundTruth.of(dataset[1][1]), Probe(model, dataset[1][0]), 0
    grid = Grid.over_image(probe.image_size, 96)
    for message in image["maps"]["messages"]:
        assert message["model"] == "tsd" and message["image"] == 1
        answers = {level: each for level, each in ask_everywhere(probe, message["pooling"]).items() if level in "012"}
        box, label = truth.boxes[message["object"]], truth.labels[message["object"]].item()
        maps = build_maps(answers, box, label, grid)
        assert list(message["levels"]) == ["0", "1", "2"] and message["shape"] == [96, 96]
        for level, told in message["levels"].items():
            for task in TASKS:
                expected = getattr(maps.levels[level][message["branch"]], task).numpy()
                stored = summed(values[at : at + 96 * 96], (96, 96)) / STEPS * told[task]["top"]
                np.testing.assert_allclose(stored, expected, atol=told[task]["top"] / STEPS)
                assert told[task]["peak"] == pytest.approx(maps.peak(level, message["branch"], task).tolist(), abs=0.06)
                at += 96 * 96
    assert at == len(values)
    kinds = {(each["object"], each["pooling"], each["branch"]) for each in image["maps"]["messages"]}
    assert len(kinds) == len(image["maps"]["messages"]) == len(truth.boxes) * 2 * 2


HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "&lt;b&gt;", "שלום עולם", "日本\u2028語", "{{ 7*7 }}"]


def test_names_of_any_kind_stay_text(model, dataset, tmp_path):
    explorer = tsdlab.explore({HOSTILE[0]: model, "b": model}, dataset, names=HOSTILE)
    explorer.save(tmp_path / "page.html", 1)
    read = Read(tmp_path / "page.html")
    assert read.stored["told"]["fixed"]["names"] == ["background", *HOSTILE]
    assert [name for name in read.scripts if name] == ["stored", "head-0", "head-1", "image-0-0", "image-0-1", "maps-0"]
    assert HOSTILE[0] in read.text
