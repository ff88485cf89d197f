"""Ask for the images most worth a label, by what has been trained so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.data.preparation.corrections import NONE_OF_THEM, task_corrections
from pipeline.data.rows import find_rows
from pipeline.data.shards import MANIFEST, read_manifest
from pipeline.data.tensors import Dataset, read_dataset
from pipeline.errors import DataError, ParameterError
from pipeline.evaluate.champion import model_words
from pipeline.evaluate.result import RESULT_FILE, load_result, weakest_classes
from pipeline.labels.pool import Embed, network_features, pixel_features
from pipeline.labels.queue import (
    Query,
    Strategy,
    choose_strategy,
    doubtful_queue,
    same_images,
    typical_queue,
)
from pipeline.models.checkpoint import load_checkpoint, network_of
from pipeline.models.passes import resolve_device
from pipeline.models.spec import ModelSpec
from pipeline.params import Params
from pipeline.progress import say
from pipeline.tasks import open_task
from pipeline.train.inputs import model_spec
from pipeline.train.run import started
from pipeline.train.transfer import find_source, read_source
from pipeline.workflow.layout import Layout
from pipeline.workflow.shipping import shipped

CORRECTIONS = "corrections.csv"


@dataclass(frozen=True)
class Picked:
    """The images to label, in order, and how they were chosen.

    by: in words; predictions: what the latest teacher thinks of them, and generation, whose
    teacher that is; None before any.
    """

    strategy: Strategy
    by: str
    queries: list[Query]
    predictions: Path | None
    generation: str | None


def pick_images(
    layout: Layout, params: Params, *, count: int, strategy: str = "auto", features: str = "auto"
) -> Picked:
    """The `count` unlabelled images most worth a label that corrections.csv does not name yet.

    strategy: auto, typical or doubtful; features: as feature_maker takes it. Raises ParameterError
    where the strategy needs a teacher, and DataError where `prepared` is not there.
    """
    dataset = read_dataset(layout.prepared)
    unlabeled, labeled = layout.prepared / "unlabeled", layout.prepared / "labeled"
    corrections = layout.root / CORRECTIONS
    answers, task = dict[str, Any](), open_task(params.task)
    if corrections.exists():
        answers = task_corrections(corrections, task, dataset.classes)
    teachers = _teachers_so_far(layout, params, len(dataset.classes))
    if strategy == "auto":
        labeled_ids = [name for name, label in answers.items() if label != NONE_OF_THEM]
        num_labels = read_manifest(labeled).rows + len(find_rows(unlabeled, labeled_ids))
        strategy = choose_strategy(
            num_labels=num_labels,
            num_classes=len(dataset.classes),
            taught=bool(teachers),
            image_classes=task.image_classes,
        )
    generation, predictions = list(teachers.items())[-1] if teachers else (None, None)
    if strategy == "doubtful":
        if not teachers:
            raise ParameterError(
                "--by doubtful: no teacher has seen these images yet; selftrain run, or give "
                "--by typical"
            )
        queries = doubtful_queue(
            unlabeled,
            list(teachers.values()),
            dataset.classes,
            count=count,
            answered=answers,
            task=task,
        )
        by = f"by the teachers of generation {' and '.join(teachers)}"
        return Picked("doubtful", by, queries, predictions, generation)
    name, embed = feature_maker(layout, params, dataset, features)
    queries = typical_queue(
        unlabeled, labeled, embed, count=count, answered=answers, seed=params.seed
    )
    return Picked("typical", f"by the features of {name}", queries, predictions, generation)


def weakest_words(layout: Layout, params: Params) -> str:
    """The weakest classes as the report names them; nothing before there is a champion."""
    if not layout.ensemble.exists():
        return ""
    ((champion, _),) = shipped(layout, params, "champion")[0].items()
    folder, classes = layout.evaluation(champion), layout.classes
    if not (folder / RESULT_FILE).exists():
        return ""
    task = open_task(params.task)
    test = load_result(folder, task).test
    if len(test.per_class) != len(classes):  # the evaluation is of other images
        return ""
    return weakest_classes(classes, test, task)


def _teachers_so_far(layout: Layout, params: Params, num_classes: int) -> dict[str, Path]:
    """The folders of predictions of the images there are now, by the generation they taught."""
    folders = {key: layout.predictions(key) for key in params.generations}
    finished = {key: path for key, path in folders.items() if (path / MANIFEST).exists()}
    unlabeled = layout.prepared / "unlabeled"
    usable = {
        key: path
        for key, path in finished.items()
        if read_manifest(path).metadata.get("num_classes") == num_classes
        and same_images(unlabeled, path)
    }
    if len(usable) < len(finished):
        say("pick: the teachers have not seen these images and classes; selftrain run shows them")
    return usable


def feature_maker(
    layout: Layout, params: Params, dataset: Dataset, which: str
) -> tuple[str, Embed]:
    """What makes features of images, and its name; which: auto, champion, pretrained or pixels.

    auto: the champion if there is one, else the weights that transfer.source names, else pixels;
    these alone where images have no one class.
    Raises ParameterError or DataError where there is not what `which` asks for.
    """
    source = params.training("0").transfer.source
    if not open_task(params.task).image_classes:
        if which in ("champion", "pretrained"):
            raise ParameterError(
                f"--features {which}: task = {params.task} has no features of whole images; give "
                "pixels"
            )
        return "the pixels", pixel_features
    if which == "champion" or (which == "auto" and layout.ensemble.exists()):
        name, network, spec = _champion(layout, params, dataset)
    elif which == "pretrained" or (which == "auto" and source is not None):
        name, network, spec = _pretrained(layout, params, dataset)
    else:
        return "the pixels", pixel_features
    embed = network_features(
        network,
        mean=spec.mean,
        std=spec.std,
        batch_size=params.predict.batch_size,
        device=resolve_device(params.predict.device).type,
    )
    return name, embed


def _champion(layout: Layout, params: Params, dataset: Dataset) -> tuple[str, nn.Module, ModelSpec]:
    """The champion, if it was trained on images of this form."""
    ((key, folder),) = shipped(layout, params, "champion")[0].items()
    checkpoint = load_checkpoint(folder)
    spec = checkpoint.spec
    if (spec.image_size, spec.channels) != (dataset.image_size, dataset.channels):
        raise DataError(
            f"{folder}: trained on other images than {layout.prepared} holds; selftrain run, or "
            "give --features pixels"
        )
    return f"{model_words(key)}, the champion", checkpoint.network, spec


def _pretrained(
    layout: Layout, params: Params, dataset: Dataset
) -> tuple[str, nn.Module, ModelSpec]:
    """Generation 0's network as it starts, with the weights of transfer.source."""
    training = params.training("0")
    transfer = training.transfer
    source = find_source(transfer.source, sha256=transfer.sha256, root=layout.root, teacher=None)
    if source is None:
        raise ParameterError(
            "--features pretrained: transfer.source = null; name weights there, or give pixels"
        )
    spec = model_spec(dataset, training.model.network, generation="0")
    network = network_of(spec, params.seed)
    weights = read_source(source.name, source.path, training.model.name)
    spec = started(network, spec, weights, transfer)
    return f"the weights of {source.name}", network.eval(), spec
