"""How an explorer starts: its page is shown before a model is asked, and the picture is drawn last."""

import json
import subprocess
import sys

import pytest

import tsdlab

# Shows an explorer as a notebook does, and writes down what is sent to the notebook and when.
PROGRAM = """
import json, sys
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
import tsdlab
from tsdlab.data import SAMPLE
from tsdlab.data.coco import CocoDataset

class Publisher(DisplayPublisher):
    def publish(self, data, transient, update=False, **_):
        answered, drawing = bool(explorer._answer), "matplotlib" in sys.modules
        print(json.dumps([update, transient["display_id"], sorted(data), answered, drawing]))

shell = InteractiveShell.instance()
shell.history_manager.enabled = False
shell.display_pub = Publisher()
explorer = tsdlab.explore(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"))
shell.display_formatter.format(explorer)
"""


def test_the_page_is_shown_before_the_answers_and_the_picture_is_added_to_it() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    page, picture = map(json.loads, ended.stdout.splitlines())
    view = ["application/vnd.jupyter.widget-view+json", "text/plain"]
    assert page == [False, page[1], view, False, False]
    assert picture == [True, page[1], [view[0], "image/png", view[1]], True, True]


@pytest.mark.parametrize(
    "use",
    [
        lambda explorer: explorer.proposal,
        lambda explorer: explorer.answer,
        lambda explorer: explorer.answers,
        lambda explorer: explorer.truth,
        lambda explorer: explorer.python,
        lambda explorer: explorer.picture(),
        lambda explorer: setattr(explorer, "opacity", 0.5),
        lambda explorer: explorer._receive(explorer, {"need": "answer"}, []),
        lambda explorer: explorer._receive(explorer, {"serial": 1, "set": {}}, []),
    ],
    ids=["proposal", "answer", "answers", "truth", "python", "picture", "set", "page", "request"],
)
def test_whatever_needs_the_image_opens_it(models, dataset, use) -> None:
    explorer = tsdlab.explore(models["sibling"], dataset, image_index=3, opacity=0.25)
    assert explorer._answer == {} and explorer._image == {}
    opening = explorer._opening
    assert opening["models"] == ["sibling"] and opening["image"]["index"] == 3
    use(explorer)
    assert explorer._answer["image"] == explorer._image["index"] == explorer.image_index == 3
    assert opening["image"] == {name: explorer._image[name] for name in ("index", "width", "height", "url")}
    assert explorer._answer["proposal"] == pytest.approx(explorer.proposal) and explorer.opacity in (0.25, 0.5)


@pytest.mark.parametrize("state", [{"order": "disagreement"}, {"category": "moon"}, {"size": "middle third"}])
def test_an_image_that_is_still_to_be_found_is_not_shown(models, dataset, state) -> None:
    assert tsdlab.explore(models["sibling"], dataset, **state)._opening["image"] is None


@pytest.mark.parametrize(
    "state", [{"level": "9"}, {"underlay_branch": "tsd"}, {"image_index": 12}, {"category": "moon", "size": "large"}]
)
def test_what_cannot_be_used_is_refused_by_the_call(models, dataset, state) -> None:
    with pytest.raises(ValueError):
        tsdlab.explore(models["sibling"], dataset, **state)


def test_the_first_image_may_be_named(models, dataset) -> None:
    assert tsdlab.explore(models["sibling"], dataset, image_index=0).answer.nearest is not None
