"""Label Studio's brush masks as its own converter packs and unpacks them, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.answers import brush
from pipeline.data.answers.brush import pack_brush, unpack_brush


def slowly_unpacked(data: list[int]) -> NDArray[np.uint8]:
    """The words of packed bytes, by the format's description, from a text of bits."""
    text = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(text[at - count : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        words += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(words, np.uint8)


def packed_words(words: NDArray[np.uint8], sizes: tuple[int, ...] = (3, 4, 8, 16)) -> bytes:
    """Words as they are, without any that are repeated."""
    bits = f"{len(words):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for start in range(0, len(words), 16):
        some = words[start : start + 16]
        bits += f"001{len(some) - 1:0{sizes[1]}b}" + "".join(f"{word:08b}" for word in some)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


MASKS = {
    "noise": np.random.default_rng(0).random((13, 17)) < 0.5,
    "one class": np.ones((5, 7), np.bool_),
    "nothing": np.zeros((5, 7), np.bool_),
    "one pixel": np.eye(1, dtype=np.bool_),
    "long runs": np.arange(300 * 200).reshape(300, 200) > 20_000,
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_mask_comes_back_as_it_was(mask: NDArray[np.bool_]) -> None:
    packed = pack_brush(mask)
    assert set(map(type, packed)) == {int}
    words = slowly_unpacked(packed).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(words, np.repeat(255 * mask[..., None], 4, axis=2))
    np.testing.assert_array_equal(unpack_brush(bytes(packed), *mask.shape[::-1]), mask)


def test_a_mask_is_packed_in_these_bytes() -> None:
    """Of 4 pixels the last: 12 words 0, 4 words 255; worked out by hand."""
    bits = f"{16:032b}" + "00111" + "0010001101111111"
    bits += "1011011" + "00000000" + "100011" + "11111111"
    expected = int(bits.ljust(88, "0"), 2).to_bytes(11)
    assert bytes(pack_brush(np.array([[False, False], [False, True]]))) == expected


@pytest.mark.parametrize("sizes", [(3, 4, 8, 16), (1, 5, 2, 9)])
def test_words_that_are_not_repeated_are_read_too(sizes: tuple[int, ...]) -> None:
    """The browser packs so the edge of a stroke, whose pixels are half transparent."""
    words = np.random.default_rng(1).integers(0, 256, (6, 5, 4), np.uint8)
    packed = packed_words(words.ravel(), sizes)
    np.testing.assert_array_equal(slowly_unpacked(list(packed)), words.ravel())
    np.testing.assert_array_equal(unpack_brush(packed, 5, 6), words[:, :, 3] >= 128)


def test_what_is_no_mask_of_that_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bytes(pack_brush(np.ones((4, 4), np.bool_)))
    huge = (2**32 - 1).to_bytes(4) + packed[4:]
    more = bytes(pack_brush(np.ones((4, 5), np.bool_)))
    plain = packed_words(np.zeros(64, np.uint8))
    for data, words in (
        (b"", "ends too early"),
        (packed[:-2], "ends too early"),
        (plain[:-8], "ends too early"),
        (huge, "is not of 4x4"),
        (packed[:4] + more[4:], "more pixels than its image"),
        (more, "is not of 4x4"),
    ):
        with pytest.raises(ValueError, match=words):
            unpack_brush(data, 4, 4)
    monkeypatch.setattr(brush, "MOST_BYTES", len(packed) - 1)
    with pytest.raises(ValueError, match="a brush region of over"):
        unpack_brush(packed, 4, 4)
