"""A repository with git, DVC and storage whose only stage writes a folder of shards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pyarrow as pa

from pipeline.data.shards import write_manifest, write_shard
from pipeline.data.storage import StoredFolder, open_storage
from pipeline.data.stored_shards import upload_shards
from pipeline.params import load_params

STAGES = """\
stages:
  write:
    cmd: the tests do this themselves
    params: [seed, storage]
    outs: [predictions/1]
"""


def run(folder: Path, *command: str) -> str:
    """The output of a command in `folder`."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DVC_NO_ANALYTICS": "1",
    }
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, f"{' '.join(command)}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def set_parameters(folder: Path, seed: int, url: str | None) -> None:
    """Write params.yaml."""
    (folder / "params.yaml").write_text(
        f"seed: {seed}\ndata: {{source: digits, image_size: 16}}\ntrain: {{steps: 1}}\n"
        f"storage:\n  url: {url or 'null'}\n"
    )


def write_shards_of(folder: Path) -> str:
    """Do the stage's work as params.yaml says; the name of the prefix, "" without storage."""
    params, out = load_params(folder / "params.yaml"), folder / "predictions" / "1"
    shutil.rmtree(out, ignore_errors=True)
    table = pa.table({"seed": [params.seed] * 3})
    write_manifest(out, [write_shard(out / "shard_00000.parquet", table)])
    manifest = upload_shards(out, open_storage(params.storage.url), "predictions")
    prefix = manifest.shards[0].prefix
    return "" if prefix is None else StoredFolder(prefix).name


def commit_run(folder: Path, seed: int, url: str | None) -> str:
    """Do the work with this seed, give it to DVC and git; the name of its prefix."""
    from dvc.repo import Repo

    set_parameters(folder, seed, url)
    name = write_shards_of(folder)
    with chdir(folder), Repo() as repo:
        repo.commit(force=True)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", f"seed {seed}")
    return name


def start_project(folder: Path) -> None:
    """An empty repository with the stage."""
    folder.mkdir()
    for command in (
        ("git", "init", "-q", "-b", "main"),
        ("git", "config", "user.email", "user@example.org"),
        ("git", "config", "user.name", "user"),
        ("dvc", "init", "-q"),
    ):
        run(folder, *command)
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / ".gitignore").write_text("/predictions/\n")
