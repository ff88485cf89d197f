"""A made-up run with figures as a real one has them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.corruption_error import Robustness
from pipeline.evaluate.result import evaluate
from pipeline.labels.audit import Audit
from pipeline.labels.select import Reason
from pipeline.report.data import ControlResult, GenerationResult, ReportData
from pipeline.tasks import open_task
from pipeline.tasks.averages import average_log_probs
from pipeline.tasks.metrics import correct
from pipeline.tasks.significance import compare

TASK = open_task("classification")

DIGITS = tuple(str(digit) for digit in range(10))


def predictions(
    classes: int, skill: float, images: int = 899
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-probabilities of a model that is the better the higher its skill."""
    labels = np.random.default_rng(7).integers(0, classes, size=images)
    logits = np.random.default_rng(8).normal(size=(images, classes)) * 1.6
    logits[np.arange(images), labels] += skill
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), labels


def example_report(
    classes: tuple[str, ...] = DIGITS,
    *,
    skills: tuple[float, ...] = (5.6, 6.6, 7.2, 7.3),
    validation: bool = True,
    truth: bool = True,
) -> ReportData:
    """A run of len(skills) generations on a test set of 899 images."""
    made = [predictions(len(classes), skill) for skill in skills]
    rights = [correct(*pair) for pair in made]
    steps = tuple(range(20, 601, 20))
    parts = []
    for number, (skill, (log_probs, labels)) in enumerate(zip(skills, made, strict=True)):
        parts.append(
            GenerationResult(
                generation=str(number),
                test=evaluate(TASK, log_probs, labels, len(classes)),
                centre=evaluate(TASK, *predictions(len(classes), skill - 0.3), len(classes)),
                validation=evaluate(TASK, log_probs[:30], labels[:30], len(classes))
                if validation
                else None,
                pseudo_labels=example_audit(len(classes), number, truth=truth) if number else None,
                against_teacher=compare(rights[number - 1], rights[number]) if number else None,
                against_first=compare(rights[0], rights[number]) if number else None,
                losses={
                    "step": steps,
                    "loss_labeled": [2.3 * float(np.exp(-s / 150)) + 0.05 for s in steps],
                    "loss_pseudo": [1.9 * float(np.exp(-s / 200)) + 0.3 for s in steps],
                },
                validations={
                    "step": steps[::3],
                    "val/accuracy": [0.95 - float(np.exp(-s / 100)) for s in steps[::3]],
                }
                if validation
                else {},
            )
        )
    last = str(len(skills) - 1)
    return ReportData(
        dataset="digits",
        classes=classes,
        counts={
            "labeled": 35,
            "unlabeled": 848,
            "validation": 15 if validation else 0,
            "test": 899,
            "quarantined": 2,
            "duplicates_dropped": 1,
        },
        unused=(("cut short", 2, "a.png"), ("a copy of a held-out image", 1, "<b>.png")),
        generations=tuple(parts),
        champion=last,
        champion_reason="the best on validation" if validation else "the last one",
        ensemble=evaluate(
            TASK, average_log_probs([pair[0] for pair in made]), made[0][1], len(classes)
        ),
        baseline=Baseline("LabelSpreading", 0.935, 0.918, 0.951, ""),
        views="five_crop",
    )


def with_robustness(data: ReportData) -> ReportData:
    """The same run with every generation tested under two corruptions."""
    parts = tuple(
        replace(
            part,
            robustness=Robustness(
                images=500,
                clean=part.centre.score,
                accuracy={
                    "fog": tuple(0.9 + 0.01 * number - 0.1 * severity for severity in range(5)),
                    "shot_noise": tuple(0.8 + 0.02 * number - 0.05 * s for s in range(5)),
                },
                mean_corruption_error=1 - 0.07 * number,
            ),
        )
        for number, part in enumerate(data.generations)
    )
    return replace(data, generations=parts)


def with_control(data: ReportData, skill: float, *, steps: int = 2300) -> ReportData:
    """The same run beside a model of the labels alone with this skill; of 2,300 steps in all."""
    log_probs, labels = predictions(len(data.classes), skill)
    test = evaluate(TASK, log_probs, labels, len(data.classes))
    result = GenerationResult("0.longer", test, test)
    champion = correct(*predictions(len(data.classes), 7.2))
    compared = compare(correct(log_probs, labels), champion)
    control = ControlResult("longer", steps, 2300, result, compared)
    return replace(data, controls=(control,))


def with_heads(data: ReportData, *, like: str = "student") -> ReportData:
    """The same run with folds: its first two generations are classifiers on features."""
    shares = tuple(np.full(len(data.classes), 1 / len(data.classes)).tolist())
    parts = []
    for number, part in enumerate(data.generations):
        labels = part.pseudo_labels
        if labels is not None:
            labels = replace(labels, strangers=7, class_shares=list(shares))
        part = replace(part, pseudo_labels=labels)
        if number < 2:
            part = replace(part, body="timm/tf_efficientnet_lite0", losses={}, validations={})
        else:
            part = replace(part, validation=None)
        parts.append(part)
    return replace(
        data,
        generations=tuple(parts),
        folds=True,
        trial={"images": 60, "head": 36, "network": 38},
        baseline=Baseline("logistic regression on features", 0.82, 0.74, 0.89, ""),
        controls=tuple(replace(control, like=like) for control in data.controls),
    )


def without_figures(data: ReportData) -> ReportData:
    """The same run with everything left out that may be."""
    parts = tuple(
        replace(part, losses={}, validations={}, pseudo_labels=None, validation=None)
        for part in data.generations
    )
    return replace(data, generations=parts, ensemble=None, baseline=None)


def example_audit(classes: int, number: int = 1, *, truth: bool = True) -> Audit:
    """What a selection of a generation came to."""
    coverage = (0.5, 0.8, 1.0)[min(number, 3) - 1]
    counts = [round(85 * coverage) - (place * number) % 7 for place in range(classes)]
    accuracy = [0.95 + 0.004 * place % 0.05 if truth else None for place in range(classes)]
    return Audit(
        coverage=coverage,
        class_imbalance=max(counts) / min(counts),
        classes_missing=0,
        mean_confidence=0.9 + 0.02 * number,
        pseudo_label_accuracy=0.995 - 0.008 * number if truth else None,
        prediction_accuracy=None,
        kept=sum(counts),
        repeated=0,
        reasons={reason.text: 0 for reason in Reason},
        images=counts,
        repeats=counts,
        confidence=[0.9] * classes,
        accuracy=accuracy,
        thresholds=[0.0] * classes,
        histogram=[0] * 19 + [sum(counts)],
        kept_histogram=[0] * 19 + [sum(counts)],
    )
