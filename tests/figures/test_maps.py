"""Maps are drawn where they are: extents, peaks, boxes."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from tsdlab.analysis.sensitivity import Grid, SensitivityMaps, TaskMaps
from tsdlab.figures import maps as plots
from tsdlab.figures.style import PALETTE

matplotlib.use("Agg")
IMAGE = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
SALIENT = torch.tensor([40.0, 8.0, 48.0, 16.0])


@pytest.fixture
def maps():
    """Of an image 64 wide and 32 high, in cells of 2 pixels: peaks at (45, 11) and at (21, 25)."""
    classification, localization = torch.full((16, 32), 0.1), torch.full((16, 32), 0.1)
    classification[5, 22], localization[12, 10] = 0.8, 4.0
    pair = TaskMaps(classification, localization)
    flat = TaskMaps(torch.zeros(16, 32), torch.zeros(16, 32))
    box = torch.tensor([16.0, 4.0, 50.0, 30.0])
    grid = Grid((0.0, 0.0, 64.0, 32.0), (16, 32))
    return SensitivityMaps(box, 1, grid, {"0": {"sibling": pair, "tsd": pair}, "pool": {"sibling": flat, "tsd": pair}})


def outlines(ax):
    return {to_hex(p.get_edgecolor()): p.get_bbox().extents.tolist() for p in ax.patches}


@pytest.mark.parametrize("task", plots.TASKS)
def test_heat_lies_on_the_image_from_zero_to_its_maximum_in_the_colour_of_its_task(ax, maps, task):
    plots.heat(maps, "0", "tsd", task, ax, IMAGE, SALIENT)
    picture, heat = ax.images
    assert picture.get_extent() == list(heat.get_extent()) == [0, 64, 32, 0]
    values = getattr(maps.levels["0"]["tsd"], task)
    assert heat.get_clim() == pytest.approx((0, values.max()))
    np.testing.assert_array_equal(heat.get_array(), values)
    assert heat.cmap(0.0)[3] == 0, "the image shows where the map is 0"
    assert to_hex(heat.cmap(1.0)[:3]) == PALETTE[task].lower() and heat.cmap(1.0)[3] > 0.8
    assert np.asarray(picture.get_array()).min() > 0.5, "the image is pale"
    way, *marks = (line.get_xydata().tolist() for line in ax.lines)
    assert way == [[45, 11], [21, 25]] and marks == [[[45, 11]], [[21, 25]]]
    # 24 of 34 pixels across, 14 of 26 down.
    assert [text.get_text() for text in ax.texts] == ["best places 89% of the object apart"]
    assert outlines(ax) == {PALETTE["truth"].lower(): maps.box.tolist(), "#ffffff": SALIENT.tolist()}
    assert not ax.get_xticks().size and not ax.get_title()


def test_heat_alone_with_a_colour_bar(ax, maps):
    plots.heat(maps, "0", "sibling", "classification", ax, colorbar=True)
    assert len(ax.images) == 1 and len(ax.figure.axes) == 2


def test_a_flat_map_says_so_and_has_no_peak(ax, maps):
    plots.heat(maps, "pool", "sibling", "classification", ax, IMAGE)
    assert not ax.lines and [t.get_text() for t in ax.texts] == ["the map is flat"]


def test_a_map_without_a_partner_has_its_own_peak_alone(ax, maps):
    maps.levels["0"]["tsd"].classification.zero_()
    plots.heat(maps, "0", "tsd", "localization", ax, IMAGE)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[21, 25]]] and not ax.texts


def test_peaks_are_joined_and_named(ax, maps):
    plots.peaks(maps, "0", "tsd", IMAGE, ax, SALIENT, margin=None)
    way, *marks = (line.get_xydata().tolist() for line in ax.lines)
    assert way == [[45, 11], [21, 25]] and marks == [[[45, 11]], [[21, 25]]]
    assert set(ax.get_legend_handles_labels()[1]) == {
        "the object", "its salient part", "classification peak", "localization peak",
    }  # fmt: skip
    assert ax.get_xlim() == (0, 64)


def test_peaks_look_at_the_object(ax, maps):
    plots.peaks(maps, "0", "tsd", IMAGE, ax, margin=0.25)
    assert ax.get_xlim() == (7.5, 58.5) and ax.get_ylim() == (32, 0)  # not beyond the image


@pytest.mark.parametrize("image", [None, IMAGE])
def test_surfaces_stand_on_the_image_plane(maps, image):
    figure = plt.figure()
    ax = figure.add_subplot(projection="3d")
    plots.surfaces(maps, "0", "tsd", ax, image)
    figure.canvas.draw()
    assert ax.get_xlabel() == "x, pixels" and ax.get_ylabel() == "y, pixels"
    assert ax.get_zlabel() == "fraction of maximum"
    assert ax.get_ylim() == (32, 0), "as in images"
    assert ax.get_zlim()[0] == 0, "the image is where the maps are 0"
    peaks = [line.get_data_3d() for line in ax.lines if len(line.get_data_3d()[0]) == 1]
    assert [tuple(float(v[0]) for v in peak) for peak in peaks] == [(21, 25, 1), (45, 11, 1)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "classification, peak at (45, 11)", "localization, peak at (21, 25)",
    ]  # fmt: skip
    assert len([c for c in ax.collections if isinstance(c, Poly3DCollection)]) == 2 + (image is not None)
    plt.close(figure)


def test_surfaces_have_no_seams(maps):
    """Pixels of a smooth surface that are darker or lighter than both neighbours are seams between its faces."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 56), torch.linspace(-2, 2, 56), indexing="ij")
    smooth = TaskMaps(torch.exp(-(x**2) - y**2), torch.zeros(56, 56))
    only = replace(maps, grid=Grid((0.0, 0.0, 64.0, 64.0), (56, 56)), levels={"0": {"tsd": smooth}})
    figure = plt.figure(dpi=72)
    ax = plots.surfaces(only, "0", "tsd", figure.add_subplot(projection="3d"))
    ax.set_axis_off()
    for artist in (ax.get_legend(), *ax.lines):
        artist.remove()
    figure.canvas.draw()
    red = np.asarray(figure.canvas.buffer_rgba())[..., 0].astype(int)  # the surface is blue
    left, right = red[:, 1:-1] - red[:, :-2], red[:, 1:-1] - red[:, 2:]
    seams = (abs(left) > 12) & (abs(right) > 12) & (left * right > 0)
    assert seams.sum() < 0.01 * (red < 240).sum()
    plt.close(figure)


def test_surfaces_of_what_is_around_the_object(maps):
    """A higher peak elsewhere, as of another object of the class, neither is shown nor shrinks what is."""
    away = maps.levels["0"]["tsd"].classification
    away[0, 0] = 9.0
    figure = plt.figure()
    ax = figure.add_subplot(projection="3d")
    plots.surfaces(maps, "0", "tsd", ax, IMAGE, margin=0.1)
    assert ax.get_xlim() == (12, 54) and ax.get_ylim() == (32, 0), "whole cells, not beyond the image"
    peaks = [line.get_data_3d() for line in ax.lines if len(line.get_data_3d()[0]) == 1]
    assert [tuple(float(v[0]) for v in peak) for peak in peaks] == [(21, 25, 1), (45, 11, 1)]
    figure.canvas.draw()
    plt.close(figure)


def test_surfaces_of_a_small_object_have_cells_around_it(maps):
    figure = plt.figure()
    ax = figure.add_subplot(projection="3d")
    small = replace(maps, box=torch.tensor([61.0, 29.0, 64.0, 31.0]))
    plots.surfaces(small, "0", "tsd", ax, IMAGE, margin=0.5)
    assert ax.get_xlim() == (48, 64) and ax.get_ylim() == (32, 16), "eight cells of two pixels, on the image"
    figure.canvas.draw()
    plt.close(figure)


def test_peaks_in_one_place_are_both_seen(ax, maps):
    pair = maps.levels["0"]["tsd"]
    pair.localization.copy_(pair.classification)
    plots.peaks(maps, "0", "tsd", IMAGE, ax)
    dot, frame = ax.lines[1:]
    assert dot.get_xydata().tolist() == frame.get_xydata().tolist()
    assert frame.get_markerfacecolor() == "none" and frame.get_markersize() > dot.get_markersize() + 3
    assert dot.get_zorder() > frame.get_zorder()


@pytest.mark.parametrize("salient", [None, "its badge"])
def test_signs_and_colours_are_explained(maps, salient):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    for ax, task in zip(axes, plots.TASKS):
        plots.heat(maps, "0", "tsd", task, ax, IMAGE)
    plots.explain(figure, axes, salient)
    figure.canvas.draw()
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [
        "the object", *([salient] if salient else []), "classification peak", "localization peak",
    ]  # fmt: skip
    outer, inner = figure.axes[2:]
    assert outer.get_ylabel() == "fraction of each map’s maximum" and not inner.get_yticks().size
    assert outer.get_position().x0 > inner.get_position().x1
    for bar, task in ((outer, "localization"), (inner, "classification")):
        clear, full = bar.collections[-1].get_cmap()([0.0, 1.0])[:, :3]
        assert clear.tolist() == [1, 1, 1] and np.abs(full - to_rgb(PALETTE[task])).max() < 0.15
    plt.close(figure)


def test_surfaces_of_flat_maps_say_so(maps):
    figure = plt.figure()
    ax = figure.add_subplot(projection="3d")
    plots.surfaces(maps, "pool", "sibling", ax)
    figure.canvas.draw()
    assert "both maps are flat" in [t.get_text() for t in ax.texts]
    plt.close(figure)


def test_levels_are_rows_and_branches_and_tasks_columns(maps):
    figure, axes = plt.subplots(2, 4)
    plots.levels(maps, IMAGE, axes, SALIENT, strides={"0": (4.0, 4.0), "pool": (32.0, 16.0)})
    assert [row[0].get_ylabel() for row in axes] == ["level 0\nstride 4", "level pool\nstride 16 × 32"]
    assert [ax.get_title() for ax in axes[0]] == [
        "sibling\nclassification", "sibling\nlocalization", "tsd\nclassification", "tsd\nlocalization",
    ]  # fmt: skip
    np.testing.assert_array_equal(axes[1, 3].images[1].get_array(), maps.levels["pool"]["tsd"].localization)
    figure.canvas.draw()
    plt.close(figure)


def test_levels_need_axes_for_every_map(maps):
    figure, axes = plt.subplots(2, 3)
    with pytest.raises(ValueError, match=r"\[2, 4\], got \[2, 3\]"):
        plots.levels(maps, IMAGE, axes)
    plt.close(figure)
