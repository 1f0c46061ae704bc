"""Several seeds of one system: mean and standard deviation of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and sample standard deviation (of one value: 0); None where there is nothing to measure."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 4), "sd": round(sd, 4)}


def spread_each(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`spread` of every entry that all rows have; entries may be dicts of such entries themselves."""
    return {
        name: spread_each([row[name] for row in rows]) if isinstance(value, dict) else spread([r[name] for r in rows])
        for name, value in rows[0].items()
        if all(name in row for row in rows)
    }
