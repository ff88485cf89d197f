"""Images a second of training with masks and of predicting maps, against bare loops; memory for
ten times the images.

python -m benchmarks.segmentation [--rounds 3] [--network unet/tf_efficientnet_lite0]

Generated scenes of 11 classes, one thread, float32. Training has 8 masks and 8 maps of 96×96 a
step, augmented and mixed as in presets/masks_photographs.yaml; its bare loop has random tensors
that lie ready, and passes, loss and optimizer. Prediction is of 240×240; its bare loop reads
shards, decodes, runs passes of the same kind, and takes the softmax and the likeliest class of each
pixel. Seconds are the process's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmarks.memory.measure import own_peak, peak_of
from benchmarks.runs import Row, arguments, compare, keep
from pipeline.data.class_maps import pack_maps
from pipeline.data.encoding import encode_png
from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.shards import read_manifest
from pipeline.data.tensors import decode_images
from pipeline.evaluate.checkpoints import checkpoint_passes
from pipeline.labels.predict import ShardPredictor
from pipeline.models.build import build_network
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.passes import laid_out, run_pass
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, ModelParams, PredictParams, TrainParams, ViewParams
from pipeline.tasks.segmentation import TASK
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData

SIDE, VIEW, CLASSES, BATCH, PASS = 240, 96, 11, 8, 8
SMALL, SMALL_SIDE, MEMORY_ROWS = "unet_small", 64, 32
MEAN, STD = (0.5,) * 3, (0.25,) * 3
AUGMENT = AugmentParams(
    flip=True,
    crop="resized",
    crop_area=(0.09, 0.45),
    operations=("rotate", "scale", "brightness", "contrast", "saturation"),
    num_ops=2,
    mix="classmix",
)


def scenes(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, S, S) uint8 of noise over areas, and their masks (n, S, S) uint8."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, CLASSES, (count, 1, 8, 8), generator=draw).float()
    masks = nn.functional.interpolate(coarse, side)[:, 0].to(torch.uint8)
    noise = torch.randint(0, 60, (count, 3, side, side), generator=draw, dtype=torch.uint8)
    return noise + 15 * masks[:, None], masks


def training_rates(name: str, steps: int) -> tuple[Any, Any]:
    """What measures ours and the bare loop, images a second."""
    images, masks = scenes(2 * BATCH, VIEW)
    said = nn.functional.one_hot(masks.long(), CLASSES).movedim(-1, 1).float()
    maps = torch.from_numpy(pack_maps((5 * said).log_softmax(dim=1)))
    data = TrainingData(
        images,
        masks,
        MEAN,
        STD,
        unlabeled_images=images,
        unlabeled_rows=torch.arange(len(images)),
        unlabeled_targets=maps,
        num_classes=CLASSES,
        task=TASK,
    )
    train = TrainParams(steps=steps, batch_size=BATCH, unlabeled_ratio=1, threads=1)
    ready = torch.randn(2 * BATCH, 3, VIEW, VIEW).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (2 * BATCH, VIEW, VIEW))

    def network() -> nn.Module:
        made = build_network(name, num_classes=CLASSES, channels=3, image_size=VIEW, seed=0)
        return made.train().to(memory_format=torch.channels_last)

    def ours() -> float:
        made, begun = network(), time.process_time()
        fit(made, data, train=train, augment=AUGMENT, seed=0)
        return steps * 2 * BATCH / (time.process_time() - begun)

    def bare() -> float:
        made, begun = network(), time.process_time()
        optimizer = torch.optim.AdamW(made.parameters(), fused=True)
        for _ in range(steps):
            loss: Any = nn.functional.cross_entropy(made(ready), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return steps * 2 * BATCH / (time.process_time() - begun)

    return ours, bare


def make_model(folder: Path, name: str, side: int) -> None:
    """An untrained model of maps."""
    spec = ModelSpec(
        (ModelParams(name=name, width=4) if name == SMALL else ModelParams(name=name)).network,
        [f"class {number}" for number in range(CLASSES)],
        side,
        3,
        list(MEAN),
        list(STD),
        generation="0",
        task="segmentation",
    )
    save_checkpoint(folder, network_of(spec).state_dict(), spec)


def write_scenes(folder: Path, count: int, side: int, rows_per_shard: int) -> None:
    """A prepared folder of so many scenes without masks, each whole."""
    images, _ = scenes(min(count, 16), side)
    encoded = [encode_png(image.permute(1, 2, 0).numpy()) for image in images]

    def rows() -> Iterator[dict[str, object]]:
        for place in range(count):
            image = encoded[place % len(encoded)]
            yield {"id": f"image_{place}", "image": image, "width": side, "height": side}

    schema = pa.schema(
        [("id", pa.string()), ("image", pa.binary()), ("width", pa.int32()), ("height", pa.int32())]
    )
    shape = {"channels": 3, "image_size": side}
    write_shards(folder, rows(), schema, rows_per_shard=rows_per_shard, metadata=shape)


def predicted(model: Path, images: Path) -> float:
    """Images a second of the predictor over all shards but the first, with which it finds the size
    of its passes."""
    with tempfile.TemporaryDirectory(prefix="segmentation-") as name:
        params = PredictParams(views="centre", batch_size=PASS, device="cpu", precision="float32")
        predictor = ShardPredictor((model,), images, Path(name), params, seed=0)
        predictor(0)
        begun = time.process_time()
        rows = sum(predictor(number) for number in range(1, len(predictor.manifest.shards)))
        return rows / (time.process_time() - begun)


def bare_predictions(model: Path, images: Path) -> float:
    """The same of reading, decoding, passes of that size, softmax and the likeliest class."""
    checkpoint, views = load_checkpoint(model), ViewParams(views="centre", batch_size=PASS)
    entries = read_manifest(images).shards
    passes = checkpoint_passes(checkpoint, entries[0].rows, views, precision="float32")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    done, begun = 0, time.process_time()
    with laid_out(checkpoint.network, passes), torch.inference_mode():
        for entry in entries:
            file = images / entry.file
            data = pq.read_table(file, columns=["image"], use_threads=False).column("image")
            pixels = decode_images(data.to_pylist(), (3, SIDE, SIDE), file)
            for batch in torch.split(pixels, passes.images or PASS):
                scores = run_pass(checkpoint.network, (batch.float() / 255 - mean) / std, passes)
                scores.log_softmax(dim=1).max(dim=1)
            done += len(data)
    return done / (time.process_time() - begun)


def peak_memory(folder: Path, shards: int) -> float:
    """MiB that a process of its own takes at most to predict so many small shards."""
    images = folder / f"{shards}_shards"
    write_scenes(images, shards * MEMORY_ROWS, SMALL_SIDE, MEMORY_ROWS)
    return peak_of("benchmarks.segmentation", folder / "small", images)


def measured(folder: Path, name: str, *, rounds: int, steps: int, images: int) -> list[Row]:
    """The comparisons."""
    ours, bare = training_rates(name, steps)
    trained = compare("training", "images/s", ours, bare, rounds=rounds, at_least=0.9)
    make_model(folder / "model", name, SIDE)
    write_scenes(folder / "images", images, SIDE, rows_per_shard=images // 4)
    asked = compare(
        "prediction",
        "images/s",
        lambda: predicted(folder / "model", folder / "images"),
        lambda: bare_predictions(folder / "model", folder / "images"),
        rounds=rounds,
        at_least=0.9,
    )
    make_model(folder / "small", SMALL, SMALL_SIDE)
    memory = compare(
        "peak memory of prediction, ten times the images",
        "MiB",
        lambda: peak_memory(folder, 40),
        lambda: peak_memory(folder, 4),
        rounds=1,
        at_most=1.1,
    )
    return [trained, asked, memory]


def main() -> None:
    """Measure and keep the table."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="unet/tf_efficientnet_lite0")
    parser.add_argument("--peak", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        predicted(*given.peak)
        print(own_peak())
        return
    with tempfile.TemporaryDirectory(prefix="segmentation-") as name:
        rows = measured(Path(name), given.network, rounds=given.rounds, steps=10, images=64)
    about = {"network": given.network, "image_size": SIDE}
    keep("segmentation", rows, rounds=given.rounds, about=about)


if __name__ == "__main__":
    main()
