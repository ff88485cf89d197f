"""What a served model takes for an image."""

from __future__ import annotations

import base64

import pytest

from pipeline.evaluate.classify import image_bytes

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "given",
    [
        DATA,
        TEXT,
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f"data:image/png;base64,{TEXT}",
        f" data:image/svg+xml;charset=utf-8;base64, {TEXT}",
    ],
)
def test_bytes_and_base64_in_lines_or_a_data_uri_are_read(given: bytes | str) -> None:
    assert image_bytes(given) == DATA


@pytest.mark.parametrize("given", ["no base64!", "data:image/png,plain", TEXT[:-1], 7, None])
def test_what_is_none_of_these_is_said(given: object) -> None:
    assert isinstance(image_bytes(given), str)
