"""What a run leaves beside the outputs that DVC keeps: dvc.lock, metrics, curves, tracked runs.

They travel as one archive for each job:

    files/…   dvc.lock and the outputs that DVC doesn't keep, under their paths
    runs/…    the tracking spools that no server has yet
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.remote import Remote
from pipeline.files import written_whole
from pipeline.tracking.spool import all_spools

ARCHIVE = "results.tar.gz"


def pack(root: Path, names: Sequence[str], target: Path) -> None:
    """Write the archive: of `names`, relative to `root`, those that are there; and the spools."""
    with tarfile.open(target, "w:gz") as archive:
        for name in names:
            if (root / name).exists():
                archive.add(root / name, f"files/{name}")
        for spool in all_spools(root):
            if spool.unsent():
                archive.add(spool.folder, f"runs/{spool.folder.name}")


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack an archive into `folder`; the names under `folder`/files."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    files = folder / "files"
    return sorted(p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file())


def put_in_place(folder: Path, names: Sequence[str], root: Path) -> None:
    """Copy the files of an unpacked archive to where they belong, each whole or not at all."""
    for name in names:
        with written_whole(root / name) as partial:
            shutil.copyfile(folder / "files" / name, partial)


def send(root: Path, remote: Remote, job: str) -> None:
    """Pack what is in `root` and put it beside the remote's data."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / ARCHIVE
        pack(root, remote.small_outputs(), packed)
        remote.put(packed, job, ARCHIVE)
