"""What is sent: the files of a commit, whole, the same bytes each time, and nothing else."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.package import (
    LIMIT_BYTES,
    File,
    check_committed,
    committed_files,
    files_digest,
    head_commit,
    tracked_files,
    uncommitted,
    write_zip,
)
from pipeline.errors import ParameterError


def run(folder: Path, *command: str) -> str:
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "code").mkdir(parents=True)
    (root / "code" / "a.py").write_text("a = 1\n")
    (root / "run.sh").write_text("true\n")
    (root / "run.sh").chmod(0o755)
    (root / ".gitignore").write_text("/data/\n")
    (root / "data").mkdir()
    (root / "data" / "image.png").write_bytes(b"png")
    run(root, "git", "init", "-q")
    run(root, "git", "config", "user.email", "user@example.org")
    run(root, "git", "config", "user.name", "user")
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-q", "-m", "start")
    return root


def test_the_files_are_those_of_the_commit(repository: Path) -> None:
    (repository / "code" / "a.py").write_text("a = 2\n")
    files = committed_files(repository)
    assert set(files) == {".gitignore", "code/a.py", "run.sh"}
    assert files["code/a.py"] == File(b"a = 1\n")
    assert files["run.sh"].executable
    assert tracked_files(repository)["code/a.py"] == File(b"a = 2\n")


def test_a_link_is_sent_as_what_it_points_to(repository: Path) -> None:
    (repository / "code" / "b.py").symlink_to("a.py")
    run(repository, "git", "add", "-A")
    run(repository, "git", "commit", "-q", "-m", "link")
    assert committed_files(repository)["code/b.py"] == File(b"a = 1\n")
    (repository / "code" / "c.py").symlink_to("/etc/hostname")
    run(repository, "git", "add", "-A")
    run(repository, "git", "commit", "-q", "-m", "link out")
    with pytest.raises(ParameterError, match=r"code/c\.py: a link to /etc/hostname"):
        committed_files(repository)


def test_a_repository_in_a_folder_of_another_is_sent_alone(repository: Path) -> None:
    assert set(committed_files(repository / "code")) == {"a.py"}
    (repository / "run.sh").write_text("false\n")
    (repository / "code" / "a.py").write_text("a = 3\n")
    assert uncommitted(repository / "code", []) == ["a.py"]


def test_only_results_may_be_uncommitted(repository: Path) -> None:
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    check_committed(repository, ["dvc.lock"])
    (repository / "code" / "a.py").write_text("a = 2\n")
    (repository / "new.py").write_text("")
    with pytest.raises(
        ParameterError, match=r"not committed: code/a\.py, new\.py; .*--allow-dirty"
    ):
        check_committed(repository, ["dvc.lock"])


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="not a git repository"):
        head_commit(tmp_path)


def test_the_zip_holds_the_files_and_repeats(repository: Path, tmp_path: Path) -> None:
    files = committed_files(repository)
    sizes = [write_zip(files, tmp_path / name) for name in ("a.zip", "b.zip")]
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert sizes[0] == (tmp_path / "a.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {n: archive.read(n) for n in archive.namelist()} == {
            name: file.content for name, file in files.items()
        }
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o111


def test_a_large_repository_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.package.LIMIT_BYTES", 1 << 20)
    import random

    noise = random.Random(0).randbytes(3 << 20)
    with pytest.raises(ParameterError, match=r"is 3 MiB, a cluster takes 1; .*: big \(3 MiB\)"):
        write_zip({"big": File(noise), "small": File(b"x")}, tmp_path / "a.zip")
    assert LIMIT_BYTES == 100 << 20


def test_the_digest_tells_contents_and_names_apart() -> None:
    one = {"a": File(b"x"), "b": File(b"y")}
    assert files_digest(one) == files_digest(dict(reversed(one.items())))
    assert files_digest(one) != files_digest({"a": File(b"y"), "b": File(b"x")})
