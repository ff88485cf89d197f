"""A classifier fitted on stored features: the work of a training stage, without torch or Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import check_features, load_features, read_feature_shard
from pipeline.data.predictions import read_pseudo_label_shard
from pipeline.data.shards import read_labels, read_manifest
from pipeline.evaluate.guard import ValidationCounts, count_right
from pipeline.evaluate.measure import head_log_probs
from pipeline.evaluate.metrics import apply_temperature, correct, fit_temperature
from pipeline.files import publish_folder, write_json
from pipeline.labels.teaching import Teaching, read_teaching, targets_of_teacher
from pipeline.models.head import Folds, LinearHead, read_folds, save_folds, save_head
from pipeline.models.spec import read_spec
from pipeline.params import Training
from pipeline.train.head import (
    TAUGHT_L2,
    FeatureBlock,
    choose_l2,
    fit_head,
    labeled_block,
    stratified_folds,
)
from pipeline.train.history import write_curves
from pipeline.workflow.layout import Layout
from pipeline.workflow.stage import Run, Stage

L2 = "l2"  # the note in a head's spec
MOST_IN_FOLDS = 2_000  # pseudo-labelled images that each fold learns from, evenly spaced


@dataclass(frozen=True)
class Labeled:
    """The labelled images: features (N, F), labels (N,), of so many classes."""

    features: NDArray[np.float16]
    labels: NDArray[np.int64]
    num_classes: int

    @property
    def block(self) -> FeatureBlock:
        """They as a part of a training set."""
        return labeled_block(self.features, self.labels, self.num_classes)


def train_head(stage: Stage, run: Run, training: Training, *, teacher: str | None) -> str:
    """Write models/, curves/ and metrics/guard/ of the stage's model; returns what it came to.

    teacher: the digest of its teacher, None for generation 0.
    """
    from threadpoolctl import threadpool_limits

    # Sums come out the same wherever as many threads make them.
    with threadpool_limits(training.train.threads):
        return _trained(stage, run, training, teacher)


def _trained(stage: Stage, run: Run, training: Training, teacher: str | None) -> str:
    layout, key, model, seed = stage.layout, stage.key, stage.model, stage.params.seed
    before = None if key == "0" else layout.model(stage.params.generations[key].teacher)
    labeled = read_labeled(layout)
    l2 = _l2(labeled, before, seed)
    weight = training.train.unlabeled_weight

    def blocks() -> Iterator[FeatureBlock]:
        yield labeled.block
        if before is not None:
            yield from (block for _, block in _pseudo_labeled(layout, key, weight))

    head = fit_head(blocks, labeled.features.shape[1], labeled.num_classes, l2=l2)
    folds = None
    if layout.folds is not None:
        folds = cross_validate(
            labeled,
            read_pool(layout, key, before),
            before,
            l2=l2,
            weight=weight,
            num_folds=layout.folds,
            seed=seed,
        )
    temperature = _temperature(layout, head, folds, labeled.labels)
    finished = run.scratch / "model"
    save_head(
        finished,
        head,
        layout.body,
        generation=model,
        classes=layout.classes,
        temperature=temperature,
        teacher=teacher,
        notes={L2: l2},
    )
    if folds is not None:
        calibrated = apply_temperature(folds.log_probs, temperature)
        save_folds(finished, replace(folds, log_probs=calibrated))
    publish_folder(finished, layout.model(model))
    write_curves(layout.curves(model), [])
    counts = _counts(layout, finished, before, folds, labeled.labels)
    write_json(layout.metrics("guard", model), asdict(counts))
    run.tracker.model(layout.model(model))
    figures = {L2: l2}
    if counts.accuracy is not None:
        figures["val/accuracy"] = counts.accuracy
    run.tracker.metrics(figures)
    shown = f"a classifier on {labeled.features.shape[1]} features, l2 {l2:g}"
    if counts.accuracy is None:
        return shown
    by = "out of fold" if folds is not None else "on validation"
    return f"{shown}: {counts.accuracy:.1%} of {counts.images} images {by}"


def read_labeled(layout: Layout) -> Labeled:
    """The labelled images of the prepared folder, as features."""
    images = layout.prepared / "labeled"
    features = load_features(layout.features("labeled"), images)
    return Labeled(features, read_labels(images), len(layout.classes))


@dataclass(frozen=True)
class Pool:
    """Pseudo-labelled images: features (M, F), how often each counts (M,), and how they were
    taught."""

    features: NDArray[np.float16]
    repeats: NDArray[np.float32]
    teaching: Teaching


def read_pool(layout: Layout, key: str, teacher: Path | None) -> Pool | None:
    """The pseudo-labelled images of a generation, at most MOST_IN_FOLDS of them; None without."""
    if teacher is None:
        return None
    folder, manifest = layout.pseudo_labels(key), read_manifest(layout.pseudo_labels(key))
    every = max(1, -(-manifest.rows // MOST_IN_FOLDS))
    features, repeats = [], []
    for rows, block in _pseudo_labeled(layout, key, every):
        some = rows % every == 0
        features.append(block.features[some])
        repeats.append(block.weights[some])
    return Pool(np.concatenate(features), np.concatenate(repeats), read_teaching(folder, manifest))


def cross_validate(
    labeled: Labeled,
    pool: Pool | None,
    teacher: Path | None,
    *,
    l2: float,
    weight: float,
    num_folds: int,
    seed: int,
) -> Folds | None:
    """A head for each fold, which neither it nor, through pseudo-labels, its teacher has seen.

    None where the teacher was not cross-validated itself: nothing says what it would have taught
    without an image.
    """
    before = None if teacher is None else read_folds(teacher)
    if pool is not None and before is None:
        return None
    fold = stratified_folds(labeled.labels, num_folds, seed) if before is None else before.fold
    heads = []
    log_probs = np.full((len(fold), labeled.num_classes), -np.log(labeled.num_classes), np.float32)
    for number in range(int(fold.max()) + 1):
        held = fold == number
        part = Labeled(labeled.features[~held], labeled.labels[~held], labeled.num_classes)
        blocks = [part.block]
        if pool is not None and before is not None:
            said = before.heads[number].log_probs(pool.features)
            targets = targets_of_teacher(
                said,
                pool.teaching,
                features=pool.features,
                labeled_features=part.features,
                labels=part.labels,
            )
            blocks.append(FeatureBlock(pool.features, targets, weight * pool.repeats))
        head = fit_head(partial(iter, blocks), part.features.shape[1], part.num_classes, l2=l2)
        log_probs[held] = head.log_probs(labeled.features[held])
        heads.append(head)
    return Folds(tuple(heads), fold, log_probs) if heads else None


def _l2(labeled: Labeled, teacher: Path | None, seed: int) -> float:
    """How much weights cost: by cross-validation on the labels, TAUGHT_L2 of a student."""
    if teacher is not None:
        return TAUGHT_L2
    return choose_l2(labeled.features, labeled.labels, labeled.num_classes, seed=seed).l2


def _pseudo_labeled(
    layout: Layout, key: str, weight: float
) -> Iterator[tuple[NDArray[np.int64], FeatureBlock]]:
    """The pseudo-labelled images of a generation, a shard at a time, and their rows in it; each
    counts `weight` times."""
    folder, features = layout.pseudo_labels(key), layout.features("unlabeled")
    manifest = read_manifest(folder)
    seen = check_features(features, layout.prepared / "unlabeled")
    for number in range(len(manifest.shards)):
        part = read_pseudo_label_shard(folder, manifest, number)
        rows, first, repeats = np.unique(part.row, return_index=True, return_counts=True)
        block = FeatureBlock(
            read_feature_shard(features, seen, number)[rows],
            part.targets[first],
            (weight * repeats).astype(np.float32),
        )
        yield rows, block


def _temperature(
    layout: Layout, head: LinearHead, folds: Folds | None, labels: NDArray[np.int64]
) -> float:
    """The temperature that suits the images out of fold, or the validation images; 1 without."""
    if folds is not None:
        held = folds.held_out
        return round(fit_temperature(folds.log_probs[held], labels[held]), 6)
    images = layout.prepared / "validation"
    if not read_manifest(images).rows:
        return 1.0
    log_probs = head.log_probs(load_features(layout.features("validation"), images))
    return round(fit_temperature(log_probs, read_labels(images)), 6)


def _counts(
    layout: Layout,
    model: Path,
    teacher: Path | None,
    folds: Folds | None,
    labels: NDArray[np.int64],
) -> ValidationCounts:
    """The head and its teacher on the same images: out of fold, or the validation images.

    The teacher's figures are missing where it was judged on none of them.
    """
    if folds is not None:
        held = folds.held_out
        before = None if teacher is None else read_folds(teacher)
        known = None if before is None else correct(before.log_probs[held], labels[held])
        return count_right(correct(folds.log_probs[held], labels[held]), known)
    images, features = layout.prepared / "validation", layout.features("validation")
    if not read_manifest(images).rows:
        return ValidationCounts(0, None, None, 0, 0)
    models = [model] if teacher is None or read_spec(teacher).body is None else [model, teacher]
    right = [
        correct(head_log_probs(folder, features, images), read_labels(images)) for folder in models
    ]
    return count_right(right[0], right[1] if len(right) > 1 else None)
