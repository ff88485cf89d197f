from __future__ import annotations

import pickle

from pipeline.data.sources.entries import Entries, Entry


def entries(count: int) -> Entries:
    return Entries.of(
        Entry(f"class_{n % 100:03}/image_{n:08}.jpg", n % 100, group=f"g{n % 7}")
        for n in range(count)
    )


def test_entries_are_what_they_were_made_of() -> None:
    made = [
        Entry("a/\udcff.png", 3, split="test"),
        Entry("ä", None, mask="m/ä.png", group="7"),
        Entry("gone", problem="unreadable"),
    ]
    found = pickle.loads(pickle.dumps(Entries.joined([Entries.of(made), Entries.of([])])))
    assert list(found) == made
    assert list(found.part(1, 9)) == made[1:]
    assert [found.name(1), found.mask(1), found.mask(0)] == ["ä", "m/ä.png", None]
    assert [each.label for each in found.labelled([9, 8, 7, 6])] == [6, None, None]


def test_an_image_takes_few_bytes_and_a_part_its_own_alone() -> None:
    many = entries(20_000)
    assert many._table.nbytes < 100 * len(many)
    assert len(pickle.dumps(many.part(9_000, 9_010))) < 2500
