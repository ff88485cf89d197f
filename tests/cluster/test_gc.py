"""What no commit names is removed, and nothing else: real git, DVC and storage."""

from __future__ import annotations

import os
import shutil
from contextlib import chdir
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.gc import main, prefixes_in, size_of
from cluster.named_prefixes import stored_outputs
from pipeline.data.storage import StoredFolder, StoredObject
from pipeline.data.stored_shards import stored_prefix
from pipeline.errors import DataError
from tests.cluster.project import (
    commit_run,
    run,
    set_parameters,
    start_project,
    write_shards_of,
)

NOW = datetime(2030, 1, 2, tzinfo=UTC)
HEX = "0123456789abcdef"
ORPHAN = f"unlabeled-{HEX}{HEX}"
OBJECT = f"shard_00000-{HEX}.parquet"
FOREIGN = ("shards/notes.txt", f"shards/{ORPHAN}/README", "other/shard_00000.parquet")


@dataclass(frozen=True)
class Made:
    """A repository, its storage, and the prefixes that its commits name, oldest first."""

    folder: Path
    storage: Path
    named: tuple[str, ...]

    def there(self) -> set[str]:
        """The prefixes in storage."""
        return {path.name for path in (self.storage / "shards").iterdir() if path.is_dir()}

    def gc(self, *arguments: str) -> int:
        with pytest.MonkeyPatch.context() as patch, chdir(self.folder):
            patch.setattr("sys.argv", ["gc", *arguments])
            return main()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Commits without storage, and with seeds 1 to 3; the branch `other` ends at seed 2."""
    folder = tmp_path_factory.mktemp("gc")
    repository, storage = folder / "repository", folder / "storage"
    start_project(repository)
    named = [commit_run(repository, 0, None)]
    for seed in (1, 2, 3):
        named.append(commit_run(repository, seed, storage.as_uri()))
        if seed == 2:
            run(repository, "git", "branch", "other")
    assert named[0] == ""
    return Made(repository, storage, tuple(named[1:]))


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy to change, its storage two days old, with an orphan and with what is not ours."""
    copy = replace(original, folder=tmp_path / "repository", storage=tmp_path / "storage")
    shutil.copytree(original.folder, copy.folder, symlinks=True)
    shutil.copytree(original.storage, copy.storage)
    for name in (f"shards/{ORPHAN}/{OBJECT}", f"shards/{ORPHAN}/in_use", *FOREIGN):
        (copy.storage / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.storage / name).write_bytes(b"x" * 1000)
    before = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    for path in copy.storage.rglob("*"):
        os.utime(path, (before, before))
    set_parameters(copy.folder, 3, copy.storage.as_uri())
    return copy


def refused(made: Made, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line with which gc refuses, having removed nothing."""
    before = sorted(made.storage.rglob("*"))
    assert made.gc("--delete", *arguments) == code
    assert sorted(made.storage.rglob("*")) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("gc: ")
    return error


def test_what_no_commit_names_is_listed_and_on_request_removed(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made.gc() == 0
    shown = capsys.readouterr().out
    assert f"  {ORPHAN}: 2 objects, 2.0 kB, 2.0 days old\n" in shown
    assert "4 folders of shards; 1 (2.0 kB) that neither the working tree nor 4 commits" in shown
    assert not any(name in shown for name in made.named)
    assert made.there() == {ORPHAN, *made.named}
    assert made.gc("--delete") == 0
    assert "removed 1 (2.0 kB)" in capsys.readouterr().out
    assert all((made.storage / name).exists() for name in FOREIGN)
    assert not (made.storage / "shards" / ORPHAN / OBJECT).exists()
    for name in made.named:
        assert sorted(path.suffix for path in (made.storage / "shards" / name).iterdir()) == [
            "",
            ".parquet",
        ]


def test_what_is_young_stays(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    (made.storage / "shards" / ORPHAN / OBJECT).touch()
    assert made.gc("--delete") == 0
    assert "young: left alone" in capsys.readouterr().out
    assert (made.storage / "shards" / ORPHAN / OBJECT).exists()
    assert made.gc("--delete", "--min-age", "0") == 0
    assert not (made.storage / "shards" / ORPHAN / OBJECT).exists()


def test_the_newest_commits_of_each_branch_stay(made: Made) -> None:
    assert made.gc("--delete", "--commits", "1") == 0
    assert made.there() - {ORPHAN} == set(made.named[1:])
    run(made.folder, "git", "branch", "-q", "-D", "other")
    assert made.gc("--delete", "--commits", "1") == 0
    assert made.there() - {ORPHAN} == {made.named[2]}


def test_the_working_tree_counts_before_it_is_committed(made: Made) -> None:
    set_parameters(made.folder, 4, made.storage.as_uri())
    new = write_shards_of(made.folder)
    assert new in made.there() - {ORPHAN, *made.named}
    assert made.gc("--delete", "--min-age", "0") == 0
    assert made.there() - {ORPHAN} == {*made.named, new}


def test_nothing_is_removed_while_a_manifest_can_not_be_read(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cache is gone but for what the working tree has; with the remote all is known again."""
    cache = made.folder / ".dvc" / "cache"
    cache.rename(made.folder.parent / "remote")
    message = refused(made, capsys)
    assert "3 that may name shards can't be read" in message
    assert "predictions/1 (not in DVC's cache, which has no remote)" in message
    assert "commit " in message
    remote = str(made.folder.parent / "remote")
    run(made.folder, "dvc", "remote", "add", "-q", "-d", "there", remote)
    assert made.gc("--delete") == 0
    assert made.there() - {ORPHAN} == set(made.named)
    assert not (made.storage / "shards" / ORPHAN / OBJECT).exists()


@pytest.mark.parametrize("victim", ["listing", "manifest"])
def test_a_harmed_cache_is_not_believed(
    made: Made, capsys: pytest.CaptureFixture[str], victim: str
) -> None:
    for path in (made.folder / ".dvc" / "cache" / "files").rglob("*"):
        if path.is_file() and (path.suffix == ".dir") == (victim == "listing"):
            path.chmod(0o644)
            path.write_text("[]" if victim == "listing" else '{"prefix": null}')
    assert "can't be read" in refused(made, capsys)


def test_a_shallow_clone_removes_nothing(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    clone = made.folder.parent / "clone"
    run(made.folder, "git", "clone", "-q", "--depth", "1", made.folder.as_uri(), str(clone))
    shutil.copytree(made.folder / ".dvc" / "cache", clone / ".dvc" / "cache")
    set_parameters(clone, 3, made.storage.as_uri())
    assert "shallow clone" in refused(replace(made, folder=clone), capsys)


def test_a_lock_that_is_no_lock_removes_nothing(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    (made.folder / "dvc.lock").write_text("stages: [")
    assert "the working tree: dvc.lock (not what DVC writes" in refused(made, capsys)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--commits", "0"), "--commits 0: must be at least 1"),
        (("--min-age", "-1"), "--min-age -1.0: hours"),
        (("--min-age", "nan"), "--min-age nan: hours"),
    ],
)
def test_a_wrong_argument_is_one_line(
    made: Made, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], part: str
) -> None:
    assert part in refused(made, capsys, *arguments, code=2)


def test_without_storage_there_is_nothing_to_do(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    set_parameters(made.folder, 3, None)
    assert "storage.url = null" in refused(made, capsys, code=2)


def test_outside_git_it_says_so(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(made.folder / ".git")
    assert "not a git repository" in refused(made, capsys, code=2)


def stored(path: str, hours: float = 48) -> StoredObject:
    return StoredObject(path, 10, NOW - timedelta(hours=hours))


def test_only_own_names_are_prefixes() -> None:
    own = f"test-{HEX}{HEX}"
    listing = [
        stored(f"{own}/{OBJECT}", 50),
        stored(f"{own}/shard_00001.json", 3),
        stored(f"{ORPHAN}/{OBJECT}"),
        stored(f"{ORPHAN}/shard_00000.parquet"),  # without its digest: not ours
        stored(f"images-{HEX}{HEX}/{OBJECT}"),
        stored(f"test-{HEX}/{OBJECT}"),
        stored(f"{own}/sub/{OBJECT}"),
        stored("loose.txt"),
    ]
    found = {prefix.name: prefix for prefix in prefixes_in(listing)}
    assert set(found) == {own, ORPHAN}
    assert found[own].foreign
    assert found[ORPHAN].foreign
    assert (size_of([found[own]]), found[own].age(NOW)) == ("20 bytes", timedelta(hours=3))
    assert found[own].in_use(NOW, timedelta(hours=3))
    assert not found[own].in_use(NOW, timedelta(hours=2))


@pytest.mark.parametrize("foreign", [False, True])
def test_a_removed_prefix_leaves_its_neighbours(storage_url: str, foreign: bool) -> None:
    storage = StoredFolder(storage_url)
    for digest in ("0" * 64, "1" * 64):
        stored_prefix(storage, "test", digest).write(OBJECT, b"x")
    if foreign:
        stored_prefix(storage, "test", "0" * 64).write("README", b"mine")
    first = prefixes_in((storage / "shards").listing())[0]
    assert first.foreign == foreign
    first.remove_from(storage / "shards")
    left = [item.path for item in storage.listing()]
    mine = [f"shards/test-{'0' * 32}/README"] if foreign else []
    assert left == [*mine, f"shards/test-{'1' * 32}/{OBJECT}"]


LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: x
    params: {params.yaml: {storage: {url: 'file:///a'}}}
    outs:
    - {path: prepared/test, hash: md5, md5: aa.dir, size: 1, nfiles: 1}
    - {path: prepared/dataset.json, hash: md5, md5: bb, size: 1}
    - {path: models/0, hash: md5, md5: cc.dir, size: 1, nfiles: 1}
  embed:
    cmd: x
    params: {params.yaml: {storage: {url: 'file:///a'}}}
    outs:
    - {path: features/body, hash: md5, md5: ff.dir, size: 1, nfiles: 1}
    - {path: features/test, hash: md5, md5: ab.dir, size: 1, nfiles: 1}
  pseudo_label@1:
    cmd: x
    params: {params.yaml: {storage.url: 'file:///a'}}
    outs:
    - {path: predictions/1, hash: md5, md5: dd.dir, size: 1, nfiles: 1}
  select@1:
    cmd: x
    params: {params.yaml: {seed: 1, storage: {}}}
    outs:
    - {path: pseudo_labels/1, hash: md5, md5: ee.dir, size: 1, nfiles: 1}
  report: {cmd: x}
"""


def test_a_lock_names_the_folders_of_stages_that_used_storage() -> None:
    paths = {"prepared/test": "aa.dir", "features/test": "ab.dir", "predictions/1": "dd.dir"}
    assert stored_outputs(LOCK) == list(paths.items())


@pytest.mark.parametrize("text", ["", "[]", "a: 1", "stages: 1", "stages: {a: 1}", "stages: ["])
def test_another_file_is_no_lock(text: str) -> None:
    with pytest.raises(DataError, match="not what DVC writes"):
        stored_outputs(text)
