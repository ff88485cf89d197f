from __future__ import annotations

import pickle
import socket
from pathlib import Path

import pytest

from pipeline.data.storage import StoredFolder, open_storage
from pipeline.errors import ParameterError, StorageError
from tests.s3 import BUCKET, s3_url


def opened(url: str) -> StoredFolder:
    folder = open_storage(url)
    assert folder is not None
    return folder


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 50_000])
def test_what_is_written_is_read(storage_url: str, data: bytes) -> None:
    folder = opened(storage_url) / "some" / "where"
    folder.write("name.parquet", data)
    assert folder.read("name.parquet").to_pybytes() == data
    assert pickle.loads(pickle.dumps(folder)).read("name.parquet").size == len(data)
    assert folder.sizes() == {"name.parquet": len(data)}
    assert [item.path for item in opened(storage_url).listing()] == ["some/where/name.parquet"]


def test_an_object_is_replaced_and_removed(storage_url: str) -> None:
    folder = opened(storage_url) / "some"
    for data in (b"first, longer", b"second"):
        folder.write("a", data)
    folder.write("b", b"b")
    assert folder.read("a").to_pybytes() == b"second"
    folder.remove("a")
    folder.remove("a")  # nothing to do
    with pytest.raises(FileNotFoundError):
        folder.read("a")
    assert folder.sizes() == {"b": 1}
    folder.remove_all()
    folder.remove_all()
    assert folder.listing() == []


def test_an_empty_storage_holds_no_trace_of_the_check(storage_url: str) -> None:
    assert opened(storage_url).listing() == []
    assert (opened(storage_url) / "nowhere").sizes() == {}


def test_addresses_join_before_their_query() -> None:
    folder = StoredFolder("s3://bucket/mine/?region=a") / "shards"
    assert folder.uri == "s3://bucket/mine/shards?region=a"
    assert folder.name == "shards"
    assert folder.object_uri("x") == "s3://bucket/mine/shards/x"
    assert (StoredFolder("file:///a") / "b").uri == "file:///a/b"


def test_no_storage_is_none() -> None:
    assert open_storage(None) is None


def test_a_bucket_that_is_not_there_is_named(s3: str) -> None:
    with pytest.raises(StorageError, match="there is no bucket 'nobucket'; make it first") as error:
        open_storage(s3_url(s3, "nobucket/mine"))
    assert "\n" not in str(error.value)


def test_a_query_that_means_nothing_is_a_wrong_parameter(s3: str) -> None:
    with pytest.raises(ParameterError, match="'colour'"):
        open_storage(s3_url(s3, BUCKET) + "&colour=red")


def test_a_server_that_does_not_answer_is_one_line(s3: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        server = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(StorageError, match="not do as asked") as error:
            open_storage(s3_url(server, BUCKET))
    assert "\n" not in str(error.value)
    assert "connect" in str(error.value).lower()


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file:///.*file/mine") as error:
        open_storage((tmp_path / "file").as_uri() + "/mine")
    assert "\n" not in str(error.value)
