"""What is sent to a cluster: the repository's tracked files and the results of earlier runs."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path

from pipeline.errors import ParameterError

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
    try:
        with tarfile.open(
            fileobj=io.BytesIO(git(root, "archive", "--format=tar", revision))
        ) as tar:
            tar.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise ParameterError(f"{error.tarinfo.name}: a link that leads elsewhere") from None
    for name in results:
        (folder / name).unlink(missing_ok=True)
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)


def _changed(root: Path) -> set[str]:
    """The files of `root` that are not as they were committed."""
    prefix = git(root, "rev-parse", "--show-prefix").decode().strip()
    command = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    entries = git(root, *command).decode().split("\0")
    return {entry[3:].removeprefix(prefix) for entry in entries if entry}


def zip_folder(folder: Path) -> Path:
    """A zip of `folder` beside it; raises ParameterError if a cluster would not take it."""
    package = Path(shutil.make_archive(str(folder), "zip", folder))
    if (size := package.stat().st_size) > LIMIT_BYTES:
        most, path = max((p.stat().st_size, p) for p in folder.rglob("*") if p.is_file())
        raise ParameterError(
            f"the repository is {size / MIB:.0f} MiB, a cluster takes {LIMIT_BYTES // MIB}; the "
            f"largest file: {path.relative_to(folder)} ({most / MIB:.0f} MiB)"
        )
    return package
