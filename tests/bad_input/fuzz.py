"""Mutate every format that is read: one line or success; no traceback, 10 seconds or 1 GiB.

python -m tests.bad_input.fuzz [--inputs 2000] [--only NAME …] [--save FOLDER]

Inputs run in child processes, many in each; one that ends its process, or takes too long, counts
and the next goes on. An input is known by its format and number, and is the same in every run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TextIO

from pipeline.errors import SelftrainError
from tests.bad_input.formats import Format, formats
from tests.bad_input.mutations import mutated

MOST_SECONDS, MOST_MIB = 10.0, 1024
WATCHDOG_SECONDS = 60.0  # of silence; a busy machine may stretch 10
ADDRESS_SPACE = 16 << 30


@dataclass
class Tally:
    """What became of the inputs of one format."""

    inputs: int = 0
    refused: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0  # seconds of CPU
    largest: int = 0  # MiB resident, libraries included

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Take in one input's record."""
        self.inputs += 1
        self.refused += record["end"] == "refused"
        self.slowest = max(self.slowest, record["seconds"])
        self.largest = max(self.largest, record["mib"])
        over = record["seconds"] > MOST_SECONDS or record["mib"] > MOST_MIB
        if record["end"] == "failed" or over:
            figures = f"{record['seconds']:.1f} s, {record['mib']} MiB"
            self.failures.append((number, f"{record['text'] or 'too much'} ({figures})"))


def variant(name: str, number: int, made: dict[str, Format], whole: dict[str, bytes]) -> bytes:
    """Input `number` of a format."""
    others = [data for data in whole.values() if data]
    return mutated(whole[name], made[name].kind, others, Random(f"{name} {number}"))


def run_inputs(root: Path, work: Sequence[tuple[str, int]], out: TextIO) -> None:
    """Read these inputs, (format, number), one after the other; write a line of JSON for each."""
    made = formats(root)
    whole = {key: each.path.read_bytes() for key, each in made.items()}
    for name, number in work:
        each = made[name]
        manifest = each.path.with_name("manifest.json")
        beside = manifest.read_bytes() if manifest.exists() else None
        each.path.write_bytes(variant(name, number, made, whole))
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        start = time.process_time()
        end, text = _outcome(each)
        seconds = time.process_time() - start
        record = {"end": end, "text": text, "seconds": seconds, "mib": _peak_mib()}
        print(json.dumps(record), file=out, flush=True)
        each.path.write_bytes(whole[name])
        if beside is not None:
            manifest.write_bytes(beside)


def _outcome(each: Format) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each.after()
            each.read()
    except SelftrainError as error:
        text = str(error)
        return ("refused", "") if text.isprintable() else ("failed", f"not one line: {text!r}")
    except BaseException as error:
        places = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(p.filename).name}:{p.lineno}" for p in places if "/pipeline/" in p.filename]
        return "failed", f"{type(error).__name__}: {str(error)[:200]!r} at {' '.join(own[-3:])}"
    return "read", ""


def _peak_mib() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def fuzz(root: Path, names: Sequence[str], count: int) -> Iterator[tuple[str, Tally]]:
    """Run inputs 0 … count - 1 of each of these formats in children; yields what became of them."""
    work = [(name, number) for name in names for number in range(count)]
    tally, place = Tally(), 0
    while place < len(work):
        for record in _records(root, names, count, place):
            name, number = work[place]
            tally.add(number, record)
            place += 1
            if number == count - 1:
                yield name, tally
                tally = Tally()


def _records(root: Path, names: Sequence[str], count: int, place: int) -> Iterator[dict[str, Any]]:
    """The records of a child that starts at a place of the work, the last of an input that it did
    not survive."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(root, Path(scratch) / "made", symlinks=True)
        command = [sys.executable, "-m", "tests.bad_input.fuzz", "--inputs", str(count)]
        command += ["--child", str(Path(scratch) / "made"), str(place), "--only", *names]
        ended = "ended its process"
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        ) as child:
            assert child.stdout is not None
            while line := child.stdout.readline() if _has_more(child.stdout) else b"":
                yield json.loads(line)
                place += 1
            if child.poll() is None and not _has_more(child.stdout, 1):
                ended = f"no end in {WATCHDOG_SECONDS:.0f} s"
            child.kill()
        if place < len(names) * count:
            yield {"end": "failed", "text": ended, "seconds": 0.0, "mib": 0}


def _has_more(stream: Any, seconds: float = WATCHDOG_SECONDS) -> bool:
    return bool(select.select([stream], [], [], seconds)[0])


def child(root: Path, place: int, names: Sequence[str], count: int) -> None:
    """The work of a child: what the readers print goes nowhere."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    run_inputs(root, [(name, n) for name in names for n in range(count)][place:], out)


def main() -> int:
    """1 where an input failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="of each format")
    parser.add_argument("--only", nargs="+", help="the formats, by name")
    parser.add_argument("--save", type=Path, help="where failing inputs go")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        root, place = args.child
        child(Path(root), int(place), args.only, args.inputs)
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            made = formats(Path(folder))
        whole = {name: each.path.read_bytes() for name, each in made.items()}
        print("| format | inputs | refused | failed | slowest, s | largest, MiB |")
        print("|---|---|---|---|---|---|")
        for name, tally in fuzz(Path(folder), args.only or list(made), args.inputs):
            failed += len(tally.failures)
            figures = f"{tally.inputs} | {tally.refused} | {len(tally.failures)}"
            print(f"| {name} | {figures} | {tally.slowest:.1f} | {tally.largest} |", flush=True)
            for number, failure in tally.failures[:20]:
                print(f"  input {number}: {failure}", flush=True)
                if args.save:
                    args.save.mkdir(parents=True, exist_ok=True)
                    path = args.save / f"{name.replace('/', '_')}.{number}"
                    path.write_bytes(variant(name, number, made, whole))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
