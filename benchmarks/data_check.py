"""How long does `tsdlab data check` take, and how much memory, as a data set grows?

`python benchmarks/data_check.py` makes folders of synthetic images with random boxes, checks them with and without
decoding, each in a process of its own, and writes data/results/data_check.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from tsdlab.provenance import provenance, write_results

OBJECTS = 10  # per image
SIZE = (640, 480)


def main(images: tuple[int, ...] = (1250, 2500, 5000, 10_000), decode: bool = True) -> None:
    """Measure every size.

    Args:
        images: how many images the folders have, over both splits.
        decode: also measure `--decode`.
    """
    rows = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for count in images:
            root = Path(folder) / str(count)
            make(root, count)
            for decoding in (False, True) if decode else (False,):
                rows.append({"images": count, "decode": decoding, **in_new_process(root, decoding)})
                print(rows[-1])
    write_results(
        "data_check",
        {
            "objects_per_image": OBJECTS,
            "image_size": SIZE,
            "load_before": round(load, 2),
            "rows": rows,
            "provenance": provenance(),
        },
    )


def make(root: Path, count: int) -> None:
    """A fifth of the images is val. They are JPEG files with a smooth random content."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, number in (("train", count * 4 // 5), ("val", count // 5)):
        (root / split).mkdir()
        entries, annotations = [], []
        for id in range(number):
            small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8))
            small.resize(SIZE).save(root / split / f"{id}.jpg")
            entries.append({"id": id, "file_name": f"{id}.jpg", "width": SIZE[0], "height": SIZE[1]})
            for x, y, width, height in rng.uniform((0, 0, 20, 20), (400, 300, 200, 150), (OBJECTS, 4)).tolist():
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": id,
                        "category_id": 1,
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
        content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def in_new_process(root: Path, decode: bool) -> dict[str, float | None]:
    """Its peak memory is then that of this check alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(check, (root, decode))


def check(root: Path, decode: bool) -> dict[str, float | None]:
    """Seconds of one check, and the peak memory during it above what the process held before."""
    from measure import peak_megabytes

    from tsdlab.data.check import check_folder

    def run() -> None:
        reports = check_folder(root, progress=False, decode=decode)
        assert not any(report.problems for report in reports)

    start = time.perf_counter()
    megabytes = peak_megabytes(run, "cpu")
    return {"seconds": round(time.perf_counter() - start, 2), "peak_mb": megabytes}


if __name__ == "__main__":
    tyro.cli(main)
