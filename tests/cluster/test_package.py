"""What is sent: the files of a commit, the results of earlier runs, and nothing else."""

from __future__ import annotations

import os
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


@pytest.fixture
def secrets(repository: Path) -> tuple[Path, ...]:
    """Files that git does not know: ignored, beside the repository, in a folder of their own."""
    places = (
        repository / "data" / ".env",
        repository.parent / "outside",
        repository.parent / "folder" / "outside",
    )
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.write_text("secret")
    return places


@pytest.mark.parametrize("allow_dirty", [False, True])
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("code/c.py", "../data/.env"),
        ("code/c.py", "{root}/data/.env"),
        ("code/c.py", "../../outside"),
        ("code/c.py", "{root}/../outside"),
        ("code/c.py", "../../folder"),
        ("code/c.py", "../code"),
        ("code/c.py", "."),
        ("code/c.py", "c.py"),
        ("code/c.py", "nowhere"),
        ("code/c.py", "../{up}{root}/data/.env"),
        ("code/c.py", "/proc/self/environ"),
        ("dvc.lock", "data/.env"),
        ("metrics", "data"),
    ],
)
def test_a_link_to_what_git_does_not_hold_is_refused(
    repository: Path,
    tmp_path: Path,
    secrets: tuple[Path, ...],
    name: str,
    target: str,
    allow_dirty: bool,
) -> None:
    target = target.format(root=repository, up="../" * 40)
    (repository / name).symlink_to(target)
    commit(repository)
    with pytest.raises(ParameterError, match=rf"{name}.*: a link that leads elsewhere"):
        sent(repository, tmp_path / "sent", allow_dirty=allow_dirty)
    assert not (tmp_path / "sent.zip").exists()


def test_links_that_lead_out_only_together_are_refused(
    repository: Path, tmp_path: Path, secrets: tuple[Path, ...]
) -> None:
    """The first is judged before the second, further down, is there."""
    deep = repository / "x" / "y" / "z"
    deep.mkdir(parents=True)
    (deep / "up").symlink_to("../../..")
    (repository / "a").symlink_to(f"x/y/z/up/{'../' * 3}{str(secrets[1])[1:]}")
    commit(repository)
    with pytest.raises(ParameterError, match="a link that leads elsewhere"):
        sent(repository, tmp_path / "sent")


def test_results_are_not_taken_through_links(
    repository: Path, tmp_path: Path, secrets: tuple[Path, ...]
) -> None:
    (repository / "metrics").mkdir()
    (repository / "metrics" / "a.json").symlink_to(secrets[0])
    with pytest.raises(ParameterError, match=r"metrics/a\.json: a link that leads elsewhere"):
        sent(repository, tmp_path / "sent", allow_dirty=True)


def test_a_tracked_file_that_became_a_link_is_one(
    repository: Path, tmp_path: Path, secrets: tuple[Path, ...]
) -> None:
    (repository / "run.sh").unlink()
    (repository / "run.sh").symlink_to(secrets[0])
    with pytest.raises(ParameterError, match=r"run\.sh: a link that leads elsewhere"):
        sent(repository, tmp_path / "sent", allow_dirty=True)


def test_a_chain_of_links_within_is_sent_as_what_it_points_to(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "code" / "b.py").symlink_to("../code/a.py")
    (repository / "c.py").symlink_to("code/b.py")
    commit(repository)
    assert sent(repository, tmp_path / "sent")["c.py"] == "a = 1\n"


def test_a_submodule_is_not_sent_and_named(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = run(repository, "git", "rev-parse", "HEAD")
    run(repository, "git", "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    run(repository, "git", "commit", "-q", "-m", "sub")
    (repository / "sub").mkdir()
    assert "run.sh" in sent(repository, tmp_path / "sent")
    assert capsys.readouterr().out == "sub: a submodule, not sent\n"


def test_what_no_zip_can_hold_is_one_line(repository: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(repository) + b"/\xff.py")).write_text("")
    with pytest.raises(ParameterError, match="not committed"):
        sent(repository, tmp_path / "refused")
    commit(repository)
    with pytest.raises(ParameterError, match="can't be packed"):
        sent(repository, tmp_path / "sent")


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
