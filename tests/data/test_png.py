"""PNG as it is written is read back; one that is cut or changed anywhere is found out."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data import png
from pipeline.data.png import Bytes, check_png, decode_ours, encode_png

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


def noise(count: int, height: int, width: int, channels: int) -> Bytes:
    shape = (count, height, width, channels)
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def as_bytes(data: bytes) -> Bytes:
    return np.array(bytearray(data), np.uint8)


def by_pillow(pixels: Bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (7, 1, 1), (4, 9, 3), (16, 16, 3)])
def test_pillow_reads_what_is_written(shape: tuple[int, int, int]) -> None:
    (pixels,) = noise(1, *shape)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        image.load()
        assert image.mode == ("L" if shape[2] == 1 else "RGB")
        assert (np.asarray(image).reshape(shape) == pixels).all()


@pytest.mark.parametrize("group", [1, 200, 1 << 20])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_read_back_whatever_is_summed_at_once(
    monkeypatch: pytest.MonkeyPatch, group: int, channels: int
) -> None:
    monkeypatch.setattr(png, "GROUP_BYTES", group)
    images = noise(7, 4, 9, channels)
    out = np.zeros((7, channels, 4, 9), np.uint8)
    assert decode_ours([as_bytes(encode_png(pixels)) for pixels in images], out) == []
    assert (out == images.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("group", [1, 200, 1 << 20])
def test_other_files_are_left_to_others(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(png, "GROUP_BYTES", group)
    images = noise(6, 8, 8, 3)
    data = [encode_png(pixels) for pixels in images]
    data[1] = by_pillow(images[1])  # of other filters
    data[3] = b"\xff\xd8\xff\xe0 a JPEG"
    data[4] = encode_png(images[4][:, :7])  # of another size
    data[5] = b""
    out = np.zeros((6, 3, 8, 8), np.uint8)
    assert decode_ours([as_bytes(item) for item in data], out) == [1, 3, 4, 5]
    for place in (0, 2):
        assert (out[place] == images[place].transpose(2, 0, 1)).all()


def test_nothing_is_read_from_nothing() -> None:
    assert decode_ours([], np.empty((0, 3, 8, 8), np.uint8)) == []


def test_no_cut_or_changed_byte_is_read_as_if_it_were_whole() -> None:
    (pixels,) = noise(1, 4, 4, 3)
    whole, out = encode_png(pixels), np.zeros((1, 3, 4, 4), np.uint8)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        for damaged in (bytes(changed), whole[:at]):
            try:
                assert decode_ours([as_bytes(damaged)], out) == [0]  # and then check_png refuses it
            except RuntimeError as error:
                assert "damaged PNG" in str(error)  # noqa: PT017


def test_rows_that_inflate_to_more_or_less_are_not_read() -> None:
    start = png._start(2, 2, 1)
    for size in (3, 5, 7, 10**6):
        packed = zlib.compress(bytes([2]) * size)
        data = start + png._chunk(b"IDAT", packed) + png.END
        out = np.zeros((1, 1, 2, 2), np.uint8)
        assert decode_ours([as_bytes(data)], out) == [0]


def test_compression_without_its_own_checksum_is_not_read() -> None:
    packed = zlib.compress(bytes([2, 1, 1, 2, 1, 1]))[:-4]
    data = png._start(2, 2, 1) + png._chunk(b"IDAT", packed) + png.END
    assert decode_ours([as_bytes(data)], np.zeros((1, 1, 2, 2), np.uint8)) == [0]


def test_damaged_compression_with_a_right_checksum_is_found_out() -> None:
    data = png._start(2, 2, 1) + png._chunk(b"IDAT", b"no zlib") + png.END
    with pytest.raises(RuntimeError, match="damaged PNG"):
        decode_ours([as_bytes(data)], np.zeros((1, 1, 2, 2), np.uint8))
