"""Read the images of the report's galleries, and what the models made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.predictions import read_log_probs, read_predictions
from pipeline.data.rows import find_rows, read_rows
from pipeline.data.shards import shown_shards
from pipeline.evaluate.ensemble import weighted_log_probs
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.labels.doubt import class_pairs, doubt, pair_names
from pipeline.labels.select import Reason
from pipeline.report.galleries import (
    MOST_SHOWN,
    Gallery,
    ShownImage,
    UnlabeledViews,
    chosen_rows,
    likeliest,
    thumbnail_uri,
)
from pipeline.report.words import percent

TITLES = {
    "offered": (
        "Worth a label most",
        "Unlabelled images between two classes, or of which the teachers disagree; of each such "
        "pair of classes some. Label these first.",
    ),
    "surest": ("Surest of each class", "Pseudo-labels that the last teacher is surest of."),
    "least_sure": (
        "Least sure that were kept",
        "Pseudo-labels that the last student learnt from although its teacher doubted them.",
    ),
    "missed": (
        "Just not kept",
        "The surest of the images that the last selection left out: under their threshold, or "
        "behind surer images of their class.",
    ),
    "strangers": (
        "Strangers",
        "Images that lie apart from all labelled ones, and seem to show none of the classes; those "
        "that the last teacher is least sure of.",
    ),
    "changed": (
        "Changed their label",
        "Images that the last teacher and the one before see differently, surest first.",
    ),
}
ISSUES = (
    "Likely wrong labels",
    "Labelled images of which the models together see another class than the label, worst first.",
)


def gather_galleries(
    prepared: Path,
    predictions: Mapping[str, Path],
    pseudo_labels: Path,
    classes: Sequence[str],
) -> list[Gallery]:
    """The galleries of unlabelled images that hold any.

    predictions: folders by generation, each what its teacher thought; pseudo_labels: what the last
    selection made of them.
    """
    folders = list(predictions.values())
    views = _views(folders, pseudo_labels)
    if not len(views.labels):
        return []
    chosen = chosen_rows(views, len(classes))
    rows = sorted({row for part in chosen.values() for row in part})
    images = read_rows(prepared / "unlabeled", rows, ["id", "image"])
    seen = dict(zip(rows, read_log_probs(folders[-1], rows), strict=True))
    shown: dict[int, dict[str, Any]] = {
        row: {
            "id": name,
            "thumbnail": thumbnail_uri(data),
            "probabilities": likeliest(np.exp(seen[row]), classes),
            "note": _note(views, row, classes),
        }
        for row, name, data in zip(
            rows, images["id"].to_pylist(), images["image"].to_pylist(), strict=True
        )
    }

    def caption(key: str, row: int) -> str:
        label = classes[views.labels[row]]
        if key == "offered":
            return pair_names(int(views.pairs[row]), classes)
        if key == "changed" and views.before is not None:
            return f"{classes[views.before[row]]} → {label}"
        return f"{label} {percent(float(views.confidences[row]), 0)}"

    return [
        Gallery(
            key,
            *TITLES[key],
            tuple(ShownImage(caption=caption(key, row), **shown[row]) for row in part),
        )
        for key, part in chosen.items()
        if part
    ]


def issue_gallery(
    labeled: Path,
    issues: Sequence[LabelIssue],
    predictions: Mapping[str, Path],
    weights: Mapping[str, float],
    classes: Sequence[str],
) -> Gallery | None:
    """The labelled images that the models contradict; None where there are none.

    predictions: folders of each model's predictions of the labelled images; weights: the models
    that count.
    """
    places = find_rows(labeled, [issue.id for issue in issues[:MOST_SHOWN]])
    some = [issue for issue in issues[:MOST_SHOWN] if issue.id in places]
    if not some:
        return None
    rows = [places[issue.id] for issue in some]
    images = read_rows(labeled, rows, ["image"])["image"].to_pylist()
    members = {key: read_log_probs(predictions[key], rows) for key in weights}
    seen = np.exp(weighted_log_probs(members, weights))
    shown = tuple(
        ShownImage(
            issue.id,
            thumbnail_uri(data),
            f"label {issue.label}, seen as {issue.ensemble}",
            likeliest(row, classes),
        )
        for issue, data, row in zip(some, images, seen, strict=True)
    )
    return Gallery("issues", *ISSUES, shown)


def _note(views: UnlabeledViews, row: int, classes: Sequence[str]) -> str:
    """What the teacher before saw, where that was another class."""
    if views.before is None or views.before[row] == views.labels[row]:
        return ""
    return f"The teacher before it: {classes[views.before[row]]}"


def _views(predictions: Sequence[Path], pseudo_labels: Path) -> UnlabeledViews:
    """A few numbers of every unlabelled image, one shard of each folder in memory at a time."""
    columns = ["label", "confidence", "reason"]
    labels, confidences, kept, before, doubts, pairs, strangers = [], [], [], [], [], [], []
    shards = zip(*(read_predictions(folder) for folder in predictions), strict=True)
    tables = shown_shards(pseudo_labels, columns, "report: galleries")
    for table, members in zip(tables, shards, strict=True):
        seen = [np.exp(member.log_probs) for member in members]
        labels.append(table.column("label").to_numpy().astype(np.int64))
        confidences.append(table.column("confidence").to_numpy())
        kept.append(np.array(table.column("reason").to_pylist()) == Reason.KEPT.text)
        before.append(seen[-2].argmax(axis=1) if len(seen) > 1 else np.empty(0, np.int64))
        doubts.append(doubt(seen))
        pairs.append(class_pairs(np.mean(seen, axis=0)))
        found = members[-1].strangers
        strangers.append(np.zeros(len(seen[-1]), np.bool_) if found is None else found)
    if not labels:
        none = np.empty(0, np.int64)
        floats = np.empty(0, np.float32)
        truths = np.empty(0, np.bool_)
        return UnlabeledViews(none, floats, truths, None, floats, none, truths)
    return UnlabeledViews(
        np.concatenate(labels),
        np.concatenate(confidences),
        np.concatenate(kept),
        np.concatenate(before) if len(predictions) > 1 else None,
        np.concatenate(doubts),
        np.concatenate(pairs),
        np.concatenate(strangers),
    )
