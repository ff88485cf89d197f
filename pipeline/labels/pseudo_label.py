"""From a folder of predictions to a folder of pseudo-labels and its audit, a shard at a time.

Two passes find where each class is cut: one counts predictions by class and level, and where only
some of equally sure images fit, another finds the last of them by hash. A third writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import num_classes_of
from pipeline.data.shards import Manifest, iter_shards, read_manifest, write_manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import DataError, SelectionError
from pipeline.labels.align import alignment_shift, estimate_shares, every_row
from pipeline.labels.audit import Audit, Right, Strangers, audit, by_class
from pipeline.labels.choice import Choice, choose
from pipeline.labels.levels import level_confidences, no_counts
from pipeline.labels.select import Cuts
from pipeline.labels.shard_selector import ShardSelector
from pipeline.labels.ties import LastTaken, expected_window, last_taken, widest_window
from pipeline.progress import progress

Made = TypeVar("Made", covariant=True)
Shares = NDArray[np.float64]
TargetShares = Shares | Callable[[NDArray[np.float32]], Shares]  # or made from log-probabilities


class MapShards(Protocol):
    """Do a task for each shard of so many, in any place; what it makes comes in their order."""

    def __call__(self, task: Callable[[int], Made], count: int, /) -> Iterator[Made]: ...


def in_threads(threads: int) -> MapShards:
    """Shards in this process, `threads` at once; never more than twice as many are held."""

    def map_shards(task: Callable[[int], Any], count: int) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="select") as pool:
            for number in range(count):
                waiting.append(pool.submit(task, number))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    return map_shards


def with_progress(over: MapShards, rows: Sequence[int], title: str) -> MapShards:
    """`over` with a progress of each pass over the shards, which hold so many images each."""

    def map_shards(task: Callable[[int], Any], count: int) -> Iterator[Any]:
        with progress(title, sum(rows[:count])) as advance:
            for number, made in enumerate(over(task, count)):
                advance(rows[number])
                yield made

    return map_shards


def select_pseudo_labels(
    predictions: Path,
    out: Path,
    *,
    classes: Sequence[str],
    label_kind: str,
    temperature: float,
    target_shares: TargetShares | None,
    truth: Mapping[str, int],
    drop_strangers: bool = False,
    notes: Mapping[str, Any] | None = None,
    stored: StoredFolder | None = None,
    map_shards: MapShards | None = None,
    **rules: Any,
) -> Audit:
    """Write to `out`, for every prediction, whether it is kept, why, and its target.

    target_shares: (K,) the shares of the classes that the predictions are aligned with before
    anything is chosen, or what makes them of log-probabilities (m, K), which is given those that
    alignment reads; None to take predictions as they are. `truth`: labels by id where they are
    known; only the audit reads it. drop_strangers: whether images that the predictions call
    strangers are left out, uncounted in any class, before anything is aligned or chosen. notes:
    what else the manifest is to say. stored: where the shards go, `out` then takes their manifest
    alone. map_shards: who works on the shards; the result is the same. rules: what else `choose`
    takes.
    Raises SelectionError where nothing is kept, DataError where a prediction is not a number or
    the predictions are not of `classes`.
    """
    manifest, over = read_manifest(predictions), map_shards or in_threads(1)
    _check_classes(predictions, manifest, classes)
    selector = ShardSelector(predictions, manifest, len(classes), drop_strangers)
    count = len(manifest.shards)
    shares = None
    if target_shares is not None:
        selector, shares = _aligned(selector, target_shares, over)
    counts, choice, last = find_cuts(selector, over, classes=classes, **rules)
    write = partial(
        selector.write,
        cuts=choice.cuts,
        last=last,
        out=out if stored is None else stored,
        temperature=temperature,
        truth=truth,
    )
    entries, right, strangers = [], Right.none(len(classes)), Strangers()
    for entry, of_shard, strangers_in in over(write, count):
        entries.append(entry)
        right += of_shard
        strangers += strangers_in
    metadata = {"num_classes": len(classes), "label_kind": label_kind, **(notes or {})}
    write_manifest(out, entries, metadata)
    return audit(by_class(counts, choice.cuts), right, choice.thresholds, shares, strangers)


def find_cuts(
    selector: ShardSelector, over: MapShards, *, classes: Sequence[str], **rules: Any
) -> tuple[NDArray[np.uint32], Choice, LastTaken]:
    """Where each class is cut, by as many passes over the shards as that takes: one, or two.

    Returns the predictions of each class and level too, (K, L). Raises SelectionError where
    nothing is kept.
    """
    counts = _counts(over(selector.tally, len(selector.manifest.shards)), len(classes))
    choice = choose(counts, classes=classes, **rules)
    if selector.manifest.rows and not counts.any():
        raise SelectionError(
            f"select.strangers = drop: all {selector.manifest.rows} unlabelled images are strangers"
            "; keep them, or label images that are like them"
        )
    _check_any(counts, choice, rules["confidence_threshold"], rules["class_thresholds"])
    return counts, choice, _last_taken(selector, choice.cuts, over)


def target_shares(
    kind: str, labeled: Path, num_classes: int, *, taught: bool = False
) -> TargetShares | None:
    """The shares (K,) that select.distribution_alignment = `kind` aligns with; None for "none".

    "labeled": of the classes among the images of `labeled`; "estimated": what estimates them from
    predictions and these; taught: see estimate_shares. Both raise DataError where a class has no
    labelled image.
    """
    if kind == "none":
        return None
    if kind == "uniform":
        return np.full(num_classes, 1 / num_classes)
    counts = np.zeros(num_classes, np.int64)
    for table in iter_shards(labeled, ["label"]):
        counts += np.bincount(table.column("label").to_numpy(), minlength=num_classes)
    if not counts.all():
        raise DataError(
            f"{labeled}: no labelled image of class number {int(counts.argmin())}, so "
            f"select.distribution_alignment = {kind} can't align with it; choose uniform or none"
        )
    if kind == "estimated":
        return partial(estimate_shares, label_counts=counts, taught=taught)
    shares: Shares = counts / counts.sum()
    return shares


def _aligned(
    selector: ShardSelector, target: TargetShares, over: MapShards
) -> tuple[ShardSelector, Shares]:
    """The selector that aligns predictions with the shares `target`, and these, (K,)."""
    every = every_row(selector.manifest.rows, selector.num_classes)
    drawn = over(partial(selector.drawn, every=every), len(selector.manifest.shards))
    log_probs = np.concatenate([np.empty((0, selector.num_classes), np.float32), *drawn])
    shares = target(log_probs) if callable(target) else target
    return replace(selector, shift=alignment_shift(log_probs, shares)), shares


def _counts(tallies: Iterator[Any], num_classes: int) -> NDArray[np.uint32]:
    """The predictions of each class and level, (K, L), of all shards."""
    counts = no_counts(num_classes)
    flat = counts.reshape(-1)
    for places, numbers in tallies:
        flat[places] += numbers.astype(np.uint32)
    return counts


def _last_taken(selector: ShardSelector, cuts: Cuts, over: MapShards) -> LastTaken:
    """The last image taken of the tied ones of each class, by the least work that finds it."""
    if not cuts.taken.any():
        return LastTaken.none(selector.num_classes)
    for window in (expected_window(cuts), widest_window(selector.num_classes)):
        ties = partial(selector.ties, cuts=cuts, window=window)
        last = last_taken(over(ties, len(selector.manifest.shards)), cuts)
        if last is not None:
            return last
    raise AssertionError("the shards have changed between two passes")


def _check_any(
    counts: NDArray[np.uint32],
    choice: Choice,
    confidence_threshold: float,
    class_thresholds: Mapping[str, float],
) -> None:
    if counts.any() and not choice.cuts.num_sure.any():
        by_name = f" and class_thresholds = {dict(class_thresholds)}" if class_thresholds else ""
        surest = level_confidences()[counts.any(axis=0).argmax()]
        raise SelectionError(
            f"select.confidence_threshold = {confidence_threshold}{by_name}: no prediction is "
            f"that sure (the surest has {surest:.3f}); lower it"
        )


def _check_classes(predictions: Path, manifest: Manifest, classes: Sequence[str]) -> None:
    num_classes = num_classes_of(predictions, manifest)
    if num_classes != len(classes):
        raise DataError(
            f"{predictions}: of {num_classes} classes, but there are {len(classes)}; "
            "run the stage pseudo_label again"
        )
