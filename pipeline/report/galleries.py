"""The images that the report shows, and what the models make of each."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.pictures import best_jpeg, data_uri
from pipeline.data.predictions import read_prediction_shard, read_some_predictions
from pipeline.data.rows import find_rows, read_rows
from pipeline.data.shards import read_entry, read_manifest
from pipeline.data.stored_shards import read_derived
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.labels.doubt import Columns, class_pairs, diverse, doubt, narrowed, pair_names
from pipeline.labels.select import Reason
from pipeline.mapping import MapItems, in_threads
from pipeline.progress import progress
from pipeline.tasks.averages import weighted_log_probs
from pipeline.tasks.classification import TASK

MOST_SHOWN = 24
MOST_OFFERED = 48
MOST_THREADS = 64  # each with the predictions of a shard
MOST_PROBABILITIES = 5
SIDE = 96  # of a thumbnail, pixels; the page shows it at about this size
MOST_BYTES = 6000
QUALITIES = (85, 70, 50, 30, 10)
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
    "issues": (
        "Likely wrong labels",
        "Labelled images of which the models together see another class than the label, worst "
        "first.",
    ),
}
Probabilities = tuple[tuple[str, float], ...]  # of the likeliest classes, by name


@dataclass(frozen=True)
class ShownImage:
    """One image of a gallery: its id, data URI, what is under it, its likeliest classes, a note.

    stored: the bytes that the thumbnail was made from.
    """

    id: str
    thumbnail: str
    caption: str
    probabilities: Probabilities
    note: str = ""
    stored: bytes = b""


@dataclass(frozen=True)
class Gallery:
    """Images under a heading, with a sentence on what they are.

    answers: whether a person can say what they show; of test images nothing is learnt. legend:
    classes and their colours, where images are pictures that show them, and so are shown larger.
    """

    key: str
    title: str
    about: str
    images: tuple[ShownImage, ...]
    answers: bool = True
    legend: tuple[tuple[str, str], ...] = ()


class Unlabeled(NamedTuple):
    """What is remembered of each of N unlabelled images; all arrays (N,).

    rows: over all shards; labels, confidences, selected, strangers: the last selection's; before:
    the class that the teacher before predicted, the same as labels where there is none; doubts,
    pairs: of all teachers so far, as doubt and class_pairs say.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    confidences: NDArray[np.float32]
    selected: NDArray[np.bool_]
    strangers: NDArray[np.bool_]
    before: NDArray[np.int64]
    doubts: NDArray[np.float32]
    pairs: NDArray[np.int64]

    def galleries(self) -> dict[str, list[int]]:
        """The places of each gallery's images, in the order in which they are shown."""
        sure = self.confidences
        return {
            "offered": diverse(self.doubts, self.pairs, MOST_OFFERED),
            "surest": surest_per_class(self.labels, sure, self.selected, MOST_SHOWN),
            "least_sure": lowest(sure, self.selected),
            "missed": lowest(-sure, ~self.selected & ~self.strangers),
            "strangers": lowest(sure, self.strangers),
            "changed": lowest(-sure, self.before != self.labels),
        }

    def caption(self, key: str, place: int, classes: Sequence[str]) -> str:
        """What stands under an image in the gallery `key`."""
        label = classes[self.labels[place]]
        if key == "offered":
            return pair_names(int(self.pairs[place]), classes)
        if key == "changed":
            return f"{classes[self.before[place]]} → {label}"
        return f"{label} {100 * self.confidences[place]:.0f} %"

    def note(self, place: int, classes: Sequence[str]) -> str:
        """What the teacher before predicted, where that was another class."""
        before = self.before[place]
        return "" if before == self.labels[place] else f"The teacher before it: {classes[before]}"


def unlabeled_galleries(
    unlabeled: Path,
    predictions: Sequence[Path],
    pseudo_labels: Path,
    classes: Sequence[str],
    map_items: MapItems | None = None,
) -> list[Gallery]:
    """The galleries of unlabelled images that hold any.

    predictions: folders, of each generation's teacher; pseudo_labels: the last selection of them;
    map_items: who looks through the shards, else threads here.
    """
    if not read_derived(pseudo_labels, unlabeled).rows:
        return []
    parts = best_of_shards(predictions, pseudo_labels, map_items)
    known = Unlabeled(*narrowed(parts, _in_galleries))
    rows = known.rows.tolist()
    images = images_of(unlabeled, rows, read_some_predictions(predictions[-1], rows, TASK), classes)

    def shown(key: str, place: int) -> ShownImage:
        caption, note = known.caption(key, place, classes), known.note(place, classes)
        return replace(images[rows[place]], caption=caption, note=note)

    return [
        Gallery(key, *TITLES[key], tuple(shown(key, place) for place in part))
        for key, part in known.galleries().items()
        if part
    ]


def issue_gallery(
    labeled: Path,
    issues: Sequence[LabelIssue],
    predictions: Mapping[str, Path],
    weights: Mapping[str, float],
    classes: Sequence[str],
) -> list[Gallery]:
    """The gallery of labelled images that the models contradict; none where there are none.

    predictions: folders of each model's predictions of the labelled images; weights: the models
    that count.
    """
    rows = find_rows(labeled, [issue.id for issue in issues[:MOST_SHOWN]])
    issues = [issue for issue in issues[:MOST_SHOWN] if issue.id in rows]
    if not issues:
        return []
    order = [rows[issue.id] for issue in issues]
    members = {key: read_some_predictions(predictions[key], order, TASK) for key in weights}
    images = images_of(labeled, order, weighted_log_probs(members, weights), classes)
    shown = tuple(
        replace(image, caption=f"label {issue.label}, seen as {issue.ensemble}")
        for image, issue in zip(images.values(), issues, strict=True)
    )
    return [Gallery("issues", *TITLES["issues"], shown)]


def best_of_shards(
    predictions: Sequence[Path], pseudo_labels: Path, map_items: MapItems | None = None
) -> Iterator[Unlabeled]:
    """Of each shard the unlabelled images that a gallery may show."""
    selected, folders = read_manifest(pseudo_labels), [(f, read_manifest(f)) for f in predictions]
    first = np.cumsum([0, *(entry.rows for entry in selected.shards)])
    columns = ["label", "confidence", "reason"]

    def best(number: int) -> Unlabeled:
        table = read_entry(pseudo_labels, selected.shards[number], columns)
        members = [read_prediction_shard(*folder, number, TASK) for folder in folders]
        probabilities = [np.exp(member.values) for member in members]
        labels = table.column("label").to_numpy().astype(np.int64)
        strangers = members[-1].strangers
        known = Unlabeled(
            rows=first[number] + np.arange(len(labels)),
            labels=labels,
            confidences=table.column("confidence").to_numpy(),
            selected=np.array(table.column("reason").to_pylist()) == Reason.KEPT.text,
            strangers=np.zeros(len(labels), np.bool_) if strangers is None else strangers,
            before=probabilities[-2].argmax(axis=1) if len(members) > 1 else labels,
            doubts=doubt(probabilities),
            pairs=class_pairs(np.mean(probabilities, axis=0)),
        )
        return Unlabeled(*narrowed([known], _in_galleries))

    over = map_items or in_threads(min(os.cpu_count() or 1, MOST_THREADS))
    with progress("report: galleries", selected.rows) as advance:
        parts = over(best, range(len(selected.shards)))
        for entry, part in zip(selected.shards, parts, strict=True):
            yield part
            advance(entry.rows)


def _in_galleries(columns: Columns) -> Iterator[int]:
    return chain(*Unlabeled(*columns).galleries().values())


def surest_per_class(
    labels: NDArray[np.int64],
    confidences: NDArray[np.float32],
    among: NDArray[np.bool_],
    most: int,
) -> list[int]:
    """The surest of each class, then the second of each, until `most`; shown class by class."""
    rows = np.flatnonzero(among)
    rows = rows[np.lexsort((-confidences[rows], labels[rows]))]
    rank = np.arange(len(rows)) - np.searchsorted(labels[rows], labels[rows])
    first = np.lexsort((rows, -confidences[rows], rank))[:most]
    order: list[int] = rows[np.sort(first)].tolist()
    return order


def lowest(
    values: NDArray[np.float32], among: NDArray[np.bool_], most: int = MOST_SHOWN
) -> list[int]:
    """The `most` rows of the lowest values among those of a mask; of equals the earlier."""
    rows = np.flatnonzero(among)
    order: list[int] = rows[np.argsort(values[rows], kind="stable")[:most]].tolist()
    return order


def images_of(
    folder: Path, rows: Sequence[int], log_probs: NDArray[np.float32], classes: Sequence[str]
) -> dict[int, ShownImage]:
    """The images of these rows of a folder, without captions, by row; log_probs: theirs, (n, K)."""
    table = read_rows(folder, rows, ["id", "image"])
    columns = zip(
        table["id"].to_pylist(), table["image"].to_pylist(), np.exp(log_probs), strict=True
    )
    return {
        row: ShownImage(name, thumbnail_uri(data), "", likeliest(probabilities, classes), "", data)
        for row, (name, data, probabilities) in zip(rows, columns, strict=True)
    }


def likeliest(probabilities: NDArray[np.float32], classes: Sequence[str]) -> Probabilities:
    """The first classes of one image, (K,) probabilities, likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:MOST_PROBABILITIES].tolist()
    return tuple((classes[place], float(probabilities[place])) for place in order)


def thumbnail_uri(data: bytes) -> str:
    """A stored image as a data URI of at most 4/3 × MOST_BYTES characters, and a few.

    What is small already stays as it is, to the pixel. Larger images are shrunk to SIDE and become
    JPEG, at the best of QUALITIES that fits.
    """
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    kind = image.format or "PNG"
    if max(image.size) > SIDE or len(data) > MOST_BYTES:
        kind = "JPEG"
        shrunk = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
        shrunk.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        data = best_jpeg(shrunk, MOST_BYTES, QUALITIES)
    return data_uri(data, kind)
