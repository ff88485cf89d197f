"""One file of every format that is read, as the stages, tools and people write them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.data.class_maps import palette_png
from pipeline.data.features import features_metadata, features_table
from pipeline.data.images import readable_formats
from pipeline.data.shards import (
    read_manifest,
    write_manifest,
    write_shard,
)
from pipeline.evaluate.label_issues import LabelIssue, write_label_issues
from pipeline.evaluate.recipe import Recipe, save_classifier
from pipeline.evaluate.result import ModelResult, evaluate, save_result
from pipeline.files import write_json
from pipeline.labels.predict import predict_folder
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.models.head import (
    BODY,
    CLASSIFIER,
    Folds,
    LinearHead,
    save_folds,
)
from pipeline.params import EvaluateParams
from pipeline.tasks import open_task
from pipeline.workflow.layout import Layout
from tests.bad_input.output_cases import RULES
from tests.data.answers.test_mask_answers import as_coco, exported
from tests.data.answers.test_mask_answers import source as scenes
from tests.data.helpers import encoded, noise, photo, run_prepare
from tests.report.example import example_report, predictions
from tests.report.pictures import ids_of
from tests.tiny import CLASSES, prepared_stripes, save_model, tiny_network
from tests.train.test_state import Run

TASK = open_task("classification")


def make(root: Path) -> None:
    """Write one of everything."""
    prepared = prepared_stripes(root / "prepared", count=40, labels=9, images_per_shard=64)
    unlabeled = prepared / "unlabeled"
    save_model(root / "models" / "0")
    save_model(root / "models" / "1", 1)
    models = {key: root / "models" / key for key in ("0", "1")}
    recipe = Recipe({"0": 0.5, "1": 0.5}, "five_crop", 1, 0, 1_000_000)
    save_classifier(root / "classifier", models, recipe)
    save_model(root / "head", body="0" * 64, notes={CLASSIFIER: "classifier"}, generation=BODY)
    head = LinearHead(np.zeros((3, 4), np.float32), np.zeros(3, np.float32))
    save_folds(root / "head", Folds((head, head), np.arange(9) % 2, np.zeros((9, 3), np.float32)))
    rows = read_manifest(unlabeled).rows
    table = features_table(ids_of(unlabeled), np.random.default_rng(0).normal(size=(rows, 8)))
    entry = write_shard(root / "features" / "shard_00000.parquet", table)
    write_manifest(root / "features", [entry], features_metadata(unlabeled, "0" * 64, 8))
    predict_folder(models["0"], unlabeled, root / "predictions" / "1", EvaluateParams(threads=1))
    audit = select_pseudo_labels(root / "predictions" / "1", root / "pseudo_labels" / "1", **RULES)
    Run(0, 1).save(root / "state", 1)
    torch.save(tiny_network().state_dict(), root / "weights.pth")
    torch.save(tiny_network().state_dict(), root / "old.pth", _use_new_zipfile_serialization=False)
    save_file(dict(tiny_network().state_dict()), root / "weights.safetensors")
    _make_tables(root / "tables")
    _make_masks(root / "masks")
    _make_report(root, asdict(audit))
    (root / "history.jsonl").write_text('{"step": 1, "values": {"loss": 0.5}}\n' * 3)
    (root / "params.yaml").write_bytes(Path("params.yaml").read_bytes())
    choices: dict[str, Any] = {
        "num_ops": 3,
        "magnitude": 10.0,
        "mode": None,
        "searched": True,
        "trials": [],
    }
    write_json(root / "choices.json", choices)
    (root / "images").mkdir()
    for name in readable_formats():
        _make_image(root / "images" / name.lower(), name)


def _make_tables(root: Path) -> None:
    rows = [(f"{label}/{n}.png", label, "train") for label in ("cat", "dog") for n in range(6)]
    for place, (name, _, _) in enumerate(rows):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(place)))
    for name, separator, encoding in (
        ("labels.csv", ",", "utf-8"),
        ("labels.tsv", "\t", "utf-16"),
        ("labels.txt", " ", "cp1252"),
    ):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\r\n")
        writer.writerows([("path", "label", "split"), *rows])
        (root / name).write_bytes(text.getvalue().encode(encoding))
    images = [(root / name).read_bytes() for name, _, _ in rows]
    ids, labels = [name for name, _, _ in rows], [n % 2 for n in range(12)]
    table = pa.table({"id": ids, "image": images, "label": labels})
    table = table.replace_schema_metadata({"classes": '["cat", "dog"]'})
    pq.write_table(table, root / "named.parquet", row_group_size=4)
    structs = pa.array([{"bytes": image, "path": "x.png"} for image in images])
    names = pa.array([name for _, name, _ in rows]).dictionary_encode()
    splits = ["train", "test", "train"] * 4
    hub = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = pa.table({"image": structs, "label": names, "split": splits, "group": ids})
    table = table.replace_schema_metadata({"huggingface": json.dumps(hub)})
    pq.write_table(table, root / "hub.parquet")
    (root / "corrections.csv").write_text('id,label\nimage_1,left\n"image_2",\nimage_3,right\n')
    answer = {"result": [{"value": {"choices": ["left"]}}], "updated_at": "2020"}
    task = {"data": {"image_id": "image_1"}, "annotations": [answer]}
    write_json(root / "label_studio.json", [task, task])
    write_json(root / "labels.json", {"classes": list(CLASSES), "labels": {}})


def _make_masks(root: Path) -> None:
    """Prepared scenes, what a person gives back of some, and images and masks in folders."""
    run_prepare(scenes(), root / "prepared", task=open_task("segmentation"))
    exported(root)
    as_coco(root)
    for part in ("images", "masks"):
        (root / "folder" / part).mkdir(parents=True)
    for number in range(3):
        (root / "folder" / "images" / f"{number}.png").write_bytes(encoded(noise(number, 8, 3)))
        (root / "folder" / "masks" / f"{number}.png").write_bytes(
            palette_png(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3, 3)
        )
    (root / "folder" / "classes.txt").write_text("sky\n1 tree\n2 road\n128 64 0 sea\n255 void\n")


def _make_report(root: Path, audit: dict[str, Any]) -> None:
    """What gather_report reads of one student beside models, predictions and pseudo-labels."""
    layout = Layout(root)
    log_probs, labels = predictions(3, 4.0, images=read_manifest(layout.prepared / "test").rows)
    figures = evaluate(TASK, log_probs, labels, 3)
    example = example_report(CLASSES, skills=(4.0, 5.0)).generations[1]
    result = ModelResult(figures, figures, figures, log_probs, labels, log_probs, labels)
    save_result(layout.evaluation("0"), result, TASK)
    student = replace(result, against_teacher=example.against_teacher)
    save_result(layout.evaluation("1"), student, TASK)
    for key in ("0", "1"):
        layout.curves(key).mkdir(parents=True)
        (layout.curves(key) / "loss.csv").write_text(
            "step,loss,loss_labeled,loss_pseudo\n1,1,1,1\n2,1,1,1\n"
        )
        (layout.curves(key) / "validation.csv").write_text("step,val/accuracy\n1,0.5\n2,0.6\n")
        counts = {"images": 60, "accuracy": 0.5, "teacher_accuracy": 0.4, "gained": 9, "lost": 3}
        write_json(layout.metrics("guard", key), counts)
    params = EvaluateParams(threads=1)
    labeled = layout.prepared / "labeled"
    predict_folder(layout.model("1"), labeled, layout.labeled_predictions("1"), params)
    write_json(layout.audit("1"), audit | {"findings": ["a finding"]})
    write_json(
        layout.ensemble,
        {
            "champion": "1",
            "champion_reason": "best",
            "weights": {"1": 1.0},
            "test": figures.to_json(TASK),
        },
    )
    issues = [LabelIssue(name, "left", "right", 0.1, 0.8, 0.7) for name in ids_of(labeled)[:3]]
    write_label_issues(layout.label_issues, issues)
    write_json(layout.metrics("search"), {"folds/images": 9, "folds/head": 5, "folds/network": 6})
    write_json(layout.metrics("prepare"), {"seen": 40, "labeled": 9, "unlabeled": 20})
    baseline = {"name": "LabelSpreading", "accuracy": 0.9, "low": 0.8, "high": 0.95, "note": ""}
    write_json(layout.metrics("baseline"), baseline)


def _make_image(path: Path, name: str) -> None:
    image: Any = photo(24, 20)
    options: dict[str, Any] = {}
    if name == "MSP":
        image = image.convert("1")
    elif name in ("SGI", "QOI", "ICNS", "XBM"):
        image = image.convert({"XBM": "1"}.get(name, "RGB"))
    if name in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"save_all": True, "append_images": [image.rotate(90)]}
    if name in ("JPEG", "PNG", "TIFF", "WEBP"):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "maker"
        options["exif"] = exif
    if name == "TIFF":
        options["compression"] = "tiff_adobe_deflate"
    try:
        path.write_bytes(encoded(image, name, **options))
    except (KeyError, OSError):  # Pillow reads it and does not write it
        path.write_bytes(BY_HAND[name])


BY_HAND = {
    "PSD": b"8BPS\0\1"
    + b"\0" * 6
    + b"\0\3"
    + b"\0\0\0\2\0\0\0\2"
    + b"\0\x08\0\3"
    + b"\0" * 14
    + b"\x7f" * 12,
    "SUN": bytes.fromhex("59a66a95 00000002 00000002 00000018 0000000c 00000001 00000000 00000000")
    + b"\x7f" * 12,
    "QOI": b"qoif\0\0\0\2\0\0\0\2\3\0" + b"\xfe\x10\x20\x30" * 4 + b"\0" * 7 + b"\1",
}
