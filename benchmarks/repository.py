"""A copy of this repository as a fresh clone has it, changes that are not committed included."""

from __future__ import annotations

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

from benchmarks.runs import ROOT

OUTPUTS = ("curves/", "metrics/", "dvc.lock")  # of a run here, which git does not ignore


def copy_repository(folder: Path) -> None:
    """Copy what git has or would add to `folder`.

    Without what a run has left here, and without the DVC remotes of this repository.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(OUTPUTS):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    _forget_remotes(folder / ".dvc" / "config")


def _forget_remotes(config: Path) -> None:
    """Take the remotes out of a configuration of DVC's."""
    parser = ConfigParser()
    parser.read(config)
    for section in parser.sections():
        if "remote " in section:
            parser.remove_section(section)
    parser.remove_option("core", "remote")
    with config.open("w") as file:
        parser.write(file)
