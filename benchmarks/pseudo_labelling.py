"""Images a second of the stage pseudo_label through Ray, against a bare loop; memory for ten times
the images.

python -m benchmarks.pseudo_labelling [--rounds 3] [--images 50000] [--network wrn_28_2]

Generated 32×32 PNGs in 16 shards, one actor with one thread, bfloat16 where the processor has it.
The bare loop reads the shards with pyarrow, decodes, and runs channels-last passes of the same size
and precision; it writes nothing. Ours counts from the end of its first shard to the end of its
last; what comes before, less the time of one shard, is its start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.memory.measure import own_peak, peak_of
from benchmarks.runs import Row, arguments, compare, keep
from pipeline.data.encoding import encode_png
from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.shards import IMAGE_SCHEMA, read_manifest
from pipeline.data.tensors import decode_images
from pipeline.evaluate.checkpoints import checkpoint_passes
from pipeline.labels.predict import ShardPredictor
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.passes import Passes, has_bfloat16, laid_out, run_pass
from pipeline.models.spec import ModelSpec
from pipeline.params import ModelParams, PredictParams, ViewParams
from pipeline.ray.map_shards import distributed_map

SHARDS, FEW_SHARDS, SIDE, MEAN, STD, PASS = 16, 4, 32, 0.5, 0.25, 512
MEMORY_ROWS, SMALL_NETWORK = 256, "wrn_10_1"  # images of a shard where memory is measured
DISTINCT = 256


def write_pictures(folder: Path, count: int, rows_per_shard: int) -> None:
    """A prepared folder of so many pictures: smooth colours and some noise, as in photographs."""
    draw = np.random.default_rng(SIDE)
    encoded = []
    for _ in range(DISTINCT):
        coarse = torch.from_numpy(draw.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")
        noisy = smooth[0].permute(1, 2, 0).numpy() + draw.normal(0, 4, (SIDE, SIDE, 3))
        encoded.append(encode_png(np.clip(noisy, 0, 255).astype(np.uint8)))

    def rows() -> Iterator[dict[str, object]]:
        for place in range(count):
            yield {"id": f"image_{place}", "image": encoded[place % DISTINCT], "label": place % 10}

    shape = {"channels": 3, "image_size": SIDE}
    write_shards(folder, rows(), IMAGE_SCHEMA, rows_per_shard=rows_per_shard, metadata=shape)


def make_model(folder: Path, name: str) -> None:
    """An untrained model, taken to agree with itself in bfloat16."""
    network, classes = ModelParams(name=name).network, [str(number) for number in range(10)]
    spec = ModelSpec(
        network, classes, SIDE, 3, [MEAN] * 3, [STD] * 3, generation="0", bfloat16_agrees=True
    )
    save_checkpoint(folder, network_of(spec).state_dict(), spec)


def predictor_of(model: Path, images: Path, out: Path) -> ShardPredictor:
    """As the stage makes it."""
    params = PredictParams(batch_size=PASS, device="cpu")
    return ShardPredictor(models=(model,), folder=images, out=out, params=params, seed=0)


def through_ray(folder: Path, starts: list[float]) -> float:
    """Images a second from the first shard to the last; the seconds of the start go to `starts`."""
    with tempfile.TemporaryDirectory(prefix="pseudo-labelling-") as name:
        out = Path(name) / "predictions"
        predictor = predictor_of(folder / "model", folder / "images", out)
        entries = predictor.manifest.shards
        begun = time.time()
        distributed_map(
            (predictor, list(range(len(entries)))),
            actors=(1, 1),
            gpus_per_actor=1.0,
            scratch=Path(name),
            title="pseudo_label",
        )
        ended = sorted((out / entry.file).stat().st_mtime for entry in entries)
    rate = sum(entry.rows for entry in entries[1:]) / (ended[-1] - ended[0])
    starts.append(ended[0] - begun - entries[0].rows / rate)
    return rate


def without_ray(folder: Path, shards: int) -> float:
    """Images a second of the predictor's own process, over the first so many shards."""
    with tempfile.TemporaryDirectory(prefix="pseudo-labelling-") as name:
        predictor = predictor_of(folder / "model", folder / "images", Path(name))
        assert predictor.networks  # loaded before the clock starts
        begun = time.process_time()
        rows = sum(predictor(number) for number in range(shards))
        return rows / (time.process_time() - begun)


def bare_loop(
    folder: Path,
    passes: Passes,
    shards: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Images a second of reading, decoding and predicting, one thread; shards: the first so many,
    None for all."""
    network, size = load_checkpoint(folder / "model").network, passes.images or PASS
    entries = read_manifest(folder / "images").shards[:shards]
    files = [folder / "images" / entry.file for entry in entries]
    done, begun = 0, clock()
    with laid_out(network, passes), torch.inference_mode():
        for file in files:
            data = pq.read_table(file, columns=["image"], use_threads=False).column("image")
            pixels = decode_images(data.to_pylist(), (3, SIDE, SIDE), file)
            for batch in torch.split(pixels, size):
                run_pass(network, (batch.float() / 255 - MEAN) / STD, passes).log_softmax(dim=1)
            done += len(data)
    return done / (clock() - begun)


def peak_memory(folder: Path, shards: int) -> float:
    """MiB that a process of its own takes at most to predict so many small shards."""
    images = folder / f"{shards}_shards"
    write_pictures(images, shards * MEMORY_ROWS, MEMORY_ROWS)
    return peak_of("benchmarks.pseudo_labelling", folder / "small", images)


def say_peak(model: Path, images: Path) -> None:
    """Predict every shard in this process and print its peak memory."""
    with tempfile.TemporaryDirectory(prefix="pseudo-labelling-") as name:
        predictor = predictor_of(model, images, Path(name))
        for number in range(len(predictor.manifest.shards)):
            predictor(number)
    print(own_peak())


def measured(folder: Path, count: int, rounds: int, *, ray: bool) -> list[Row]:
    """The comparisons."""
    write_pictures(folder / "images", count, rows_per_shard=-(-count // SHARDS))
    views = ViewParams(batch_size=PASS)
    passes = checkpoint_passes(load_checkpoint(folder / "model"), count, views, precision="auto")
    own = compare(
        "the predictor alone, seconds of its own",
        "images/s",
        lambda: without_ray(folder, FEW_SHARDS),
        lambda: bare_loop(folder, passes, FEW_SHARDS, time.process_time),
        rounds=rounds,
        at_least=0.9,
    )
    if not ray:
        return [own]
    starts: list[float] = []
    row = compare(
        f"{count:,} images, {passes.precision}, {passes.images} a pass",
        "images/s",
        lambda: through_ray(folder, starts),
        lambda: bare_loop(folder, passes),
        rounds=rounds,
        at_least=0.9,
    )
    make_model(folder / "small", SMALL_NETWORK)
    memory = compare(
        "peak memory, ten times the images",
        "MiB",
        lambda: peak_memory(folder, 40),
        lambda: peak_memory(folder, 4),
        rounds=1,
        at_most=1.1,
    )
    start = Row("start of Ray and of its actor", "s", sorted(starts)[len(starts) // 2])
    return [own, row, start, memory]


def main() -> None:
    """Measure and keep the table."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--network", default="wrn_28_2")
    parser.add_argument("--without-ray", action="store_true", help="the predictor alone")
    parser.add_argument("--peak", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        say_peak(*given.peak)
        return
    with tempfile.TemporaryDirectory(prefix="pseudo-labelling-") as name:
        make_model(Path(name) / "model", given.network)
        rows = measured(Path(name), given.images, given.rounds, ray=not given.without_ray)
    half = has_bfloat16(torch.device("cpu"))
    about = {"network": given.network, "images": given.images, "bfloat16": half}
    keep("pseudo_label", rows, rounds=given.rounds, about=about)


if __name__ == "__main__":
    main()
