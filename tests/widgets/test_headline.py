"""What an explorer says in words. tests/browser compares it with the page."""

import pytest

import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset
from tsdlab.widgets.explorer.headline import find_headline


@pytest.fixture(scope="module")
def dataset():
    return CocoDataset(SAMPLE, "val")


def said(explorer):
    lines = find_headline(["background", *explorer.names], explorer._image, explorer._answer)
    return ["".join(text for text, _ in line) for line in lines]


def test_one_model(dataset):
    explorer = tsdlab.explore(tsdlab.load_detector("badges-tsd"), dataset)
    answer, moved = explorer.answer, explorer._answer["models"]["tsd"]["levels"][explorer.answer.level]["regions"]
    far = [f"{100 * moved[task]['moved']:.1f} %" for task in ("classification", "localization")]
    first, second = said(explorer)
    assert first == f"Classification moved {far[0]}, localization {far[1]} of P."
    sibling, tsd = answer.sibling, answer.tsd
    name = explorer.names[answer.nearest.label - 1]
    assert second == (
        f"P fits ‘{name}’ at IoU {answer.nearest.overlap:.2f} → "
        f"sibling: score {sibling.score:.2f}, box IoU {sibling.iou:.2f} · "
        f"tsd: score {tsd.score:.2f}, box IoU {tsd.iou:.2f}."
    )
    explorer.proposal = (500, 500, 600, 600)
    assert said(explorer)[1].startswith("P lies outside the image → sibling: ")
    explorer.proposal = (30, 30, 30, 60)
    assert said(explorer)[0] == "P has no area, so no displacement can be compared with it."


def test_an_image_without_objects_and_a_head_that_moves_nothing(dataset):
    explorer = tsdlab.explore(tsdlab.load_detector("badges-sibling"), dataset[0][0])
    first, second = said(explorer)
    assert first == "Both tasks read P itself, nothing is moved."
    assert second.startswith("The image has no objects to compare with → sibling: ‘")


def test_a_head_that_moves_one_task(dataset):
    explorer = tsdlab.explore(tsdlab.load_detector("badges-tsd"), dataset)
    names, answer = ["background", *explorer.names], explorer._answer
    own = answer["models"]["tsd"]
    del own["levels"][own["level"]]["regions"]["localization"]
    (line, _) = find_headline(names, explorer._image, answer)
    assert "".join(text for text, _ in line).endswith("% of P, localization reads P itself.")


def test_each_of_several_models_has_a_line(dataset):
    models = {name: tsdlab.load_detector(f"badges-{name}") for name in ("sibling", "tsd")}
    explorer = tsdlab.explore(models, dataset)
    explorer.proposal = (0, 0, 3, 3)
    fit, *lines = said(explorer)
    assert fit.startswith("P overlaps no object, the nearest one is ‘")
    assert lines[0].startswith("sibling: both tasks read P itself, nothing is moved → ")
    assert lines[1].startswith("tsd: classification moved ") and "IoU" not in lines[1]
