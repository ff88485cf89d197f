"""What the stages wrote, cut or altered since; the names are the rows of docs/errors.md."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import load_file, save_file

from pipeline.data.distributions import Distributions, distribution_columns
from pipeline.data.predictions import predictions_table, pseudo_labels_table
from pipeline.data.shards import MANIFEST, iter_shards, read_manifest, write_manifest, write_shard
from pipeline.evaluate.classifier import classify_encoded, load_classifier
from pipeline.evaluate.recipe import RECIPE, Recipe, save_classifier
from pipeline.evaluate.result import load_result
from pipeline.labels.predict import predict_folder
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.spec import SPEC, WEIGHTS
from pipeline.models.tensor_files import write_model
from pipeline.params import EvaluateParams, SelectParams, parse_params
from pipeline.tasks import open_task
from pipeline.tasks.classification import TASK
from pipeline.train.inputs import training_data
from pipeline.train.run import TrainJob, train_model
from pipeline.train.state import STATE
from pipeline.train.worker import Worker
from pipeline.workflow.layout import Layout
from tests.bad_input.outcome import Case, Outcome, stops
from tests.data.helpers import encoded, noise
from tests.tiny import CLASSES, prepared_stripes, save_model, tiny_network

RULES: dict[str, Any] = {
    "params": SelectParams(max_repeats=2),
    "classes": CLASSES,
    "labeled": Path("nowhere"),
    "truth": Truth.of({}, 8),
    "task": TASK,
}


def shard(change: Callable[[Path], object]) -> Case:
    """A case of prepared images whose first shard is changed."""

    def case(root: Path) -> Outcome:
        prepared_stripes(root)
        change(root / "unlabeled" / "shard_00000.parquet")
        return stops(lambda: list(iter_shards(root / "unlabeled")))

    return case


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def manifest(change: Callable[[str], str]) -> Case:
    """A case of a manifest with another text."""

    def case(root: Path) -> Outcome:
        path = prepared_stripes(root) / "unlabeled" / MANIFEST
        path.write_text(change(path.read_text()))
        return stops(lambda: read_manifest(root / "unlabeled"))

    return case


def no_manifest(root: Path) -> Outcome:
    (prepared_stripes(root) / "unlabeled" / MANIFEST).unlink()
    return stops(lambda: read_manifest(root / "unlabeled"))


def dataset_cut(root: Path) -> Outcome:
    cut(prepared_stripes(root / "prepared") / "dataset.json")
    return stops(lambda: Layout(root).classes)


def label_outside(root: Path) -> Outcome:
    prepared = prepared_stripes(root)
    path = prepared / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["left", "middle"]}))
    return stops(lambda: training_data(prepared, None, threads=1, cache_gib=1))


def model(change: Callable[[Path], object]) -> Case:
    """A case of a model folder that is changed."""

    def case(root: Path) -> Outcome:
        save_model(root / "model")
        change(root / "model")
        return stops(lambda: load_checkpoint(root / "model"))

    return case


def other_weights(folder: Path) -> None:
    save_model(folder.parent / "other", network={"name": "resnet_small", "width": 6})
    os.replace(folder.parent / "other" / WEIGHTS, folder / WEIGHTS)


def spec(**changes: Any) -> Case:
    """A case of a model.json with other values."""

    def change(folder: Path) -> None:
        value = json.loads((folder / SPEC).read_text())
        (folder / SPEC).write_text(json.dumps(value | changes))

    return model(change)


def weights(change: Callable[[dict[str, Any]], object]) -> Case:
    """A case of a model whose weights are changed."""

    def case(root: Path) -> Outcome:
        described = save_model(root / "model")
        state = load_file(root / "model" / WEIGHTS)
        change(state)
        write_model(root / "model", described, partial(save_file, state))
        image = encoded(noise(1))
        return stops(lambda: classify_encoded(load_classifier(root / "model"), [image]))

    return case


def not_finite(state: dict[str, Any]) -> None:
    state["classifier.weight"][0, 0] = np.nan


def negative_variance(state: dict[str, Any]) -> None:
    state["stem.1.running_var"][0] = -1.0


def too_large(state: dict[str, Any]) -> None:
    for name in state:
        if name.endswith("weight"):
            state[name][...] = 1e38


def classifier(**changes: Any) -> Case:
    """A case of a classifier.json with other values."""

    def case(root: Path) -> Outcome:
        save_model(root / "0")
        save_classifier(root / "out", {"0": root / "0"}, Recipe({"0": 1.0}))
        path = root / "out" / RECIPE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return stops(lambda: load_classifier(root / "out"))

    return case


def linked_weights(root: Path) -> Outcome:
    save_model(root / "0")
    os.replace(root / "0" / WEIGHTS, root / "elsewhere")
    (root / "0" / WEIGHTS).symlink_to(root / "elsewhere")
    models, recipe = {"0": root / "0"}, Recipe({"0": 1.0})
    return stops(lambda: save_classifier(root / "out", models, recipe))


def predictions(change: Callable[[Any], Any], **metadata: Any) -> Case:
    """A case of predictions of 6 images with other log-probabilities (6, 3)."""

    def case(root: Path) -> Outcome:
        values = np.log(np.full((6, 3), 1 / 3, np.float32))
        table = predictions_table(
            [f"i{n}" for n in range(6)], 0, TASK.prediction_columns(change(values))
        )
        entry = write_shard(root / "p" / "shard_00000.parquet", table)
        write_manifest(root / "p", [entry], {"num_classes": 3} | metadata)
        return stops(lambda: select_pseudo_labels(root / "p", root / "out", **RULES))

    return case


def not_a_number(values: Any) -> Any:
    values[4, 1] = np.nan
    return values


def of_other_images(root: Path) -> Outcome:
    prepared = prepared_stripes(root / "prepared")
    save_model(root / "model")
    predict_folder(root / "model", prepared / "unlabeled", root / "p", EvaluateParams(threads=1))
    seen = next(iter_shards(root / "p"))
    count = seen.num_rows
    table = pseudo_labels_table(
        seen,
        np.zeros(count, np.int32),
        np.ones(count, np.float32),
        np.ones(count, np.int32),
        pa.array(["kept"] * count, pa.string()),
        distribution_columns(
            Distributions(3, np.full((count, 3), 1 / 3, np.float32)), "probabilities"
        ),
    ).set_column(2, "row", [np.arange(count, dtype=np.int32) + 1000])
    entry = write_shard(root / "chosen" / "shard_00000.parquet", table)
    write_manifest(root / "chosen", [entry], {"num_classes": 3, "label_kind": "soft"})
    return stops(lambda: training_data(prepared, root / "chosen", threads=1, cache_gib=1))


def training(root: Path, **train: Any) -> TrainJob:
    """A job on ten labelled images at most."""
    values = {"steps": 2, "batch_size": 64, "learning_rate": 0.01, "threads": 1, "device": "cpu"}
    params = parse_params(
        {
            "data": {"source": "digits", "image_size": 8},
            "model": {"width": 4},
            "augment": {"shift": 0.0, "num_ops": 0},
            "train": values | train,
        }
    )
    return TrainJob(
        prepared=root / "prepared",
        pseudo_labels=None,
        model=root / "model",
        state=root / "state",
        generation="0",
        teacher=None,
        seed=0,
        training=params.training("0"),
    )


def fewer_than_a_batch(root: Path) -> Outcome:
    prepared_stripes(root / "prepared", count=40, labels=9)
    job = training(root)
    ended = stops(lambda: train_model(job, Worker(), lambda step, values: None))
    assert load_checkpoint(job.model).spec.classes == list(CLASSES)
    return ended


def state_cut(root: Path) -> Outcome:
    prepared_stripes(root / "prepared", count=40, labels=9)
    job = training(root)
    job.state.mkdir()
    (job.state / STATE).write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return stops(lambda: train_model(job, Worker(), lambda step, values: None))


def evaluation_cut(root: Path) -> Outcome:
    (root / "result.json").write_text('{"test": {')
    return stops(lambda: load_result(root, open_task("classification")))


OUTPUT_CASES: dict[str, Case] = {
    "a shard that was cut": shard(cut),
    "a shard with a flipped bit": shard(flip),
    "a shard that is gone": shard(Path.unlink),
    "a pipe in a shard's place": shard(pipe),
    "no manifest": no_manifest,
    "a manifest that was cut": manifest(lambda text: text[:-9]),
    "a manifest that names a path outside its folder": manifest(
        lambda text: text.replace("shard_00000.parquet", "../shard_00000.parquet")
    ),
    "dataset.json cut": dataset_cut,
    "labels that are not among the classes of now": label_outside,
    "a model's weights cut": model(lambda folder: cut(folder / WEIGHTS)),
    "a model's weights with a flipped bit": model(lambda folder: flip(folder / WEIGHTS)),
    "a pickle in place of weights": model(
        lambda folder: torch.save(tiny_network().state_dict(), folder / WEIGHTS)
    ),
    "weights of another network": model(other_weights),
    "a model.json with a wrong value": spec(image_size="8"),
    "a model.json of a far larger network": spec(network={"name": "wrn_994_99"}),
    "a temperature that is none": spec(temperature=1e-320),
    "weights that are not finite": weights(not_finite),
    "a negative variance": weights(negative_variance),
    "weights too large to compute with": weights(too_large),
    "a classifier.json that names a path": classifier(weights={"a/../../../evil": 1.0}),
    "a classifier.json with a wrong value": classifier(jitter_views=10**8),
    "a model whose file is a link to elsewhere": linked_weights,
    "predictions that are not numbers": predictions(not_a_number),
    "predictions of other classes": predictions(lambda values: values[:, :2], num_classes=2),
    "predictions of another shape": predictions(lambda values: values[:, :2]),
    "pseudo-labels of other images": of_other_images,
    "fewer labelled images than a batch": fewer_than_a_batch,
    "a training state that was cut": state_cut,
    "an evaluation that was cut": evaluation_cut,
}
