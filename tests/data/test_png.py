"""A PNG that is cut or changed anywhere is found out; what is no PNG passes."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.images import encode_png
from pipeline.data.png import check_png

WHOLE = encode_png(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def check(data: bytes) -> None:
    check_png(np.frombuffer(data, dtype=np.uint8))


def test_whole_ones_other_formats_and_nothing_pass() -> None:
    check(WHOLE)
    check(WHOLE + b"more")  # what stands after the end is not read
    check(b"\xff\xd8\xff\xe0 a JPEG")
    check(b"")


def test_every_cut_and_every_changed_byte_is_found_out() -> None:
    for at in range(8, len(WHOLE)):
        with pytest.raises(RuntimeError, match="damaged PNG"):
            check(WHOLE[:at])
        changed = bytearray(WHOLE)
        changed[at] ^= 0x10
        with pytest.raises(RuntimeError, match="damaged PNG"):
            check(bytes(changed))
