"""The picture of the explorer that a page without a kernel shows."""

import base64
import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.quiver import Quiver
from PIL import Image

import tsdlab
from tsdlab.figures.style import PALETTE


def test_the_picture_shows_on_a_static_page(models, dataset):
    for model in (models, models["sibling"]):
        data, _ = tsdlab.explore(model, dataset)._repr_mimebundle_()
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert picture.width > 400 and len(data["image/png"]) < 2**18
        assert "application/vnd.jupyter.widget-view+json" in data


def stages(figure):
    """The axes of the image of each model: the first ones after the page itself."""
    return [ax for ax in figure.axes if ax.images and ax.get_xlim()[0] == 0 and ax.get_ylim()[1] == 0]


@pytest.mark.parametrize(("arrows", "magnify"), [("summary", 1), ("summary", 5), ("all", 1), ("all", 5), ("own", 2)])
def test_the_picture_has_the_arrows_of_the_live_view(models, dataset, arrows, magnify):
    explorer = tsdlab.explore(models["tsd"], dataset, arrows=arrows, magnify=magnify)
    figure = explorer.picture()
    (stage,) = stages(figure)
    assert len([text for text in stage.texts if text.arrow_patch]) == (2 if arrows == "summary" else 1)
    fields = [each for each in stage.collections if isinstance(each, Quiver)]
    x1, y1, x2, y2 = explorer.proposal
    region = explorer.answer.levels[explorer.answer.level].regions["classification"]
    if arrows == "summary":
        *_, last = [text for text in stage.texts if text.arrow_patch]
        start = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        np.testing.assert_allclose(last.xyann, start, rtol=1e-5)
        np.testing.assert_allclose(
            last.xy - start, magnify * (region.points.mean(dim=(0, 1)).numpy() - start), rtol=1e-3
        )
        assert not fields
    else:
        (field,) = fields
        offsets = region.offsets - (explorer.pattern["tsd"]["classification"].offsets if arrows == "own" else 0)
        drawn = np.stack([field.U, field.V], axis=1)
        np.testing.assert_allclose(drawn, magnify * offsets.flatten(0, 1) * np.array([x2 - x1, y2 - y1]), atol=0.01)
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert ("common to all proposals" in said) == (arrows == "own") and (f", ×{magnify}" in said) == (magnify > 1)


def test_the_picture_has_the_layers_of_the_live_view(models, dataset):
    boxes = {}
    for layers in ((), ("truth",), ("truth", "localization"), ("decoded",)):
        (stage,) = stages(tsdlab.explore(models["tsd"], dataset, layers=layers).picture())
        boxes[layers] = [to_hex(patch.get_edgecolor()).upper() for patch in stage.patches]
        assert not stage.lines, "no dots of classification"
    truth, place = PALETTE["truth"], PALETTE["localization"]
    assert boxes[()] == [PALETTE["proposal"]]
    assert boxes["truth",] == [truth] * len(dataset[0][1]["boxes"]) + boxes[()]
    assert boxes["truth", "localization"] == [*boxes["truth",], place]
    assert boxes["decoded",] == [PALETTE["proposal"], place, place]


@pytest.mark.parametrize("task", ["classification", "localization"])
def test_the_picture_has_the_map_with_its_scale(models, dataset, task):
    explorer = tsdlab.explore(models, dataset, underlay=task, opacity=0.4)
    figure = explorer.picture()
    said = [text.get_text() for text in figure.axes[0].texts]
    for stage, (model, told) in zip(stages(figure), explorer._maps.items(), strict=True):
        level = told["levels"][explorer._answer["models"][model]["level"]]
        _, shown = stage.images
        assert shown.get_alpha() == 0.4 and shown.get_clim()[1] == pytest.approx(level[task]["top"], rel=1e-5)
        what = "score" if task == "classification" else "IoU"
        assert f"map of {task}: {what} 0 … {level[task]['top']:.2g}" in said
        distance = f"{100 * level['distance']:.1f} %"
        assert f"best places {distance} of the object apart" in [text.get_text() for text in stage.texts]
