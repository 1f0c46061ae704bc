"""Values as text of a page: JSON, and bytes. The page's side is unpack_text.js."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np

# Base 85: four bytes are five digits. Base64 would be 7% longer. No digit means anything to HTML.
_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;.=/?@^_`{|}~"
_POWERS = 85 ** np.arange(4, -1, -1)


def json_text(values: Any) -> str:
    """JSON for a script element: ASCII, and no tag can begin or end in it, whatever a class or a model is called."""
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")


def bytes_text(values: bytes) -> str:
    """Bytes, compressed. The first digit says how many zeros at the end fill the last four."""
    packed = gzip.compress(values, mtime=0)
    filled = -len(packed) % 4
    words = np.frombuffer(packed + bytes(filled), dtype=">u4").astype(np.int64)
    digits = np.frombuffer(_DIGITS, dtype=np.uint8)[words[:, None] // _POWERS % 85]
    return chr(_DIGITS[filled]) + digits.tobytes().decode()


def packed_text(values: bytes) -> str:
    """float16 values, little-endian: all low bytes come first, then all high bytes.

    The high bytes (sign, exponent and two bits of the fraction) are alike in most values, and gzip finds that only if
    they stand together: the text is 7% shorter.
    """
    return bytes_text(np.frombuffer(values, dtype=np.uint8).reshape(-1, 2).T.tobytes())
