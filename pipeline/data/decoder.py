"""The process that decodes bytes of strangers, and what the kernel lets it take for an image.

`decoding.py` starts it: `python -m pipeline.data.decoder`. Between the two go lengths, JSON and
bytes, no pickles. It ends where its parent has ended.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.data.images import BadImageError, StoredImage, check_header, readable_formats, store
from pipeline.data.masks import class_square, values_in
from pipeline.data.pictures import whole_picture
from pipeline.memory import address_space

MEMORY, MEMORY_A_PIXEL = 256 << 20, 32  # bytes of address space, beside 4 times the file's bytes
HEADER_A_PIXEL = 8  # the same while a header is read, for WebP; of data.max_pixels
SECONDS, SECONDS_A_PIXEL = 5, 1e-6  # of processor time
MOST_SECONDS = 600  # by the clock, for one message
NO_LIMIT = 1 << 62
LARGE = 16_000_000  # pixels; of the images above, a process and its children hold one at a time


def send(file: BinaryIO, head: Any, blobs: Sequence[bytes]) -> None:
    """Write one message: what JSON can hold, and bytes."""
    text = json.dumps([head, [len(blob) for blob in blobs]]).encode()
    file.write(len(text).to_bytes(8) + text)
    for blob in blobs:
        file.write(blob)
    file.flush()


def receive(file: BinaryIO) -> tuple[Any, list[bytes]]:
    """Read one message; raises EOFError where there is no more, or not all of it."""
    head, lengths = json.loads(_exactly(file, int.from_bytes(_exactly(file, 8))))
    return head, [_exactly(file, length) for length in lengths]


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _serve(turn: int) -> None:
    """Answer what comes on the standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the parent, which closes the input
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory is short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed
    readable_formats()
    with suppress(ImportError):  # else it takes the address space of a thread for each core
        plugin: Any = import_module("PIL.AvifImagePlugin")
        plugin.DEFAULT_MAX_THREADS = 1
    limits, most = _Limits(turn), address_space() + MEMORY
    while address_space() <= most:  # else a decoder has not given back its memory
        try:
            form, images = receive(sys.stdin.buffer)
        except EOFError:
            return
        heads, blobs = list[Any](), list[bytes]()
        with limits.of(images, form["max_pixels"]):
            for data in images:
                answer = _answer(data, form, limits)
                if isinstance(answer, str):
                    heads.append(answer)
                elif isinstance(answer, bytes):
                    heads.append([])
                    blobs.append(answer)
                else:
                    traits = (answer.width, answer.height, answer.mode, answer.largest, answer.turn)
                    heads.append([answer.animated, *traits])
                    blobs += [answer.data, answer.pixels.tobytes()]
        send(answers, heads, blobs)


def _answer(data: bytes, form: dict[str, Any], limits: _Limits) -> StoredImage | bytes | str:
    try:
        limits.start()
        if "most_bytes" in form:
            return whole_picture(data, **form, reserve=limits.reserve)
        if "values" in form:
            return class_square(data, **form, reserve=limits.reserve)
        if "most_values" in form:
            return values_in(data, **form, reserve=limits.reserve)
        if "image_size" in form:
            return store(data, **form, reserve=limits.reserve)
        check_header(Path(os.fsdecode(data)))
        return ""
    except BadImageError as error:
        return str(error)
    except MemoryError:
        return f"takes over {MEMORY >> 20} MiB of memory to decode"
    finally:
        limits.end()


class _Limits:
    """What the kernel lets this process take for an image; memory only on Linux."""

    def __init__(self, turn: int) -> None:
        self._turn, self._is_large, self._memory, self._header = turn, False, 0, 0
        kinds = (resource.RLIMIT_CPU, resource.RLIMIT_AS)
        self._most = {kind: resource.getrlimit(kind)[1] for kind in kinds}

    @contextmanager
    def of(self, images: Sequence[bytes], max_pixels: int) -> Iterator[None]:
        """While images of one message are decoded."""
        self._memory = address_space() + MEMORY + 4 * max(map(len, images), default=0)
        self._header = self._memory + HEADER_A_PIXEL * max_pixels
        signal.alarm(MOST_SECONDS)
        yield
        signal.alarm(0)
        for kind, most in self._most.items():
            resource.setrlimit(kind, (most, most))

    def start(self) -> None:
        """For the header of an image."""
        self._set(SECONDS, self._header)

    def reserve(self, pixels: int, held: int) -> None:
        """For its pixels: those that are passed over, and those in memory."""
        if held > LARGE:
            signal.alarm(0)
            fcntl.lockf(self._turn, fcntl.LOCK_EX)
            self._is_large = True
            signal.alarm(MOST_SECONDS)
        self._set(SECONDS + SECONDS_A_PIXEL * pixels, self._memory + MEMORY_A_PIXEL * pixels)

    def end(self) -> None:
        """Let another one have its large image."""
        if self._is_large:
            fcntl.lockf(self._turn, fcntl.LOCK_UN)
            self._is_large = False

    def _set(self, seconds: float, memory: int) -> None:
        self._limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds))
        if sys.platform == "linux":
            self._limit(resource.RLIMIT_AS, memory)

    def _limit(self, kind: int, limit: int) -> None:
        most = self._most[kind]
        resource.setrlimit(kind, (min(limit, NO_LIMIT if most < 0 else most), most))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
