"""What every command has around its work: errors in one line, exit codes."""

from __future__ import annotations

import argparse
import mmap
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.errors import ParameterError, SelftrainError
from pipeline.files import machine_error
from pipeline.progress import open_streams, say

INTERRUPTED = 130


def exit_code(name: str, work: Callable[[], None], interrupted: str) -> int:
    """Do the work; 0, or the exit code of its failure, of which one line on stderr tells.

    2 for a wrong parameter; interrupted: what is true then. Other errors keep their traceback.
    """
    open_streams()
    try:
        work()
    except SelftrainError as error:
        reason, code = str(error), error.exit_code
    except KeyboardInterrupt:
        reason, code = f"interrupted; {interrupted}", INTERRUPTED
    except Exception as error:
        refused = machine_error(error)
        if refused is None:
            raise
        reason, code = str(refused), refused.exit_code
    else:
        return 0
    say(f"{name}: {reason}", sys.stderr)
    return code


def run_command(
    name: str, parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]
) -> int:
    """Parse the command line and do the work; the exit code."""
    return exit_code(name, lambda: work(parser.parse_args()), "nothing was written")


class _Parser(argparse.ArgumentParser):
    """One whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message}; {self.prog} --help", sys.stderr)
        sys.exit(2)


def command_parser(
    name: str, description: str | None, program: str = "selftrain {}"
) -> argparse.ArgumentParser:
    """The parser of a command; the description is shown as it is written."""
    return _Parser(
        prog=program.format(name),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """The option `--model`, which workflow/shipping.py understands."""
    parser.add_argument(
        "--model", help="champion, ensemble or a model's folder; else as ensemble.ship says"
    )


def add_out_arguments(
    parser: argparse.ArgumentParser, meaning: str, default: Path | None = None
) -> None:
    """The options `--out` and `--force` of a command that writes one file or folder."""
    required = default is None
    parser.add_argument("--out", type=Path, required=required, default=default, help=meaning)
    parser.add_argument("--force", action="store_true", help="replace a file of any kind")


def check_writable(out: Path, mark: bytes, *, force: bool) -> None:
    """Raise ParameterError where no file can be written at `out`, or another one is in its place.

    mark: what is in every file that the same command writes, which is replaced; without `force`
    no other is.
    """
    if out.is_dir():
        raise ParameterError(f"--out {out}: is a folder; name a file")
    if not force and out.exists() and not _replaceable(out, mark):
        raise ParameterError(
            f"--out {out}: exists, and this command did not write it; give --force to replace it, "
            "or another name"
        )
    check_folder(out)


def check_own_folder(out: Path, command: str, *, ours: bool) -> None:
    """Raise ParameterError where no folder can be written at `out`, or one is in its place that
    `command` did not write, with anything in it."""
    check_folder(out)
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise ParameterError(
            f"--out {out}: exists, and selftrain {command} did not write it; name another folder"
        )


def _replaceable(path: Path, mark: bytes) -> bool:
    """Whether a file is empty or has `mark` in it, and may be read."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return path.is_file()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(mark) >= 0
    except OSError:
        return False


def check_folder(out: Path) -> None:
    """Raise ParameterError where what is above `out` is no folder, nor can become one."""
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ParameterError(f"--out {out}: {above} is a file, not a folder; name another place")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError:
        raise ParameterError(
            f"--out {out}: {above} can't be written to; name another place"
        ) from None
