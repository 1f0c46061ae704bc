"""Tables line up whatever the names are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tsdlab.data.check import SplitReport
from tsdlab.evaluation import Metrics
from tsdlab.terminal import name_column, width_of


def test_width_by_hand() -> None:
    widths = {"cat": 3, "猫": 2, "ﾈｺ": 2, "cafe\u0301": 4, "🐈": 2, "کلب": 3, "": 0}
    assert {text: width_of(text) for text in widths} == widths


@given(st.lists(st.text(max_size=80) | st.sampled_from(["猫", "a\nb", "x" * 200, "🐈", "\x1b[31mred", ""]), max_size=6))
def test_every_table_has_one_line_per_class_and_straight_columns(names: list[str]) -> None:
    names = list(dict.fromkeys(names))
    column = name_column(names, "class")
    assert len({width_of(text) for text in column}) == 1 and "".join(column).isprintable()
    counts = {name: i for i, name in enumerate(names)}
    report = str(SplitReport("train", 1, 1, 0, 0, (), counts, [], [])).split("\n")
    assert len(report) == 2 + len(names)
    numbers = dict.fromkeys(("AP", "AP50", "AP75"), 12.5)
    metrics = Metrics(*[1.0] * 12, per_class=dict.fromkeys(names, numbers), images=1, detections=1)
    table = str(metrics).split("\n")[-len(names) - 1 :]
    assert len({width_of(line) for line in table if line.endswith(("AP75", "12.5"))}) <= 1
