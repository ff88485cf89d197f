"""Bytes of strangers are decoded by processes of their own, which the kernel stops in time.

An image that takes more memory or processor time than its size explains, or crashes its decoder,
gets a reason. Where that ended the process, a fresh one goes on with its neighbours.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.decoder import SECONDS, receive, send
from pipeline.data.images import Pixels, StoredImage
from pipeline.data.masks import MOST_VALUES, MaskOf
from pipeline.errors import DataError

HEADER_PIXELS = 64_000_000  # what max_pixels is where only a header is read
MESSAGE = 8 << 20  # bytes of images that are sent at once, but for a single larger one
IN_VAIN = {signal.SIGXCPU, signal.SIGALRM}
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
ENVIRONMENT = dict.fromkeys(("MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def decode_images(
    images: Sequence[bytes],
    *,
    image_size: int,
    channels: int,
    max_pixels: int,
    bits: int = 16,
    whole: bool = False,
    encode: bool = False,
) -> list[StoredImage | str]:
    """What `images.store` makes of each, or the reason why it can't be used; threads may share it.

    Raises DataError where no process can be started, or others end it.
    """
    form = {"image_size": image_size, "channels": channels, "max_pixels": max_pixels}
    form |= {"bits": bits, "whole": whole, "encode": encode}
    return _decoded(images, form)


def decode_masks(
    masks: Sequence[MaskOf],
    *,
    side: int,
    values: Sequence[tuple[int, int]],
    others: int | None,
    max_pixels: int,
) -> list[Pixels | str]:
    """What `masks.class_square` makes of each, (S, S), as decode_images."""
    form = {"side": side, "values": values, "others": others, "max_pixels": max_pixels}
    found = _decoded([mask.packed() for mask in masks], form)
    shape = (side, side)
    return [
        each if isinstance(each, str) else np.frombuffer(each, np.uint8).reshape(shape)
        for each in found
    ]


def mask_values(
    masks: Sequence[bytes], *, max_pixels: int, most_values: int = MOST_VALUES
) -> list[list[int] | str]:
    """What `masks.values_in` finds in each, as decode_images."""
    found = _decoded(masks, {"max_pixels": max_pixels, "most_values": most_values})
    return [
        each if isinstance(each, str) else np.frombuffer(each, np.uint32).tolist() for each in found
    ]


def decode_pictures(
    images: Sequence[bytes], *, side: int, most_bytes: int, max_pixels: int, bits: int = 16
) -> list[bytes | str]:
    """What `pictures.whole_picture` makes of each, as decode_images."""
    form = {"side": side, "most_bytes": most_bytes, "max_pixels": max_pixels, "bits": bits}
    return _decoded(images, form)


def _decoded(images: Sequence[bytes], form: dict[str, Any]) -> list[Any]:
    """The answer to each image in this form."""
    pool = _pool(os.getpid())
    return [answer for batch in _messages(images) for answer in pool.decoded(batch, form)]


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of the formats that are known by their content does."""
    form = {"max_pixels": HEADER_PIXELS}
    return _pool(os.getpid()).decoded([os.fsencode(path.absolute())], form) == [""]


def _messages(images: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch, size = list[bytes](), 0
    for data in images:
        if batch and size + len(data) > MESSAGE:
            yield batch
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch


class _EndedError(Exception):
    """A process ended before its answer; reason: what an image of its did, None for others."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the process that decodes images ended with exit code {code}")
        self.reason = None
        if -code in IN_VAIN:
            self.reason = f"takes over {SECONDS} s to decode"
        elif -code in CRASHES:
            self.reason = f"crashes its decoder ({signal.Signals(-code).name})"


class _Pool:
    """Processes that wait for images, at most one for each core; started when needed."""

    def __init__(self) -> None:
        self._idle, self._cores = deque[_Child](), threading.Semaphore(os.cpu_count() or 1)
        self._turn = tempfile.TemporaryFile()  # noqa: SIM115  # locked by whoever holds a large one
        atexit.register(self.close)

    def decoded(self, images: Sequence[bytes], form: dict[str, Any]) -> list[Any]:
        """The answers to one message; where its process ends, to each image by itself."""
        try:
            return self._ask(images, form)
        except _EndedError as ended:
            if len(images) > 1:
                return [answer for data in images for answer in self.decoded([data], form)]
            if ended.reason is None:
                raise DataError(f"{ended}; is there too little memory?") from None
            return [ended.reason]

    def _ask(self, images: Sequence[bytes], form: dict[str, Any]) -> list[Any]:
        for last in (False, True):
            try:
                with self._cores:
                    child = (None if last else self._waiting()) or _Child(self._turn.fileno())
                    answers = child.ask(images, form)
                    self._idle.append(child)
                    return answers
            except _EndedError as ended:  # one that others end is tried again
                if last or ended.reason is not None:
                    raise
        raise AssertionError

    def _waiting(self) -> _Child | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def close(self) -> None:
        """End them."""
        while self._idle:
            self._idle.pop().end()
        self._turn.close()


@cache
def _pool(process: int) -> _Pool:
    """That of this process; one that was forked has its own."""
    return _Pool()


class _Child:
    def __init__(self, turn: int) -> None:
        paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "pipeline.data.decoder", str(turn)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(turn,),
                env=os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)},
            )
        except OSError as error:
            raise DataError(f"no process can be started to decode images ({error})") from None
        self._requests: Any = self._process.stdin
        self._answers: Any = self._process.stdout

    def ask(self, images: Sequence[bytes], form: dict[str, Any]) -> list[StoredImage | bytes | str]:
        """Raises _EndedError."""
        try:
            send(self._requests, form, images)
            answers, blobs = receive(self._answers)
        except (EOFError, OSError, ValueError):
            raise _EndedError(self.end()) from None
        except BaseException:  # Ctrl-C: what it would answer next is not what is asked next
            self._process.kill()
            self.end()
            raise
        found = iter(blobs)

        def stored(traits: list[Any]) -> StoredImage | bytes:
            if not traits:
                return next(found)
            shape = (form["image_size"], form["image_size"], form["channels"])
            data, pixels = next(found), np.frombuffer(next(found), np.uint8)
            return StoredImage(data, pixels.reshape(shape), *traits)

        return [answer if isinstance(answer, str) else stored(answer) for answer in answers]

    def end(self) -> int:
        """Wait for its end, and give its exit code."""
        with suppress(OSError):
            self._requests.close()
        self._answers.close()
        return self._process.wait()
