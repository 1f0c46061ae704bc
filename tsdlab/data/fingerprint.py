"""What training reads of a split, as a few bytes for each image: a resumed run finds out what has changed.

The digests cover what the annotation file says and the size, the beginning and the end of each image file. All pixels
would take minutes to read. Dates and the place of the folder are left out: it may be moved or copied.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsdlab.data.annotations import Images, Split
from tsdlab.data.coco import CocoDataset
from tsdlab.data.columns import grouped
from tsdlab.data.parallel import in_parallel
from tsdlab.errors import InputError, listed

_BYTES = 8  # of a digest: one of 10^12 changes goes unnoticed in a data set of ten million images
_ENDS = 4096  # bytes that are read at the beginning and at the end of an image file


@dataclass(frozen=True)
class Fingerprint:
    """What training reads of one split.

    Attributes:
        split: its name.
        categories: JSON of the ids and names, in the order of the labels.
        ids: JSON of the image ids, in the order of the file.
        images: uint8 [N, 8], a digest of each image's id, file name, size in pixels, size in bytes, and of the first
            and last 4 KiB of its file.
        objects: uint8 [N, 8], a digest of each image's annotations, crowds included.
    """

    split: str
    categories: str
    ids: str
    images: Tensor
    objects: Tensor

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint: plain values and tensors."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Any) -> Fingerprint:
        """The fingerprint that `as_dict` gave.

        Raises:
            InputError: `values` are something else; says which field.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or values.keys() != {*names}:
            raise InputError(f"must hold {', '.join(names)} of each split")
        found = cls(**values)
        for name in ("split", "categories", "ids"):
            if not isinstance(values[name], str):
                raise InputError(f"must hold {name} as text")
        try:
            ids, categories = json.loads(found.ids), json.loads(found.categories)
            valid = all(isinstance(id, int | float | str) for id in [*ids, *(id for id, _ in categories)])
        except (ValueError, TypeError):
            valid = False
        if not valid:
            raise InputError("must hold ids and categories as JSON lists")
        for name in ("images", "objects"):
            digests = values[name]
            if not isinstance(digests, Tensor) or digests.dtype != torch.uint8 or digests.shape != (len(ids), _BYTES):
                raise InputError(f"must hold {name} as uint8 [{len(ids)}, {_BYTES}]")
        return found


def fingerprint(dataset: CocoDataset) -> Fingerprint:
    """The fingerprint of a split; reads a little of every image file."""
    return Fingerprint(
        split=dataset.split,
        categories=json.dumps([[category.id, category.name] for category in dataset.categories]),
        ids=json.dumps(dataset.image_ids),
        images=_digests(_images(dataset.content.images)),
        objects=_digests(_objects(dataset.content)),
    )


def _images(images: Images) -> Iterator[bytes]:
    """What the digest of each image is made of."""
    files = in_parallel(lambda index: _file_digest(images[index].path), range(len(images)))
    for id, name, size, file in zip(images.ids, images.names, images.sizes.tolist(), files):
        yield json.dumps([id, name, *size]).encode() + file


def _objects(content: Split) -> Iterator[bytes]:
    """What the digest of the annotations of each image is made of."""
    annotations = content.annotations
    columns = [annotations.labels[:, None], annotations.boxes, annotations.area[:, None], annotations.crowd[:, None]]
    if annotations.salient_boxes is not None:
        columns.append(annotations.salient_boxes)
    order, ends = grouped(annotations.images, len(content.images))
    for start, end in zip(ends.tolist(), ends[1:].tolist()):
        yield np.concatenate([column[order[start:end]] for column in columns], axis=1, dtype=np.float64).tobytes()


def changes(before: Sequence[Fingerprint], now: Sequence[Fingerprint]) -> list[str]:
    """What has changed in each split, in words; empty if nothing has."""
    return [change for pair in zip(before, now) for change in _changes(*pair)]


def _changes(before: Fingerprint, now: Fingerprint) -> list[str]:
    if before.split != now.split:
        return [f"the split was {before.split}, is {now.split}"]
    found = []
    if before.categories != now.categories:
        old, new = ([tuple(c) for c in json.loads(categories)] for categories in (before.categories, now.categories))
        differing = [f"{name} (id {id})" for id, name in [*old, *new] if ((id, name) in old) != ((id, name) in new)]
        found.append(f"the categories of {now.split} changed: {listed(differing) or 'their order'}")
    old_ids, new_ids = json.loads(before.ids), json.loads(now.ids)
    old_at, new_at = ({id: i for i, id in enumerate(ids)} for ids in (old_ids, new_ids))
    added, removed = [id for id in new_ids if id not in old_at], [id for id in old_ids if id not in new_at]
    found += [_count(ids, now.split, what) for ids, what in ((added, "added"), (removed, "removed")) if ids]
    both = [id for id in new_ids if id in old_at]
    old_rows, new_rows = [old_at[id] for id in both], [new_at[id] for id in both]
    if not added and not removed and old_rows != new_rows:
        found.append(f"the images of {now.split} are in another order")
    for what, old_digests, new_digests in (
        ("the files of", before.images, now.images),
        ("the objects of", before.objects, now.objects),
    ):
        differs = (old_digests[old_rows] != new_digests[new_rows]).any(1).tolist()
        changed = [id for id, does in zip(both, differs) if does]
        if changed:
            found.append(f"{what} {_count(changed, now.split, 'changed')}")
    return found


def _count(ids: list[Any], split: str, what: str) -> str:
    plural = "" if len(ids) == 1 else "s"
    return f"{len(ids)} image{plural} of {split} {what} (id{plural} {listed(ids)})"


def _file_digest(path: Path) -> bytes:
    """Of a file's size, beginning and end."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = blake2b(size.to_bytes(8, "little"), digest_size=_BYTES)
        digest.update(file.read(_ENDS))
        file.seek(max(_ENDS, size - _ENDS))
        digest.update(file.read(_ENDS))
    return digest.digest()


def _digests(contents: Iterable[bytes]) -> Tensor:
    """uint8 `[N, 8]`."""
    digests = b"".join(blake2b(content, digest_size=_BYTES).digest() for content in contents)
    return torch.from_numpy(np.frombuffer(digests, np.uint8).reshape(-1, _BYTES).copy())
