"""Two operators of an exported detector in ONNX, for which torch's exporter has no translation, or one that fails.

Seen with torch 2.14, onnxscript 0.7: aten::sort with stable=True has none, and that of aten::embedding_bag with a
padding index is a loop that onnxruntime refuses to load.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset20

OPSET = 20
op: Any = opset20  # its own annotations say of no value which type it has


def _stable_sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Of a vector: TopK keeps equal values in order."""
    return op.TopK(values, op.Shape(values), axis=dim, largest=int(descending), sorted=1)


def _embedding_bag(
    table: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Of bags of equal size, in mode "sum", whose padding row is zero: a product of weights and rows.

    All rows are copied: for a thousand RoIs of 7 × 7 bins, 2 × 2 samples and 256 channels this takes 0.8 GB.
    """
    bags = op.Concat(op.Shape(offsets), op.Constant(value_ints=[-1]), axis=0)  # [bags, taps]
    second = op.Constant(value_ints=[1])
    weights = op.Unsqueeze(op.Reshape(per_sample_weights, bags), second)  # [bags, 1, taps]
    sums = op.MatMul(weights, op.Gather(table, op.Reshape(indices, bags)))  # [bags, 1, channels]
    unused = op.Identity(offsets)
    return op.Squeeze(sums, second), unused, unused, unused


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.aten.sort.stable: _stable_sort,
    torch.ops.aten.embedding_bag.padding_idx: _embedding_bag,
}
