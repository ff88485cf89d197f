from __future__ import annotations

import errno
import pickle
import socket
import urllib.request
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest

from pipeline.data.sources import open_source
from pipeline.data.trees import Tree, open_place, open_tree
from pipeline.data.trees.tree import SYSTEM
from pipeline.data.trees.walk import Walk
from pipeline.errors import ParameterError, SelftrainError, SourceError, StorageError
from tests.s3 import BUCKET, s3_url

Put = Callable[..., str]


@pytest.fixture
def put(s3: str) -> Put:
    """What writes objects of these keys below a folder, and says the folder's address."""
    folder = uuid.uuid4().hex

    def put(*keys: str, data: bytes = b"x") -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        kind = {"Content-Type": "application/octet-stream"}
        for key in keys:
            url = f"http://{s3}/{BUCKET}/{folder}/{quote(key)}"
            with opener.open(urllib.request.Request(url, data, kind, method="PUT")):
                pass
        return s3_url(s3, f"{BUCKET}/{folder}")

    return put


def test_objects_are_listed_by_folder_and_read_by_name(put: Put) -> None:
    address = put("cat/2.png", "cat/1.JPG", "cat/ä b.png", "dog/deep/3.png", "notes.txt", ".git/x")
    tree = pickle.loads(pickle.dumps(open_tree(address)))
    walk = Walk(tree)
    names = ["cat/1.JPG", "cat/2.png", "cat/ä b.png", "dog/deep/3.png"]
    assert list(walk.tree.names()) == names
    assert list(walk.unused) == [(".git/x", SYSTEM), ("notes.txt", ".txt file, not an image")]
    gone = (b"", "unreadable: No such file or directory")
    assert tree.read("cat/2.png") == (b"x", None)
    assert list(tree.reads([*names * 9, "cat/9.png"])) == [(b"x", None)] * 36 + [gone]
    with tree.opened("notes.txt") as (file, size):
        assert (file.read(), size) == (b"x", 1)
    with pytest.raises(OSError, match="No such file") as error, tree.opened("none"):
        pass
    assert error.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="too large"), tree.opened("notes.txt"):
        raise OSError(errno.EFBIG, "too large")
    assert tree.where("cat/2.png").endswith("/cat/2.png")
    assert "?" not in tree.where("cat")


def test_an_object_lies_in_its_folder(put: Put) -> None:
    address = put("in/my labels.csv")
    path, query = address.split("?")
    tree, name = open_place(f"{path}/in/my%20labels.csv?{query}")
    assert (tree.where(name), name) == (f"{path}/in/my labels.csv", "my labels.csv")
    assert tree.read(name) == (b"x", None)
    assert open_place(address)[1] == open_place(f"{path}/in/?{query}")[1] == ""


def test_what_a_table_calls_a_file_stays_below_the_root(put: Put) -> None:
    tree: Tree = open_tree(put("cat/1.png"))
    for name in ("1.png", "./1.png", "../cat/1.png", ".\\1.png", tree.where("cat/1.png")):
        assert tree.inside("cat", name) == "cat/1.png"
    for name in ("../../x.png", "/etc/passwd", "../..", "s3://x/../../../.."):
        assert tree.inside("cat", name) is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["a/1.png", "a//2.png"], "/a: an object below it has // in its key"),
        (["a/1.png", "/2.png"], ": an object below it has // in its key"),
        (["a/1.png", "b", "b/1.png"], "/b: is an object and a folder; rename one"),
        (["/".join("d" * 130) + "/1.png"], "folders in each other; move it further up"),
        (["a/1.png", "a/"], ""),  # as consoles mark a folder
        (["a/1.png", "a/../../b.png", "./b/2.png"], ""),
    ],
)
def test_keys_that_are_no_paths_are_named(put: Put, keys: list[str], said: str) -> None:
    address = put(*keys)
    if said:
        with pytest.raises(SourceError) as error:
            Walk(open_tree(address))
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        return
    walk = Walk(open_tree(address))
    assert list(walk.tree.names()) == ["a/1.png"]
    assert all(reason == SYSTEM for _, reason in walk.unused)


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("s3://nobucket/x?{server}", SourceError, "s3://nobucket/x: there is no bucket 'nobucket'"),
        ("s3://bucket/nowhere?{server}", SourceError, "no such folder, and no such object"),
        ("s3://bucket/a/*.png?{server}", SourceError, "patterns are for folders of a machine"),
        ("s3://bucket/x?{nobody}", StorageError, "s3://bucket/x"),
        ("s3://key:secret@bucket/x", ParameterError, "credentials go into the environment"),
        ("s3:///x", ParameterError, "must name a bucket"),
        ("http://host/x", ParameterError, "must start with file://, s3://, gs://"),
    ],
)
def test_what_can_not_be_opened_is_one_line(
    s3: str, address: str, error: type[SelftrainError], said: str
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and not listening
        form = "endpoint_override={}&scheme=http&region=us-east-1"
        given = address.format(
            server=form.format(s3), nobody=form.format(f"127.0.0.1:{nobody.getsockname()[1]}")
        )
        with pytest.raises(error) as raised:
            open_source("folder", given, seed=0)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
