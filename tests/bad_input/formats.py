"""One file of every format that is read, and what reads it; fuzzing and other tests go by it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline.data.answers.choices import read_answers
from pipeline.data.answers.mask_answers import read_mask_answers
from pipeline.data.decoding import decode_images
from pipeline.data.features import load_features
from pipeline.data.images import readable_formats
from pipeline.data.predictions import read_predictions, read_pseudo_labels
from pipeline.data.preparation.corrections import class_reader, read_corrections
from pipeline.data.preparation.inspection import inspect_source
from pipeline.data.shards import (
    MANIFEST,
    ShardEntry,
    read_manifest,
    write_manifest,
)
from pipeline.data.sources import open_source
from pipeline.data.sources.loose import LooseImages
from pipeline.data.sources.recognise import recognise
from pipeline.data.tensors import load_images, read_dataset
from pipeline.data.trees.local import read_image
from pipeline.errors import DataError
from pipeline.evaluate.classifier import classify_encoded, load_classifier
from pipeline.evaluate.recipe import RECIPE
from pipeline.files import file_digest
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.head import (
    FOLDS,
    read_folds,
    read_head,
)
from pipeline.models.pretrained import read_file
from pipeline.models.spec import SPEC, WEIGHTS
from pipeline.params import Params, load_params
from pipeline.params.augment import SearchParams
from pipeline.report import page
from pipeline.report.gather import as_written, gather_report
from pipeline.report.summary import render_note, render_table
from pipeline.self_training.choices import with_choices
from pipeline.tasks import open_task
from pipeline.train.history import read_history
from pipeline.train.state import STATE
from pipeline.workflow.layout import Layout
from pipeline.workflow.shipping import shipped
from tests.bad_input.samples import make
from tests.data.answers.test_mask_answers import CLASSES as SCENES
from tests.data.helpers import CLASSIFICATION, encoded, noise
from tests.tiny import CLASSES, TASK
from tests.train.test_state import Run

WEIGHT_FILES = {"weights.pth": "bytes", "old.pth": "bytes", "weights.safetensors": "safetensors"}
IMAGE_OPTIONS: dict[str, Any] = {"max_pixels": 64_000_000, "image_size": 16, "channels": 3}


@dataclass(frozen=True)
class Format:
    """A file, how it is mutated, and what reads it; after: what is done once it was changed."""

    path: Path
    kind: str
    read: Callable[[], object]
    after: Callable[[], object] = lambda: None


def formats(root: Path) -> dict[str, Format]:
    """All of them by name, under `root`: an empty folder, or one that this has filled before."""
    if not (root / "made").exists():
        make(root)
        (root / "made").touch()
    return {
        **_models(root),
        **_shards(root),
        **_tables(root),
        **_masks(root / "masks"),
        **_reports(root),
        **_images(root),
    }


def _models(root: Path) -> dict[str, Format]:
    model, classifier, head = root / "models" / "0", root / "classifier", root / "head"

    def weights(name: str, kind: str) -> Format:
        return Format(root / name, kind, lambda: read_file(root / name, "resnet_small"))

    def classify() -> object:
        return classify_encoded(load_classifier(classifier), [encoded(noise(0))])

    return {
        "model.json": Format(model / SPEC, "json", lambda: load_checkpoint(model)),
        "model.safetensors": Format(model / WEIGHTS, "safetensors", lambda: load_checkpoint(model)),
        "classifier.json": Format(classifier / RECIPE, "json", classify),
        "a head": Format(head / WEIGHTS, "safetensors", lambda: read_head(head)),
        "folds of a head": Format(head / FOLDS, "safetensors", lambda: read_folds(head)),
        "a training state": Format(
            root / "state" / STATE, "safetensors", lambda: Run(1, 1).load(root / "state")
        ),
        **{f"weights {name}": weights(name, kind) for name, kind in WEIGHT_FILES.items()},
    }


def _shards(root: Path) -> dict[str, Format]:
    prepared = root / "prepared"
    unlabeled, features = prepared / "unlabeled", root / "features"
    predicted, taught = root / "predictions" / "1", root / "pseudo_labels" / "1"
    shard = "shard_00000.parquet"

    def with_digest(folder: Path) -> Callable[[], object]:
        """The manifest made to agree with the changed shard."""
        manifest = read_manifest(folder)
        rows, metadata = manifest.shards[0].rows, manifest.metadata
        return lambda: write_manifest(
            folder, [ShardEntry(shard, rows, file_digest(folder / shard))], metadata
        )

    readers: dict[str, tuple[Path, Callable[[], object]]] = {
        "images": (unlabeled, lambda: load_images(unlabeled, threads=1)),
        "features": (features, lambda: load_features(features, unlabeled)),
        "predictions": (predicted, lambda: list(read_predictions(predicted, TASK))),
        "pseudo-labels": (taught, lambda: read_pseudo_labels(taught, TASK)),
    }
    return {
        "dataset.json": Format(
            prepared / "dataset.json",
            "json",
            lambda: (read_dataset(prepared), Layout(root).classes, Layout(root).folds),
        ),
        **{
            f"manifest of {name}": Format(folder / MANIFEST, "json", read)
            for name, (folder, read) in readers.items()
        },
        **{
            f"shard of {name}": Format(folder / shard, "parquet", read, with_digest(folder))
            for name, (folder, read) in readers.items()
        },
    }


def _tables(root: Path) -> dict[str, Format]:
    tables, classes = root / "tables", list(CLASSES)

    def inspected(path: Path) -> Callable[[], object]:
        name = str(path)
        return lambda: inspect_source(open_source(recognise(name), name, seed=0), CLASSIFICATION)

    def answers(name: str) -> Callable[[], object]:
        return lambda: read_answers(tables / name, root / "prepared", classes)

    def loose() -> object:
        return list(LooseImages(str(tables / "hub.parquet")).rows())

    return {
        **{
            f"table {name}": Format(tables / name, kind, inspected(tables / name))
            for name, kind in (
                ("labels.csv", "bytes"),
                ("labels.tsv", "bytes"),
                ("labels.txt", "bytes"),
                ("named.parquet", "parquet"),
                ("hub.parquet", "parquet"),
            )
        },
        "Parquet to classify": Format(tables / "hub.parquet", "parquet", loose),
        "corrections.csv": Format(
            tables / "corrections.csv",
            "bytes",
            lambda: read_corrections(tables / "corrections.csv", class_reader(classes)),
        ),
        "Label Studio's answers": Format(
            tables / "label_studio.json", "json", answers("label_studio.json")
        ),
        "FiftyOne's answers": Format(tables / "labels.json", "json", answers("labels.json")),
        "params.yaml": Format(
            root / "params.yaml", "yaml", lambda: load_params(root / "params.yaml")
        ),
    }


def _masks(root: Path) -> dict[str, Format]:
    task, folder, coco = open_task("segmentation"), root / "folder", root / "coco"

    def answers(path: Path) -> Callable[[], object]:
        return lambda: read_mask_answers(path, root / "prepared", SCENES, root / "answers")

    def inspected(name: str, path: Path) -> Callable[[], object]:
        return lambda: inspect_source(
            open_source(name, str(path), seed=0, task="segmentation"), task
        )

    studio, annotations = root / "export.json", coco / "annotations.json"
    return {
        "Label Studio's masks": Format(studio, "json", answers(studio)),
        "COCO's masks": Format(annotations, "json", answers(annotations)),
        "COCO to learn from": Format(annotations, "json", inspected("coco", annotations)),
        "classes.txt": Format(folder / "classes.txt", "bytes", inspected("masks", folder)),
        "mask of an image": Format(folder / "masks" / "1.png", "bytes", inspected("masks", folder)),
    }


def report_params(**changes: Any) -> Params:
    """Those of a run of one student."""
    params = load_params()
    one = {"generations": {"1": params.generations["1"]}, "controls": {}}
    seedless = params.ensemble.model_copy(update={"seeds": {}})
    return params.model_copy(update={**one, "ensemble": seedless, **changes})


def _reports(root: Path) -> dict[str, Format]:
    layout, params = Layout(root), report_params()
    search = SearchParams(num_ops=(3,), magnitude=(10.0,))
    searched = report_params(augment=params.augment.model_copy(update={"search": search}))

    def shown() -> object:
        with as_written(root):
            data = gather_report(layout, params)
            drawn = zlib.crc32(ascii(data).encode()) % 16 == 0  # as they take most of the time
            figures = page.page_figures if drawn else lambda _: {}
            with mock.patch.object(page, "page_figures", figures):
                return page.render_report(data), render_table(data), render_note(data)

    evaluation = layout.evaluation("1")
    files = {
        "ensemble.json": (layout.ensemble, "json"),
        "result.json": (evaluation / "result.json", "json"),
        "predictions .npy": (evaluation / "test_predictions.npy", "bytes"),
        "targets .npy": (evaluation / "test_targets.npy", "bytes"),
        "an audit": (layout.audit("1"), "json"),
        "label_issues.csv": (layout.label_issues, "bytes"),
        "metrics of search": (layout.metrics("search"), "json"),
        "metrics of prepare": (layout.metrics("prepare"), "json"),
        "metrics of baseline": (layout.metrics("baseline"), "json"),
        "metrics of guard": (layout.metrics("guard", "1"), "json"),
        "loss.csv": (layout.curves("1") / "loss.csv", "bytes"),
        "quarantine.parquet": (layout.quarantine, "parquet"),
        "dataset.json in the report": (layout.prepared / "dataset.json", "json"),
    }
    return {
        **{name: Format(path, kind, shown) for name, (path, kind) in files.items()},
        "ensemble.json to ship": Format(layout.ensemble, "json", lambda: shipped(layout, params)),
        "choices.json": Format(
            layout.choices, "json", lambda: with_choices(searched, layout.choices)
        ),
        "history.jsonl": Format(
            root / "history.jsonl", "bytes", lambda: read_history(root / "history.jsonl")
        ),
    }


def _images(root: Path) -> dict[str, Format]:
    def stored(path: Path) -> Callable[[], object]:
        def read() -> object:
            data, problem = read_image(path)
            answer = problem or decode_images([data], **IMAGE_OPTIONS)[0]
            if isinstance(answer, str):
                raise DataError(answer)  # what goes into quarantine
            return answer

        return read

    folder = root / "images"
    return {
        f"{name} image": Format(folder / name.lower(), "bytes", stored(folder / name.lower()))
        for name in readable_formats()
    }
