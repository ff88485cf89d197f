"""What holds for every test: one CPU thread, so that figures and timings repeat."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.s3 import BUCKET, s3_server, s3_url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: where two processes share the files, both end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Host and port of an S3-compatible server."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder in storage, on a file system and on an object store."""
    if request.param == "file":
        return (tmp_path / "shared storage").as_uri()
    return s3_url(request.getfixturevalue("s3"), f"{BUCKET}/{uuid.uuid4().hex}")
