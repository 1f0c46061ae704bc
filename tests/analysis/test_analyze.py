"""The whole analysis: over a data set, over two processes, and over many images."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tsdlab
from tsdlab.analysis.analyze import Analysis, analyze, observe
from tsdlab.analysis.measures import AGREEMENT, MEASURES
from tsdlab.analysis.misalignment import IOU_EDGES
from tsdlab.analysis.statistics import Tally
from tsdlab.data import SAMPLE, CocoDataset
from tsdlab.models.build import build_detector
from tsdlab.models.probe import Probe

REPLICATES = 50


@pytest.fixture(scope="module")
def model():
    return tsdlab.load_detector("badges-tsd")


@pytest.fixture(scope="module")
def sample():
    return CocoDataset(SAMPLE, "val")


@pytest.fixture(scope="module")
def report(model, sample):
    return analyze(model, sample, 2, REPLICATES, progress=False)


def estimates(values, path=()):
    """Every estimate of a report as plain values, by its path."""
    if isinstance(values, dict):
        if values.keys() == {"value", "low", "high", "count"}:
            return {path: values}
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    else:
        return {path: values}
    return {name: value for key, of in items for name, value in estimates(of, (*path, str(key))).items()}


def assert_same(one, other, tolerance=1e-9):
    one, other = estimates(one), estimates(other)
    assert one.keys() == other.keys()
    for path, value in one.items():
        pairs = [(value, other[path])] if not isinstance(value, dict) else zip(value.values(), other[path].values())
        for ours, theirs in pairs:
            assert ours == (theirs if theirs is None else pytest.approx(theirs, abs=tolerance, rel=tolerance)), path


def objects_of(dataset, images):
    return sum(len(dataset[i][1]["labels"]) for i in range(images))


# What it holds


def test_a_report_is_strict_json_and_comes_back_the_same(report):
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert Analysis.from_dict(json.loads(text)) == report


def test_everything_is_there_and_counted(report, sample):
    found, objects = report.misalignment, objects_of(sample, 2)
    assert (found.images, found.objects) == (2, objects)
    assert list(found.maps) == list(found.moved) == ["proposals", "gradients"]
    assert list(found.maps["proposals"]) == ["0", "1", "2", "pool"]
    assert list(found.maps["gradients"]) == ["0", "1", "2"], "nothing is pooled from the RPN's extra level"
    for levels in found.maps.values():
        for branches in levels.values():
            assert list(branches) == ["sibling", "tsd"]
            for measures in branches.values():
                assert list(measures) == list(MEASURES)
                assert all(e.count <= objects for e in measures.values())
    for branch in ("sibling", "tsd"):
        assert list(found.agreement[branch]) == list(AGREEMENT)
        assert found.agreement[branch]["best_iou"].count <= objects
        assert len(found.survival[branch]) == len(IOU_EDGES) - 1
    every = report.displacement.levels["all"]
    assert every.proposals > 50
    lengths = [every.means[f"{task}_offset"].value for task in ("classification", "localization")]
    assert every.difference.value == pytest.approx(lengths[0] - lengths[1])
    assert every.difference.low < every.difference.value < every.difference.high
    pooled = {level: count for level, count in found.proposals.items() if count}
    moved = {level: of.proposals for level, of in report.displacement.levels.items() if level != "all"}
    assert pooled == moved and list(found.proposals) == ["0", "1", "2"]


def test_numbers_lie_where_they_can(report):
    for path, found in estimates(report.as_dict()).items():
        if not isinstance(found, dict) or found["value"] is None:
            continue
        assert found["low"] <= found["high"], path
        if found["count"] > 3:
            assert found["low"] - 1e-9 <= found["value"] <= found["high"] + 1e-9, path
    for levels in report.misalignment.maps.values():
        for branches in levels.values():
            for measures in branches.values():
                for name, found in measures.items():
                    if found.value is not None:
                        assert (-1 if name == "spearman" else 0) <= found.value
                        if "energy" not in name and name != "peak_distance":
                            assert found.value <= 1


def test_a_trained_model_knows_its_objects(report):
    finest = report.misalignment.maps["proposals"]["1"]["tsd"]
    assert finest["localization_centre"].value > 0.25 and finest["classification_centre"].value > 0.25
    assert report.misalignment.agreement["tsd"]["best_iou"].value > 0.8


def test_a_head_that_moves_nothing_has_no_displacement(tiny_config, tiny_data):
    torch.manual_seed(0)
    dataset = CocoDataset(tiny_data, "val")
    for head in ("sibling", "double"):
        found = analyze(build_detector(replace(tiny_config, head=head)), dataset, 2, REPLICATES, progress=False)
        assert found.displacement is None and found.misalignment.moved == {}
        assert Analysis.from_dict(json.loads(json.dumps(found.as_dict(), allow_nan=False))) == found


def test_an_image_without_objects_is_an_image(tiny_config, tiny_data):
    found = analyze(build_detector(tiny_config), CocoDataset(tiny_data, "val"), 1, REPLICATES, progress=False)
    assert (found.misalignment.images, found.misalignment.objects) == (1, 0)
    assert found.misalignment.maps == {} and found.displacement is None
    json.dumps(found.as_dict(), allow_nan=False)


def test_images_are_at_least_one_and_at_most_all(model, sample):
    with pytest.raises(ValueError, match=r"images must be a whole number from 1 to .* got 0"):
        analyze(model, sample, 0, progress=False)


def test_the_model_is_left_in_its_mode(tiny_config, tiny_data):
    model = build_detector(tiny_config).train()
    analyze(model, CocoDataset(tiny_data, "val"), 2, REPLICATES, progress=False)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


# Labels


def write_sample(root, order, rename=None):
    """The sample with its categories' ids given out in another order of their names."""
    content = json.loads((SAMPLE / "annotations" / "instances_val.json").read_text())
    before = sorted(content["categories"], key=lambda category: category["id"])
    names = [category["name"] for category in before]
    new_id = {before[old]["id"]: 10 + place for place, old in enumerate(order)}
    content["categories"] = [
        {"id": 10 + place, "name": (rename or {}).get(names[old], names[old])} for place, old in enumerate(order)
    ]
    for annotation in content["annotations"]:
        annotation["category_id"] = new_id[annotation["category_id"]]
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    shutil.copytree(SAMPLE / "val", root / "val")
    return CocoDataset(root, "val")


def test_labels_are_matched_by_name(model, sample, report, tmp_path):
    order = [3, 5, 0, 1, 4, 2]
    permuted = write_sample(tmp_path, order)
    assert not torch.equal(permuted[0][1]["labels"], sample[0][1]["labels"])
    assert_same(analyze(model, permuted, 2, REPLICATES, progress=False).as_dict(), report.as_dict())


def test_a_category_that_the_model_does_not_know_is_named(model, sample, tmp_path):
    unknown = write_sample(tmp_path, range(6), rename={sample.categories[2].name: "zebra"})
    with pytest.raises(ValueError, match="does not know the categories zebra"):
        analyze(model, unknown, progress=False)


# Many images, many processes


def observed(model, images, dataset, seen):
    """A tally of `images` images, each with one object; what `seen` makes of it after every one of them."""
    items, tally, results = [dataset[i] for i in range(len(dataset))], Tally(), []
    for index in range(images):
        image, target = items[index % len(items)]
        tally.begin(index)
        observe(tally, Probe(model, image), {name: target[name][:1] for name in ("boxes", "labels", "salient_boxes")})
        results.append(seen(tally))
    return results


def test_what_is_kept_does_not_grow_with_the_images(tiny_config, sample):
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, num_classes=6))
    shapes = observed(model, 20, sample, lambda tally: {name: sums.shape for name, sums in tally._sums.items()})
    assert shapes[4].items() <= shapes[-1].items()
    # A level that no proposal was pooled from so far may have its first one yet.
    assert {name[0] for name in shapes[-1].keys() - shapes[4].keys()} <= {"displacement"}


@pytest.mark.slow
def test_memory_stays_flat_over_2000_images(tiny_config, sample):
    """Of the process, tensors included, between image 200 and image 2,000."""
    torch.manual_seed(0)
    model = build_detector(replace(tiny_config, num_classes=6))
    held = observed(model, 2000, sample, lambda tally: resident_bytes())
    assert held[-1] - held[199] < 8 * 2**20


def resident_bytes():
    """Memory of this process; 0 where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


# A process's share of the analysis; each writes the report of all.
SHARE = """
import json, sys
import torch
from pathlib import Path
from torch import distributed
import tsdlab
from tsdlab.analysis.analyze import analyze
from tsdlab.data import SAMPLE, CocoDataset

torch.set_num_threads(1)
distributed.init_process_group("gloo")
report = analyze(tsdlab.load_detector("badges-tsd"), CocoDataset(SAMPLE, "val"), 7, 50, progress=False)
Path(sys.argv[1], f"{distributed.get_rank()}.json").write_text(json.dumps(report.as_dict(), allow_nan=False))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_report_what_one_does(model, sample, tmp_path):
    (tmp_path / "share.py").write_text(SHARE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, str(tmp_path / "share.py"), str(tmp_path)],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one = json.loads(json.dumps(analyze(model, sample, 7, REPLICATES, progress=False).as_dict()))
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    assert_same(both[0], one)
