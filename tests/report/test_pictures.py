"""Pictures of photographs are small files, and what stands on them is what was measured."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib
import pytest
import torch
from analyses import about, analysis, moved_by
from PIL import Image

from tsdlab.analysis.examples import Shown, choose_examples, choose_shown
from tsdlab.config import Config
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe
from tsdlab.report.pictures import PICTURES, draw_levels, draw_pictures, draw_typical

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def photographs() -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Images as hard to compress as grass or carpet."""
    random = torch.Generator().manual_seed(0)
    target = {"boxes": torch.tensor([[100.0, 100.0, 220.0, 260.0]]), "labels": torch.tensor([1])}
    return [(torch.rand(3, 480, 360, generator=random), target) for _ in range(2)]


def shown_of(head: str, config: Config, items: list) -> Shown:
    torch.manual_seed(0)
    model = build_detector(replace(config, head=head)).eval()
    return choose_shown(model, items, count=1, progress=False)


def test_pictures_of_photographs_are_jpegs_and_small(photographs: list, tiny_config: Config) -> None:
    shown = shown_of("tsd", tiny_config, photographs)
    peaks = {"0": {"sibling": about(0.278), "tsd": about(0.286)}}
    moved = {"all": moved_by(0.18, 0.15), "0": moved_by(0.18, 0.15)}
    pictures = draw_pictures(analysis(peaks, moved, {"0": about(0.1)}), shown, progress=False)
    formats = {name: Image.open(io.BytesIO(content)).format for name, content in pictures.items()}
    assert set(pictures) < set(PICTURES)
    assert {name for name, of in formats.items() if of == "JPEG"} == {
        "typical.jpg", "example-1.jpg", "example-1-proposals.jpg", "example-1-gradients.jpg",
    }  # fmt: skip
    assert {of for name, of in formats.items() if name.endswith(".png")} == {"PNG"}
    assert max(len(content) for content in pictures.values()) < 600_000
    assert sum(len(content) for name, content in pictures.items() if name.endswith(".jpg")) < 1_500_000


DEPENDS = ["classification depends on these places", "localization depends on these places"]


@pytest.mark.parametrize(
    ("head", "reads"),
    [
        ("sibling", []),
        ("double", ["classification reads P itself", "localization reads P̂r, moved 11%"]),
        ("tsd", ["classification reads P̂c, moved 0%", "localization reads P̂r, moved 0%"]),
    ],
)
def test_the_typical_object_is_shown_as_each_task_sees_it(
    head: str, reads: list[str], photographs: list, tiny_config: Config
) -> None:
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, head=head)).eval()
    (example,) = choose_examples(model, photographs, count=1, progress=False)
    answer = Probe(model, example.pixels).ask(example.box[None])
    figure = draw_typical(replace(example, moved=answer if answer.regions else None))
    assert [ax.texts[-1].get_text() for ax in figure.axes] == [*DEPENDS, *reads]
    views = {(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}
    assert len(views) == 1, "every panel shows the same part of the image"
    (x1, x2), (y2, y1) = views.pop()
    assert x1 <= 100 and x2 >= 220 and y1 <= 100 and y2 >= 260


def test_maps_of_an_example_are_those_of_the_shown_levels_and_its_own(photographs: list, tiny_config: Config) -> None:
    (example,) = shown_of("sibling", tiny_config, photographs).farthest
    maps = example.maps["proposals"]
    others = [level for level in maps.levels if level != example.level]
    assert len(others) >= 2
    for levels in ([], others[:1], [*others, example.level]):
        rows = len({*levels, example.level})
        assert len(draw_levels(example, "proposals", levels).axes) == 2 * rows
