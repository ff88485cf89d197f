"""Whether PNG bytes are whole: torchvision can crash on damaged ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK, PNG_SUM = struct.Struct(">I4s"), struct.Struct(">I")  # length and kind; CRC-32


def check_png(data: NDArray[np.uint8]) -> None:
    """Raise RuntimeError for PNG bytes with a damaged chunk: torchvision can crash on them.

    Other formats pass. Checks the chunks' lengths and CRC-32 (PNG specification, 5.3).
    """
    view, at = data.data, 8
    if view[:8] != PNG_SIGNATURE:
        return
    end = len(view)
    while at + 12 <= end:
        length, kind = PNG_CHUNK.unpack_from(view, at)
        stop = at + 8 + length
        if stop + 4 > end or PNG_SUM.unpack_from(view, stop)[0] != zlib.crc32(view[at + 4 : stop]):
            break
        if kind == b"IEND":
            return
        at = stop + 4
    raise RuntimeError("a damaged PNG")
