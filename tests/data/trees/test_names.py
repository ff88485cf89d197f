from __future__ import annotations

import pytest

from pipeline.data.trees.names import AT_ONCE, Index, Names, Unused


def test_names_are_a_list_of_texts() -> None:
    texts = [f"{n} ä\udcff" for n in range(AT_ONCE + 5)]
    names = Names(texts[:7])
    names.extend(texts[7:])
    assert len(names) == len(texts)
    assert list(names) == texts
    assert [names[0], names[-1], names[AT_ONCE]] == [texts[0], texts[-1], texts[AT_ONCE]]
    assert names[AT_ONCE - 2 : AT_ONCE + 2] == texts[AT_ONCE - 2 : AT_ONCE + 2]
    with pytest.raises(IndexError):
        names[len(texts)]


def test_unused_files_have_a_reason_each() -> None:
    files = [("b", "one"), ("a", "two"), ("c", "one")]
    assert list(Unused(files)) == files
    assert Unused(files) == files
    assert Unused(files)[1] == ("a", "two")
    assert not Unused()


def test_an_index_finds_the_places_of_a_key() -> None:
    keys = ["a", "b", "a", "c", "b", "a"]
    index = Index((key, place) for place, key in enumerate(keys))
    assert [index.places(key) for key in "abcd"] == [[0, 2, 5], [1, 4], [3], []]
    assert index.repeated(keys.__getitem__) == (0, 2)
    assert Index([("a", 0), ("b", 1)]).repeated("ab".__getitem__) is None
    assert Index([]).places("a") == []
