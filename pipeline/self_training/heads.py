"""Classifiers on stored features: fitted, cross-validated and judged, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.features import check_features, load_features, read_feature_shard
from pipeline.data.predictions import read_pseudo_label_shard
from pipeline.data.shards import read_labels, read_manifest
from pipeline.evaluate.guard import NOTHING, ValidationCounts, count_evidence
from pipeline.evaluate.measure import head_log_probs
from pipeline.labels.teaching import Teaching, read_teaching, targets_of_teacher
from pipeline.models.head import Folds, LinearHead, read_folds, save_folds, save_head
from pipeline.models.spec import model_digest, read_spec
from pipeline.tasks.classification import TASK
from pipeline.tasks.metrics import apply_temperature, fit_temperature
from pipeline.train.head import (
    TAUGHT_L2,
    FeatureBlock,
    choose_l2,
    fit_head,
    labeled_block,
    stratified_folds,
)

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

    def subset(self, rows: NDArray[np.bool_]) -> Labeled:
        """Some of them; rows: (N,)."""
        return Labeled(self.features[rows], self.labels[rows], self.num_classes)


@dataclass(frozen=True)
class Pool:
    """Pseudo-labelled images: features (M, F), how often each counts (M,), and how they were
    taught."""

    features: NDArray[np.float16]
    repeats: NDArray[np.float32]
    teaching: Teaching


def fit_generation(
    labeled: Labeled, pseudo_labeled: Callable[[], Iterable[FeatureBlock]] | None, *, seed: int
) -> tuple[LinearHead, float]:
    """A generation's head and its l2: by cross-validation on the labels, TAUGHT_L2 of a student.

    pseudo_labeled: called once for each pass, None for generation 0.
    """
    num_features, num_classes = labeled.features.shape[1], labeled.num_classes
    if pseudo_labeled is None:
        l2 = choose_l2(labeled.features, labeled.labels, num_classes, seed=seed).l2
    else:
        l2 = TAUGHT_L2

    def blocks() -> Iterator[FeatureBlock]:
        yield labeled.block
        if pseudo_labeled is not None:
            yield from pseudo_labeled()

    return fit_head(blocks, num_features, num_classes, l2=l2), l2


def cross_validate(
    labeled: Labeled,
    pool: Pool | None,
    teacher: Folds | None,
    *,
    l2: float,
    weight: float,
    num_folds: int,
    seed: int,
) -> Folds | None:
    """A head for each fold, which neither it nor, through pseudo-labels, its teacher has seen.

    teacher: its cross-validation, None for generation 0. None where the teacher of `pool` was not
    cross-validated: nothing says what it would have taught without an image.
    """
    if pool is not None and teacher is None:
        return None
    fold = stratified_folds(labeled.labels, num_folds, seed) if teacher is None else teacher.fold
    heads = []
    log_probs = np.full((len(fold), labeled.num_classes), -np.log(labeled.num_classes), np.float32)
    for number in range(int(fold.max()) + 1):
        held_out = fold == number
        rest = labeled.subset(~held_out)
        blocks = [rest.block]
        if pool is not None and teacher is not None:
            targets = targets_of_teacher(
                teacher.heads[number].log_probs(pool.features),
                pool.teaching,
                features=pool.features,
                labeled_features=rest.features,
                labels=rest.labels,
            )
            blocks.append(FeatureBlock(pool.features, targets, weight * pool.repeats))
        head = fit_head(partial(iter, blocks), rest.features.shape[1], rest.num_classes, l2=l2)
        log_probs[held_out] = head.log_probs(labeled.features[held_out])
        heads.append(head)
    return Folds(tuple(heads), fold, log_probs) if heads else None


@dataclass(frozen=True)
class FittedHead:
    """What a fit came to; counts: on validation images, or out of fold."""

    l2: float
    num_features: int
    out_of_fold: bool
    counts: ValidationCounts


@dataclass(frozen=True)
class HeadJob:
    """What to fit a head on.

    features: the folder of body/ and of the features of each part of `prepared`; teacher: the
    model that made `pseudo_labels`, None for generation 0; weight: of a pseudo-labelled image;
    num_folds: of the cross-validation, None where images are held out for validation.
    """

    prepared: Path
    features: Path
    classes: list[str]
    generation: str
    pseudo_labels: Path | None
    teacher: Path | None
    weight: float
    num_folds: int | None
    seed: int

    def fit(self, model: Path) -> FittedHead:
        """Fit the head, calibrate it and write its folder `model`."""
        labeled = self.labeled
        blocks = None if self.pseudo_labels is None else self._blocks
        head, l2 = fit_generation(labeled, blocks, seed=self.seed)
        folds = None
        if self.num_folds is not None:
            folds = cross_validate(
                labeled,
                self._pool(),
                self._teacher_folds,
                l2=l2,
                weight=self.weight,
                num_folds=self.num_folds,
                seed=self.seed,
            )
        temperature = self._temperature(head, folds)
        save_head(
            model,
            head,
            self.features / "body",
            generation=self.generation,
            classes=self.classes,
            temperature=temperature,
            teacher=None if self.teacher is None else model_digest(self.teacher),
            notes={L2: l2},
        )
        if folds is not None:
            calibrated = apply_temperature(folds.log_probs, temperature)
            save_folds(model, replace(folds, log_probs=calibrated))
        counts = self._counts(model, folds)
        return FittedHead(l2, labeled.features.shape[1], folds is not None, counts)

    @cached_property
    def labeled(self) -> Labeled:
        """The labelled images."""
        images = self.prepared / "labeled"
        features = load_features(self.features / "labeled", images)
        return Labeled(features, read_labels(images), len(self.classes))

    @cached_property
    def _teacher_folds(self) -> Folds | None:
        return None if self.teacher is None else read_folds(self.teacher)

    def _blocks(self) -> Iterator[FeatureBlock]:
        for _, block in self._pseudo_labeled(self.weight):
            yield block

    def _pool(self) -> Pool | None:
        """At most MOST_IN_FOLDS of the pseudo-labelled images; None for generation 0."""
        if self.pseudo_labels is None:
            return None
        manifest = read_manifest(self.pseudo_labels)
        every = max(1, -(-manifest.rows // MOST_IN_FOLDS))
        features, repeats = [], []
        for rows, block in self._pseudo_labeled(every):
            selected = rows % every == 0
            features.append(block.features[selected])
            repeats.append(block.weights[selected])
        teaching = read_teaching(self.pseudo_labels, manifest)
        return Pool(np.concatenate(features), np.concatenate(repeats), teaching)

    def _pseudo_labeled(self, weight: float) -> Iterator[tuple[NDArray[np.int64], FeatureBlock]]:
        """The pseudo-labelled images, a shard at a time, and their rows in it."""
        assert self.pseudo_labels is not None
        manifest, features = read_manifest(self.pseudo_labels), self.features / "unlabeled"
        stored = check_features(features, self.prepared / "unlabeled")
        for number in range(len(manifest.shards)):
            part = read_pseudo_label_shard(self.pseudo_labels, manifest, number, TASK)
            rows, first, repeats = np.unique(part.row, return_index=True, return_counts=True)
            block = FeatureBlock(
                read_feature_shard(features, stored, number)[rows],
                part.targets[first],
                (weight * repeats).astype(np.float32),
            )
            yield rows, block

    def _temperature(self, head: LinearHead, folds: Folds | None) -> float:
        """The temperature that suits the images out of fold, or the validation images; else 1."""
        images = self.prepared / "validation"
        if folds is not None:
            log_probs = folds.log_probs[folds.held_out]
            labels = self.labeled.labels[folds.held_out]
        elif read_manifest(images).rows:
            log_probs = head.log_probs(load_features(self.features / "validation", images))
            labels = read_labels(images)
        else:
            return 1.0
        return round(fit_temperature(log_probs, labels), 6)

    def _counts(self, model: Path, folds: Folds | None) -> ValidationCounts:
        """The head and its teacher on the same images: out of fold, or the validation images.

        The teacher's figures are missing where it was judged on none of them.
        """
        count = len(self.classes)
        if folds is not None:
            held_out, labels = folds.held_out, self.labeled.labels[folds.held_out]
            student, teacher = (
                None if each is None else TASK.evidence(each.log_probs[held_out], labels, count)
                for each in (folds, self._teacher_folds)
            )
            assert student is not None
            return count_evidence(TASK, student, teacher)
        images, features = self.prepared / "validation", self.features / "validation"
        if not read_manifest(images).rows:
            return NOTHING
        models = [model]
        if self.teacher is not None and read_spec(self.teacher).body is not None:
            models.append(self.teacher)
        evidence = [
            TASK.evidence(head_log_probs(folder, features, images), read_labels(images), count)
            for folder in models
        ]
        return count_evidence(TASK, evidence[0], evidence[1] if len(evidence) > 1 else None)
