"""Images are decoded in processes of their own, and none harms its neighbours."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.data import decoding
from pipeline.data.decoding import decode_images, is_image
from pipeline.data.images import BadImageError, StoredImage, store
from pipeline.errors import DataError
from tests.data.helpers import encoded, noise, photo
from tests.data.hostile_images import (
    huge_png,
    icon_of,
    jpeg_of_exif,
    jpeg_of_scans,
    tiled_tiff,
)

FORM: dict[str, Any] = {"image_size": 16, "channels": 3, "max_pixels": 64_000_000}
TOO_MUCH_MEMORY = icon_of(huge_png(16_000, 10_000))


def children() -> list[psutil.Process]:
    """The processes of this one that decode."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "pipeline.data.decoder" in child.cmdline()
    ]


def decode(data: bytes) -> StoredImage | str:
    return decode_images([data], **FORM)[0]


def in_this_process(data: bytes) -> StoredImage | str:
    try:
        return store(data, **FORM)
    except BadImageError as error:
        return str(error)


def same(one: StoredImage | str, other: StoredImage | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return (one.data, one.pixels.tolist()) == (other.data, other.pixels.tolist()) and (
        (one.animated, one.side, one.mode, one.largest)
        == (other.animated, other.side, other.mode, other.largest)
    )


def test_the_answers_are_those_of_this_process_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    kinds = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
    images = [encoded(photo(40 + place, 24), kind) for place, kind in enumerate(kinds)]
    images += [b"", b"no image", encoded(photo(16, 16), "JPEG"), images[2][:400]]
    images += [encoded(Image.fromarray(noise(1).astype(np.uint16)[:, :, 0] * 256))]
    broken = encoded(photo(), "TIFF", compression="tiff_deflate")
    images += [broken[:8] + b"\xff" * 9 + broken[17:]]
    expected = [in_this_process(data) for data in images]
    assert "ZIPDecode" in capfd.readouterr().err
    found = decode_images(images * 9, **FORM, encode=True)
    assert all(map(same, found, expected * 9))
    plain = decode(images[0])
    assert isinstance(plain, StoredImage)
    assert plain.data == b""
    assert capfd.readouterr().err == ""


def test_a_large_message_is_split_and_threads_have_a_process_each() -> None:
    image = encoded(photo()) + bytes(3 << 20)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: decode_images([image] * 7, **FORM), range(4)))
    assert all(isinstance(answer, StoredImage) for answers in found for answer in answers)
    assert 1 <= len(children()) <= 3


def test_a_memory_bomb_has_its_reason_and_its_neighbours_their_pixels() -> None:
    good = encoded(photo())
    found = decode_images([good, TOO_MUCH_MEMORY, tiled_tiff(46_336), good], **FORM)
    assert found[1] == "takes over 256 MiB of memory to decode"
    assert found[2] == "too many pixels: 64x64 in tiles of 46336x46336"
    assert all(isinstance(found[place], StoredImage) for place in (0, 3))
    assert max(child.memory_info().rss for child in children()) < 200 << 20


@pytest.mark.slow
def test_a_bomb_of_seconds_has_its_reason_and_its_neighbours_their_pixels() -> None:
    good = encoded(photo())
    found = decode_images([good, jpeg_of_exif(4000), good, jpeg_of_scans(90, 1000)], **FORM)
    assert found[1] == "takes over 5 s to decode"
    assert all(isinstance(found[place], StoredImage) for place in (0, 2, 3))


def test_processes_that_others_end_are_replaced() -> None:
    good = encoded(photo())
    assert isinstance(decode(good), StoredImage)
    for child in children():
        child.kill()
    assert isinstance(decode(good), StoredImage)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGXCPU, "takes over 5 s to decode"),
        (signal.SIGSEGV, "crashes its decoder (SIGSEGV)"),
        (signal.SIGKILL, None),
    ],
)
def test_why_a_process_ended(number: signal.Signals, reason: str | None) -> None:
    assert decoding._EndedError(-number).reason == reason


def test_large_images_are_decoded_one_at_a_time() -> None:
    large = encoded(Image.new("L", (4100, 4000)))
    turn = decoding._pool(os.getpid())._turn
    with ThreadPoolExecutor(2) as pool:
        fcntl.lockf(turn, fcntl.LOCK_EX)  # as a process that has a large image does
        try:
            waiting = pool.submit(decode, large)
            assert isinstance(decode(encoded(photo())), StoredImage)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
        finally:
            fcntl.lockf(turn, fcntl.LOCK_UN)
        assert isinstance(waiting.result(), StoredImage)
        assert all(isinstance(found, StoredImage) for found in pool.map(decode, [large] * 3))


def test_no_process_outlives_a_parent_that_is_killed() -> None:
    program = (
        "import psutil, time; from pipeline.data.decoding import decode_images\n"
        "decode_images([b''], image_size=8, channels=1, max_pixels=64)\n"
        "print(psutil.Process().children()[0].pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_can_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding._pool.cache_clear()
    for program, said in [("/bin/false", "exit code 1"), ("/no/such", "No such file")]:
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(DataError, match=said):
            decode_images([b""], **FORM)


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="Linux has it")
def test_a_link_to_what_would_be_waited_for_is_no_image(tmp_path: Path) -> None:
    link = tmp_path / "log"
    link.symlink_to("/proc/kmsg")
    assert not is_image(link)
