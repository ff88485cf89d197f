"""What is sent to a cluster: the repository's tracked files as one zip file, and nothing else."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, join, normpath

from pipeline.errors import ParameterError
from pipeline.files import value_digest

LIMIT_BYTES = 100 << 20  # Ray's dashboard takes no larger package
MIB = 1 << 20
NAMED = 3
QUEUE_ARGUMENTS = ".dvc/tmp/repro.dat"  # DVC puts it into the commit of a queued experiment


@dataclass(frozen=True)
class File:
    """A file's bytes, and whether it may be executed."""

    content: bytes
    executable: bool = False


Files = dict[str, File]


def git(root: Path, *arguments: str) -> bytes:
    """What a git command in `root` prints; raises ParameterError with git's reason."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise ParameterError(f"git: {error}") from None
    if answer.returncode != 0:
        lines = answer.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise ParameterError(f"git {arguments[0]} in {root.resolve()}: {lines[0]}")
    return answer.stdout


def head_commit(root: Path) -> str:
    """The commit that is checked out."""
    return git(root, "rev-parse", "--verify", "HEAD").decode().strip()


def committed_files(root: Path, revision: str = "HEAD") -> Files:
    """The files of a commit under `root`, by path; links are followed within the commit."""
    files, links = Files(), dict[str, str]()
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", "--format=tar", revision))) as tar:
        for member in tar:
            if member.issym():
                links[member.name] = member.linkname
            elif (reader := tar.extractfile(member)) is not None:
                files[member.name] = File(reader.read(), bool(member.mode & stat.S_IXUSR))
    files.pop(QUEUE_ARGUMENTS, None)
    for name, target in links.items():
        inside = normpath(join(dirname(name), target))
        if inside not in files:
            raise ParameterError(f"{name}: a link to {target}, which is no file of the commit")
        files[name] = files[inside]
    return files


def tracked_files(root: Path) -> Files:
    """The tracked files as they are on the disk, by path; deleted ones are left out."""
    names = git(root, "ls-files", "-z").decode().split("\0")
    return read_files(root, [name for name in names if name])


def read_files(root: Path, names: Collection[str]) -> Files:
    """The files of these names that are there."""
    paths = {name: root / name for name in names if (root / name).is_file()}
    return {name: File(path.read_bytes(), os.access(path, os.X_OK)) for name, path in paths.items()}


def uncommitted(root: Path, outputs: Collection[str]) -> list[str]:
    """What git calls changed or unknown, but for `outputs`, which a run writes itself."""
    prefix = git(root, "rev-parse", "--show-prefix").decode().strip()
    command = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".")
    entries = git(root, *command).decode().split("\0")
    names = [entry[3:].removeprefix(prefix) for entry in entries if entry]
    return sorted(name for name in names if name not in outputs)


def check_committed(root: Path, outputs: Collection[str]) -> None:
    """Raise ParameterError if anything but `outputs` is not committed."""
    if found := uncommitted(root, outputs):
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise ParameterError(
            f"not committed: {', '.join(found[:NAMED])}{more}; commit what the run needs, list the "
            "rest in .gitignore, or send the tracked files as they are with --allow-dirty"
        )


def files_digest(files: Mapping[str, File]) -> str:
    """One digest of the files' names and contents."""
    return value_digest({name: sha256(file.content).hexdigest() for name, file in files.items()})


def write_zip(files: Mapping[str, File], path: Path) -> int:
    """Write the files as a zip; the same files give the same bytes. Returns its size in bytes.

    Raises ParameterError if that is more than a cluster takes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if files[name].executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].content)
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        largest = sorted(files, key=lambda name: -len(files[name].content))[:NAMED]
        shown = ", ".join(f"{name} ({len(files[name].content) / MIB:.0f} MiB)" for name in largest)
        raise ParameterError(
            f"the repository is {size / MIB:.0f} MiB, a cluster takes {LIMIT_BYTES // MIB}; "
            f"the largest files: {shown}"
        )
    return size
