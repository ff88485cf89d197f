import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.report.galleries import (
    MOST_BYTES,
    MOST_OFFERED,
    MOST_SHOWN,
    SIDE,
    UnlabeledViews,
    chosen_rows,
    likeliest,
    surest_per_class,
    thumbnail_uri,
)
from tests.data.helpers import encoded, noise, photo


def slow_surest(
    labels: list[int], confidences: list[float], among: list[bool], most: int
) -> list[int]:
    """Round after round one of each class, the surest that is left; then class by class."""
    queues = {
        label: sorted(
            (row for row in range(len(labels)) if labels[row] == label and among[row]),
            key=lambda row: (-confidences[row], row),
        )
        for label in sorted(set(labels))
    }
    chosen: list[int] = []
    while any(queues.values()) and len(chosen) < most:
        heads = [queue.pop(0) for queue in queues.values() if queue]
        heads.sort(key=lambda row: (-confidences[row], row))
        chosen += heads[: most - len(chosen)]
    return sorted(chosen, key=lambda row: (labels[row], -confidences[row], row))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.booleans()), max_size=25),
    st.integers(0, 12),
)
def test_the_surest_of_each_class_are_those_of_asking_class_by_class(
    rows: list[tuple[int, int, bool]], most: int
) -> None:
    labels, levels, among = ([row[i] for row in rows] for i in range(3))
    confidences = [level / 8 for level in levels]
    got = surest_per_class(
        np.array(labels, np.int64),
        np.array(confidences, np.float32),
        np.array(among, np.bool_),
        most,
    )
    assert got == slow_surest(labels, confidences, [bool(each) for each in among], most)


def views(count: int, *, before: bool = True, seed: int = 0) -> UnlabeledViews:
    draw = np.random.default_rng(seed)
    return UnlabeledViews(
        labels=draw.integers(0, 3, count),
        confidences=draw.random(count, np.float32),
        kept=draw.random(count) < 0.6,
        before=draw.integers(0, 3, count) if before else None,
        doubts=draw.random(count, np.float32),
        pairs=draw.integers(0, 3, count),
        strangers=draw.random(count) < 0.2,
    )


@pytest.mark.parametrize("count", [1, 30, 400])
def test_each_gallery_holds_what_its_name_says(count: int) -> None:
    given_views = views(count)
    chosen = chosen_rows(given_views, 3)
    kept, sure = given_views.kept, given_views.confidences

    def ends(among: NDArray[np.bool_], sign: int) -> list[int]:
        rows = [row for row in range(count) if among[row]]
        return sorted(rows, key=lambda row: sign * sure[row])[:MOST_SHOWN]

    assert chosen["least_sure"] == ends(kept, 1)
    assert chosen["missed"] == ends(~kept & ~given_views.strangers, -1)
    assert chosen["strangers"] == ends(given_views.strangers, 1)
    assert given_views.before is not None
    assert chosen["changed"] == ends(given_views.before != given_views.labels, -1)
    assert len(chosen["offered"]) == min(count, MOST_OFFERED)
    assert all(kept[row] for row in chosen["surest"])


def test_nothing_has_changed_before_there_were_two_teachers() -> None:
    assert "changed" not in chosen_rows(views(20, before=False), 3)


def test_the_likeliest_classes_come_first() -> None:
    values = np.array([0.1, 0.4, 0.4, 0.05, 0.03, 0.02], np.float32)
    found = likeliest(values, "abcdef")
    assert [name for name, _ in found] == ["b", "c", "a", "d", "e"]
    assert found[2][1] == pytest.approx(0.1)


def opened(uri: str) -> tuple[str, Image.Image]:
    kind, _, data = uri.removeprefix("data:image/").partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_stays_to_the_pixel(channels: int) -> None:
    pixels = noise(1, 16, channels)
    kind, image = opened(thumbnail_uri(encoded(pixels)))
    assert kind == "png"
    assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [90, 97, 700])
def test_the_worst_image_fits(side: int, channels: int) -> None:
    uri = thumbnail_uri(encoded(noise(2, side, channels)))
    assert len(uri) <= MOST_BYTES * 4 / 3 + 30
    kind, image = opened(uri)
    assert kind == "jpeg"
    assert image.size == (min(side, SIDE),) * 2


def test_a_large_image_keeps_its_look_and_shape() -> None:
    kind, image = opened(thumbnail_uri(encoded(photo(400, 200))))
    assert (kind, image.size) == ("jpeg", (SIDE, SIDE // 2))
    wanted = np.asarray(photo(400, 200).resize(image.size)).astype(int)
    assert abs(np.asarray(image).astype(int) - wanted).mean() < 6
