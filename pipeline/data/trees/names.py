"""Names of files in Arrow's memory: their letters and a few bytes each, where a text of Python
takes 49 more, and a path some 300."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa

AT_ONCE = 1 << 14  # names that are texts of Python at a time
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def packed(text: str) -> bytes:
    """A text as bytes that sort as it does; a file's name may hold what is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def unpacked(data: bytes) -> str:
    """The text of `packed`."""
    return data.decode("utf-8", "surrogatepass")


def one_form(text: str) -> str:
    """A text to compare: systems write a letter with a mark in two ways."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """`one_form` of a text, in one case."""
    return one_form(text).casefold()


class Names(Sequence[str]):
    """Texts one after the other, to which more may be appended."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._chunks: list[Any] = []  # of AT_ONCE each
        self._last: list[str] = []
        self.extend(names)

    def append(self, name: str) -> None:
        """Add one at the end."""
        self._last.append(name)
        if len(self._last) == AT_ONCE:
            self._chunks.append(pa.array(map(packed, self._last), pa.binary()))
            self._last = []

    def extend(self, names: Iterable[str]) -> None:
        """Add some at the end."""
        for name in names:
            self.append(name)

    def __len__(self) -> int:
        return AT_ONCE * len(self._chunks) + len(self._last)

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            yield from map(unpacked, chunk.to_pylist())
        yield from self._last

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        chunk, row = divmod(range(len(self))[place], AT_ONCE)
        if chunk == len(self._chunks):
            return self._last[row]
        return unpacked(self._chunks[chunk][row].as_py())


class Unused(Sequence[tuple[str, str]]):
    """(name, reason) of files, to which more may be appended; the reasons are few."""

    def __init__(self, files: Iterable[tuple[str, str]] = ()) -> None:
        self._names, self._kinds = Names(), array("I")
        self._reasons: dict[str, int] = {}
        self.extend(files)

    def extend(self, files: Iterable[tuple[str, str]]) -> None:
        """Add some at the end."""
        for name, reason in files:
            self._names.append(name)
            self._kinds.append(self._reasons.setdefault(reason, len(self._reasons)))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        reasons = list(self._reasons)
        return zip(self._names, (reasons[kind] for kind in self._kinds), strict=True)

    @overload
    def __getitem__(self, place: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, place: slice) -> list[tuple[str, str]]: ...

    def __getitem__(self, place: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        return self._names[place], list(self._reasons)[self._kinds[place]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Index:
    """Which places of some names go by a key: 16 bytes a key, which is not in memory itself."""

    def __init__(self, keys: Iterable[tuple[str, int]]) -> None:
        hashes, places = array("q"), array("q")
        for key, place in keys:
            hashes.append(hash(key))
            places.append(place)
        found = np.frombuffer(hashes, np.int64) if hashes else np.empty(0, np.int64)
        order = np.argsort(found, kind="stable")
        self._hashes = found[order]
        self._places = np.frombuffer(places, np.int64)[order] if places else found

    def places(self, key: str) -> list[int]:
        """Those of the key, ascending as they came, and, once in a great while, another's."""
        value = np.int64(hash(key))
        first, stop = (int(np.searchsorted(self._hashes, value, side)) for side in SIDES)
        return [int(place) for place in self._places[first:stop]]

    def first(self, key: str, at: Callable[[int], str | None]) -> int | None:
        """The first place that goes by the key; at: the key of a place."""
        return next((place for place in self.places(key) if at(place) == key), None)

    def holds(self, key: str, at: Callable[[int], str | None]) -> bool:
        """Whether a place goes by the key; at: as in `first`."""
        return self.first(key, at) is not None

    def repeated(self, key: Callable[[int], str]) -> tuple[int, int] | None:
        """The first place with the key of an earlier one, behind that; key: of a place."""
        for place in sorted(self._places[1:][self._hashes[1:] == self._hashes[:-1]].tolist()):
            for first in self.places(key(place)):
                if first < place and key(first) == key(place):
                    return first, place
        return None
