"""Which stages a run would go through now, and how long each will take here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from cluster.remote import opened
from pipeline.errors import BusyError, DataError
from pipeline.files import read_json
from pipeline.params import Params
from pipeline.program import program_digests
from pipeline.workflow.layout import Layout
from pipeline.workflow.source import source_facts
from pipeline.workflow.times import read_times

SCAN = "scan"  # runs always; alone it changes nothing


def planned_stages(root: Path, params: Params, targets: Sequence[str] = ()) -> list[str]:
    """The stages that `dvc repro` of all or these targets would run after scan, by the names that
    they give themselves, and in its order.

    What follows from one that runs is among them, although it may turn out to be as before. Raises
    ClusterError where DVC can't read the project, DataError for damaged files of scan, SourceError
    where the images are not there.
    """
    from dvc.lock import LockError
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    renewed = _renewed_by_scan(root, params)
    with opened(root) as repo:
        _check_tracked(root, repo)
        try:
            status = repo.status()
        except LockError:
            raise BusyError(f"{root}: a run is at work here; wait for it, or end it") from None
        stale = {name for name, why in status.items() if why != ["always changed"]}
        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
        planned: dict[Any, None] = {}
        for stage in stages:
            reads = {name for dependency in stage.deps for name in _names(dependency)}
            after = any(before in planned for before in graph.successors(stage))
            if stage.addressing != SCAN and (after or stage.addressing in stale or reads & renewed):
                planned[stage] = None
        return [_title(stage.cmd) for stage in planned]


def check_idle(root: Path) -> None:
    """Raise BusyError where another `dvc repro` runs a stage in `root`; DVC would say so in several
    lines, after the plan."""
    import psutil

    with suppress(OSError, ValueError, TypeError, AttributeError, LookupError):  # DVC tells those
        lock = read_json(root / ".dvc" / "tmp" / "rwlock")
        for each in chain(lock.get("write", {}).values(), *lock.get("read", {}).values()):
            if each and psutil.pid_exists(each["pid"]):
                raise BusyError(
                    f"{root}: a run is at work here, process {each['pid']} ({each['cmd']}); wait "
                    "for it, or end it"
                )


def _check_tracked(root: Path, repo: Any) -> None:
    """Raise DataError for what DVC would wait for, or read without an end, where it takes
    digests."""
    for name in ("dvc.yaml", "dvc.lock"):
        _check_file(root / name)
    for path in dict.fromkeys(
        Path(each.fs_path) for each in chain(repo.index.outs, repo.index.deps)
    ):
        for each in (path, *path.rglob("*")):
            _check_file(each)


def _check_file(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: not a regular file; remove it, and the same command goes on")


def _title(command: str) -> str:
    """What a stage calls itself: `python -m stages.evaluate --generation 0` is evaluate@0."""
    name, _, generation = command.rpartition("stages.")[2].partition(" --generation ")
    return f"{name}@{generation}" if generation else name


def _renewed_by_scan(root: Path, params: Params) -> set[str]:
    """What scan will write otherwise than it is: source.json, and keys of program.json."""
    layout = Layout(root)
    before = _read(layout.program)
    renewed = {
        key for key, digest in program_digests(params.task).items() if before.get(key) != digest
    }
    if _read(layout.source) != source_facts(root, params.data)[0]:
        renewed.add(layout.source.name)
    return renewed


def _read(path: Path) -> dict[str, Any]:
    """What scan wrote, nothing where that is gone; raises DataError for what it can't have
    written."""
    try:
        value = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: can't be read ({error}); remove it, scan writes it anew"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not as scan writes it; remove it, scan writes it anew")
    return value


def _names(dependency: Any) -> list[str]:
    """A dependency's file name, or of program.json the keys that count."""
    name = Path(dependency.fs_path).name
    return list(dependency.params) if name == "program.json" else [name]


def expected_seconds(root: Path, params: Params, stages: list[str]) -> dict[str, float | None]:
    """The seconds of each of `stages`: those that it took here last, else an estimate from a few
    images and steps, which are timed now; None where nothing is known of the images yet."""
    known = {each.stage: each.seconds for each in read_times(root, stages)}
    missing = [stage for stage in stages if stage not in known]
    estimate = _estimate(root, params) if missing else {}
    return {stage: known.get(stage, estimate.get(stage)) for stage in stages}


def _estimate(root: Path, params: Params) -> dict[str, float]:
    from pipeline.data.preparation.inspection import inspect_source
    from pipeline.data.sources import open_source
    from pipeline.tasks import open_task
    from pipeline.workflow.estimate import Counts, estimate_seconds, known_counts, measure_rates

    counts = known_counts(root)
    if counts is None and params.data.path is None:  # small, and installed
        start = time.perf_counter()
        source = open_source(params.data.source, None, seed=params.seed)
        inspection = inspect_source(source, open_task(params.task))
        counts = Counts.of(inspection, time.perf_counter() - start)
    return estimate_seconds(params, counts, measure_rates(params)) if counts else {}
