"""Make a project: a folder with the stages, parameters and settings that a run needs.

It holds no program: it runs the selftrain that is installed, which serves any number of projects.
The parameters are those of handwritten digits, until `selftrain init` has looked at your images.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

from pipeline.errors import ParameterError
from pipeline.program import program_file
from pipeline.progress import say
from pipeline.workflow.command import check_folder, command_parser, run_command

FILES = ("dvc.yaml", "params.yaml", "corrections.csv", ".gitignore", ".dvcignore")


def new(args: argparse.Namespace) -> None:
    """Make the folder that the command line names, and in it a git and DVC repository."""
    folder: Path = args.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(f"{folder}: is there already; name a folder that is empty, or not yet")
    check_folder(folder / "any")
    sources = [program_file(name) for name in FILES]
    if shutil.which("git") is None:
        raise ParameterError("git: not found; a project keeps its history in it: install git")
    folder.mkdir(parents=True, exist_ok=True)
    inside = not _failure(folder, "git", "rev-parse", "--is-inside-work-tree")
    if not inside:
        _run(folder, "git", "init", "--quiet")
    dvc = (sys.executable, "-m", "dvc")
    _run(folder, *dvc, "init", "--quiet", *(["--subdir"] if inside else []))
    for setting in ("core.analytics", "core.check_update"):
        _run(folder, *dvc, "config", "--quiet", setting, "false")
    for source in sources:
        shutil.copyfile(source, folder / source.name)
    if not inside:
        _commit(folder)
    say(f"new: {folder}; next: cd {quote(str(folder))}; selftrain init IMAGES; selftrain run")


def _commit(folder: Path) -> None:
    """Make the first commit, by which runs are told apart, or say why there is none."""
    _run(folder, "git", "add", "--all")
    configured = ("-c", "user.useConfigOnly=true")  # git would else make up an address
    message = ("--quiet", "--message", "A project of selftrain")
    if reason := _failure(folder, "git", *configured, "commit", *message):
        say(f"new: {folder}: nothing is committed yet (git: {reason})")


def _run(folder: Path, *command: str) -> None:
    """Run a command in `folder`; raises ParameterError with what a failed one said."""
    if reason := _failure(folder, *command):
        raise ParameterError(f"{folder}: {' '.join(command)}: {reason}")


def _failure(folder: Path, *command: str) -> str:
    """The last line of what a command that failed in `folder` said; nothing of one that did not."""
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = answer.stderr.strip().rpartition("\n")[2] or "failed"
    return said if answer.returncode else ""


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("new", __doc__)
    parser.add_argument("folder", type=Path, help="the folder to make")
    return run_command("new", parser, new)


if __name__ == "__main__":
    sys.exit(main())
