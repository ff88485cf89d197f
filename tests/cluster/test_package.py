"""What is sent: the files of a commit, the results of earlier runs, and nothing else."""

from __future__ import annotations

import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.package import LIMIT_BYTES, copy_to_send, zip_folder
from pipeline.errors import ParameterError

RESULTS = ["dvc.lock", "metrics/a.json"]


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


def commit(root: Path) -> None:
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-q", "-m", "more")


def sent(root: Path, folder: Path, *, allow_dirty: bool = False) -> dict[str, str]:
    """The files that are sent, by name."""
    copy_to_send(root, RESULTS, folder, allow_dirty=allow_dirty)
    with zipfile.ZipFile(zip_folder(folder)) as archive:
        assert not archive.namelist() or archive.testzip() is None
        return {i.filename: archive.read(i).decode() for i in archive.infolist() if not i.is_dir()}


def test_the_files_are_those_of_the_commit(repository: Path, tmp_path: Path) -> None:
    files = sent(repository, tmp_path / "sent")
    assert files == {".gitignore": "/data/\n", "code/a.py": "a = 1\n", "run.sh": "true\n"}
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o111


def test_only_results_may_be_uncommitted_and_go_along(repository: Path, tmp_path: Path) -> None:
    (repository / "metrics").mkdir()
    (repository / "metrics" / "a.json").write_text("1")
    commit(repository)
    (repository / "metrics" / "a.json").unlink()
    (repository / "dvc.lock").write_text("lock")
    files = sent(repository, tmp_path / "sent")
    assert files["dvc.lock"] == "lock"
    assert "metrics/a.json" not in files
    (repository / "code" / "a.py").write_text("a = 2\n")
    (repository / "new.py").write_text("")
    with pytest.raises(
        ParameterError, match=r"not committed: code/a\.py, new\.py; .*--allow-dirty"
    ):
        sent(repository, tmp_path / "refused")


def test_tracked_files_can_be_sent_as_they_are(repository: Path, tmp_path: Path) -> None:
    assert "run.sh" in sent(repository, tmp_path / "unchanged", allow_dirty=True)
    (repository / "code" / "a.py").write_text("a = 2\n")
    (repository / "run.sh").unlink()
    (repository / "new.py").write_text("")
    before = run(repository, "git", "status", "--porcelain")
    files = sent(repository, tmp_path / "sent", allow_dirty=True)
    assert files == {".gitignore": "/data/\n", "code/a.py": "a = 2\n"}
    assert run(repository, "git", "status", "--porcelain") == before
    assert run(repository, "git", "stash", "list") == ""


def test_a_link_is_sent_as_what_it_points_to(repository: Path, tmp_path: Path) -> None:
    (repository / "code" / "b.py").symlink_to("a.py")
    commit(repository)
    assert sent(repository, tmp_path / "sent")["code/b.py"] == "a = 1\n"
    (repository / "code" / "c.py").symlink_to("/etc/hostname")
    commit(repository)
    with pytest.raises(ParameterError, match=r"code/c\.py: a link that leads elsewhere"):
        sent(repository, tmp_path / "refused")


def test_a_repository_in_a_folder_of_another_is_sent_alone(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "run.sh").write_text("false\n")
    assert set(sent(repository / "code", tmp_path / "sent")) == {"a.py"}
    (repository / "code" / "a.py").write_text("a = 3\n")
    with pytest.raises(ParameterError, match=r"not committed: a\.py;"):
        sent(repository / "code", tmp_path / "refused")


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="not a git repository"):
        copy_to_send(tmp_path, [], tmp_path / "sent")


def test_a_large_repository_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.package.LIMIT_BYTES", 1 << 20)
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "big").write_bytes(random.Random(0).randbytes(3 << 20))
    (folder / "small").write_text("x")
    with pytest.raises(
        ParameterError, match=r"is 3 MiB, a cluster takes 1; the largest file: big \(3 MiB\)"
    ):
        zip_folder(folder)
    assert LIMIT_BYTES == 100 << 20
