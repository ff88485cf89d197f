"""What is sent to a cluster: the repository's tracked files and the results of earlier runs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import ParameterError
from pipeline.progress import say

LIMIT_BYTES = 100 << 20  # Ray's dashboard takes no larger package
MIB = 1 << 20
NAMED = 3


def git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """What a git command in `root` prints; raises ParameterError with git's reason."""
    command = ["git", *arguments]
    try:
        answer = subprocess.run(command, cwd=root, input=stdin, capture_output=True, check=False)
    except OSError as error:
        raise ParameterError(f"git: {error}") from None
    if answer.returncode != 0:
        lines = answer.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise ParameterError(f"git {arguments[0]} in {root.resolve()}: {lines[0]}")
    return answer.stdout


def copy_to_send(
    root: Path, results: Collection[str], folder: Path, *, allow_dirty: bool = False
) -> None:
    """Write the files of the commit to `folder`, and over them the `results` that are in `root`.

    allow_dirty: the tracked files as they are on disk. Raises ParameterError if anything but
    `results`, which a run writes, is not committed, or for a link that leads elsewhere.
    """
    revision = "HEAD"
    if allow_dirty:
        revision = git(root, "stash", "create").decode().strip() or revision
    elif names := sorted(_changed(root) - set(results)):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise ParameterError(
            f"not committed: {', '.join(names[:NAMED])}{more}; commit what the run needs, list the "
            "rest in .gitignore, or send the tracked files as they are with --allow-dirty"
        )
    for entry in os.fsdecode(git(root, "ls-tree", "-r", "-z", revision)).split("\0"):
        if entry.startswith("160000 "):
            say(f"{entry.partition(chr(9))[2]}: a submodule, not sent")
    try:
        with tarfile.open(
            fileobj=io.BytesIO(git(root, "archive", "--format=tar", revision))
        ) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise _leads_elsewhere(error.tarinfo.name) from None
    for above, folders, files in os.walk(folder):  # a link is judged once all are there
        for path in (Path(above, name) for name in folders + files):
            if path.is_symlink() and not _is_file_in(folder, path):
                raise _leads_elsewhere(str(path.relative_to(folder)))
    for name in results:
        (folder / name).unlink(missing_ok=True)
        if (root / name).is_file():
            if (root / name).resolve() != root.resolve() / name:
                raise _leads_elsewhere(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)


def _is_file_in(folder: Path, path: Path) -> bool:
    """Whether `path`, followed to its end, is a file in `folder`."""
    end = Path(os.path.realpath(path))
    return end.is_file() and Path(os.path.realpath(folder)) in end.parents


def _leads_elsewhere(name: str) -> ParameterError:
    return ParameterError(
        f"{name}: a link that leads elsewhere than to a file that is sent; put the file in its "
        "place, or take the link out of git"
    )


def _changed(root: Path) -> set[str]:
    """The files of `root` that are not as they were committed."""
    prefix = os.fsdecode(git(root, "rev-parse", "--show-prefix")).strip()
    command = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    entries = os.fsdecode(git(root, *command)).split("\0")
    return {entry[3:].removeprefix(prefix) for entry in entries if entry}


def zip_folder(folder: Path) -> Path:
    """A zip of `folder` beside it; raises ParameterError if a cluster would not take it."""
    try:
        package = Path(shutil.make_archive(str(folder), "zip", folder))
    except ValueError as error:  # a name that is not UTF-8, a time before 1980
        raise ParameterError(f"the repository can't be packed: {error}") from None
    if (size := package.stat().st_size) > LIMIT_BYTES:
        most, path = max((p.stat().st_size, p) for p in folder.rglob("*") if p.is_file())
        raise ParameterError(
            f"the repository is {size / MIB:.0f} MiB, a cluster takes {LIMIT_BYTES // MIB}; the "
            f"largest file: {path.relative_to(folder)} ({most / MIB:.0f} MiB)"
        )
    return package
