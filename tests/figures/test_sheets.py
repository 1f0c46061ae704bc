"""Whole pictures: which images and numbers are in them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from tests.figures.test_names import ODD
from tsdlab.analysis.image_errors import ImageErrors
from tsdlab.data import CocoDataset
from tsdlab.errors import InputError, MissingFileError
from tsdlab.figures import sheets


def panels(figure: Figure) -> list[Any]:
    figure.savefig(io.BytesIO(), dpi=40)  # it can be rendered
    return [ax for ax in figure.axes if ax.images]


@pytest.mark.parametrize(("count", "columns", "shown"), [(1, 4, 1), (3, 2, 3), (5, 4, 5), (99, 3, 8)])
def test_images_of_the_whole_split_are_shown_with_all_their_objects(
    count: int, columns: int, shown: int, tiny_data: Path
) -> None:
    train = CocoDataset(tiny_data, "train")
    drawn = panels(sheets.objects(train, count, columns))
    names = [ax.get_title() for ax in drawn]
    assert len(drawn) == len({*names}) == shown
    assert names[0] == "10.png" and (count == 1 or names[-1] == "17.png")
    for ax, name in zip(drawn, names):
        target = train.target(int(name.removesuffix(".png")) - 10)
        assert [patch.get_bbox().bounds for patch in ax.patches] == [
            pytest.approx((x1, y1, x2 - x1, y2 - y1)) for x1, y1, x2, y2 in target["boxes"].tolist()
        ]
        words = [text.get_text().strip() for text in ax.texts]
        assert words == [train.categories[label - 1].name for label in target["labels"].tolist()]


def test_classes_without_names_and_no_images_are_refused(tiny_data: Path) -> None:
    with pytest.raises(InputError, match="does not name its classes"):
        sheets.objects([torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)])
    with pytest.raises(InputError, match="count"):
        sheets.objects(CocoDataset(tiny_data, "train"), 0)


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def lines(figure: Figure, side: int) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): [tuple(p) for p in line.get_xydata()] for line in figure.axes[side].lines}


def test_a_run_is_drawn_as_far_as_it_has_come(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"log\.csv"):
        sheets.training(tmp_path)
    write_log(tmp_path / "log.csv", [{"step": 5, "lr": 9, "total": 3.5}, {"step": 10, "lr": 9, "total": 2.25}])
    figure = sheets.training(tmp_path)
    panels(figure)
    assert [*lines(figure, 0).values()] == [[(5, 3.5), (10, 2.25)]]
    assert not any(lines(figure, 1).values())
    row = {"step": 10, "AP": 12.5, "AP50": 50.0, "AP75": "nan", "AR_1": 7}
    write_log(tmp_path / "metrics.csv", [row, {**row, "step": 20, "AP": 30, "AP75": ""}])
    drawn = lines(sheets.training(tmp_path), 1)
    assert drawn["AP"] == [(10, 12.5), (20, 30)] and drawn["AP50"] == [(10, 50), (20, 50)]
    assert {*drawn} == {"AP", "AP50", "AP75"}


@dataclass
class Found:
    """What `worst_images` asks of `Errors`."""

    images: list[ImageErrors]

    def worst(self, count: int) -> list[ImageErrors]:
        return self.images[:count]


def image(index: int, file: str | None, kind: str, shape: tuple[int, int] = (40, 60)) -> ImageErrors:
    box = torch.tensor([[4.0, 5.0, 24.0, 35.0]])
    return ImageErrors(index, index, file, torch.rand(3, *shape), box, ["cat"], [0.9], [kind], [0.6], [0], box, ["cat"],
                       [False], 1.0)  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_worst_images_come_first_and_say_what_is_wrong(count: int) -> None:
    found = Found([image(4, "a.jpg", "duplicate"), image(0, None, "loose", (90, 20)), image(2, ODD[-1], "background")])
    drawn = panels(sheets.worst_images(found, count))  # type: ignore[arg-type]
    titles = [ax.get_title() for ax in drawn]
    assert titles[:2] == ["a.jpg\n1 duplicate, 1 not found", "image 0\n1 loose, 1 not found"][: min(count, 2)]
    assert len(titles) == min(count, 3)
    assert all(ax.texts for ax in drawn)


def test_a_detector_without_errors_has_an_empty_picture() -> None:
    assert panels(sheets.worst_images(Found([]))) == []  # type: ignore[arg-type]
