"""Unlabelled images a second of a training step, against those of USB's pseudolabel and fixmatch.

python -m benchmarks.usb --python PYTHON [--rounds 3] [--steps 2]

PYTHON: the interpreter of an environment that has semilearn 0.3.2 (USB, Wang et al. 2022), as

    uv venv usb && uv pip install --python usb/bin/python --no-deps semilearn==0.3.2
    uv pip install --python usb/bin/python torch torchvision timm transformers \
        scikit-image scikit-learn matplotlib progress ruamel.yaml tensorboard tqdm

WRN-28-2 at 32×32, 64 labelled and 448 unlabelled images a step, one thread, seconds of the
process's own. Ours against pseudolabel: pseudo-labelled images, strongly augmented, where USB's are
weakly augmented; against fixmatch: an online teacher from the first step on. `train.precision` is
auto, USB's float32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.measure import Row, compare, keep
from benchmarks.training import BATCH, LABELED, RATIO, SIDE, WARM_UP, example, network_of
from pipeline.params import AugmentParams, OnlineParams, TrainParams
from pipeline.progress import say
from pipeline.train.fit import fit

NETWORK = "wrn_28_2"
ONLINE = OnlineParams(start_fraction=0.0)
BARS = {"pseudolabel": 3.0, "fixmatch": 5.0}
STEPS_FILE = Path(__file__).with_name("usb_steps.py")


def ours(algorithm: str, steps: int, network: str = NETWORK) -> float:
    """Unlabelled images a second of `fit`, doing what the algorithm does."""
    train = TrainParams(
        steps=steps,
        batch_size=LABELED,
        unlabeled_ratio=RATIO,
        threads=1,
        online=ONLINE if algorithm == "fixmatch" else None,
    )
    model, data = network_of(network), example()
    started = time.process_time()
    fit(model, data, train=train, augment=AugmentParams(flip=True), seed=0)
    return steps * LABELED * RATIO / (time.process_time() - started)


def theirs(python: Path, algorithm: str, steps: int) -> float:
    """The same of semilearn."""
    command = [str(python), str(STEPS_FILE), algorithm, *map(str, (steps, LABELED, RATIO, SIDE))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        say(ran.stderr[-2000:])
        sys.exit(f"{python}: semilearn could not train")
    return float(ran.stdout.splitlines()[-1])


def row_of(python: Path, algorithm: str, steps: int, rounds: int) -> Row:
    """The comparison with one of its algorithms."""
    ours(algorithm, 1, WARM_UP)
    return compare(
        f"against USB's {algorithm}",
        "unlabelled images/s",
        lambda: ours(algorithm, steps),
        lambda: theirs(python, algorithm, steps),
        rounds=rounds,
        at_least=BARS[algorithm],
    )


def main() -> None:
    """Measure both and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of the environment of USB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    args = parser.parse_args()
    if not args.python.is_file():
        sys.exit(f"--python {args.python}: no such file")
    torch.set_num_threads(1)
    rows = [row_of(args.python, name, args.steps, args.rounds) for name in BARS]
    keep("usb", rows, rounds=args.rounds, about={"batch": BATCH, "steps": args.steps})


if __name__ == "__main__":
    main()
