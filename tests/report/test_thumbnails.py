import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.report.thumbnails import MOST_BYTES, SIDE, thumbnail_uri
from tests.data.helpers import encoded, noise, photo


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
