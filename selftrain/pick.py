"""List the unlabelled images that are most worth a label, with a page to label them on.

selftrain pick --count N [--out pick] [--by typical] [--features pixels]
                      [--label-studio] [--fiftyone | --coco]

Typical images while labels are few, doubtful ones later. It needs what `selftrain run prepare`
makes, and uses what has been trained since. Where each pixel has a class, the teacher's masks go
out with the images to be corrected.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import ParameterError, counted
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.tasks import open_task
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.in_use import Marks
from pipeline.workflow.layout import Layout

QUEUE = "queue.csv"


def pick(args: argparse.Namespace) -> None:
    """Write the queue that the command line asks for."""
    if args.count < 1:
        raise ParameterError(f"--count {args.count}: must be 1 or more")
    if args.out.exists() and not args.force:
        raise ParameterError(f"--out {args.out}: exists; --force replaces it, --out names another")
    if args.out.exists() and not (args.out / QUEUE).is_file():
        raise ParameterError(f"--out {args.out}: no folder that selftrain pick wrote; give another")
    params, layout = load_params(), Layout(Path.cwd())
    task = open_task(params.task)
    if args.coco and task.answer_file is None:
        raise ParameterError("--coco: holds masks, and an image has one class; give --fiftyone")
    if args.fiftyone and task.answer_file is not None:
        raise ParameterError(
            f"--fiftyone: holds one class an image, and each has a {task.answer_file}; give "
            "--coco, which FiftyOne reads too"
        )
    import torch

    from pipeline.report.mask_queue import publish_masks
    from pipeline.report.queue import publish_queue
    from pipeline.workflow.picking import pick_images, weakest_words

    torch.set_num_threads(params.evaluate.threads)
    picked = pick_images(layout, params, count=args.count, strategy=args.by, features=args.features)
    if not picked.queries:
        say("pick: no unlabelled image is left to ask for; nothing was written")
        return
    weakest = weakest_words(layout, params)
    out, prepared, data, tool = args.out, layout.prepared, params.data, args.label_studio
    if task.answer_file is None:
        publish_queue(out, picked, prepared, data, label_studio=tool, fiftyone=args.fiftyone)
    else:
        publish_masks(out, picked, prepared, data, task, label_studio=tool, coco=args.coco)
    images = counted(len(picked.queries), f"{picked.strategy} image")
    say(f"pick: {images}, {picked.by}: {args.out}/index.html")
    if task.answer_file is not None and not (tool or args.coco):
        say(
            f"pick: --label-studio or --coco writes what to draw each {task.answer_file} with; "
            "selftrain answers reads it back"
        )
    if weakest:
        say(f"pick: the weakest classes: {weakest}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("pick", __doc__)
    parser.add_argument("--count", type=int, required=True, help="how many images")
    parser.add_argument("--out", type=Path, default=Path("pick"), help="the folder to write")
    parser.add_argument("--force", action="store_true", help="replace it where it exists")
    parser.add_argument(
        "--by",
        choices=("auto", "typical", "doubtful"),
        default="auto",
        help="auto: typical under 10 labels a class, else doubtful",
    )
    parser.add_argument(
        "--features",
        choices=("auto", "champion", "pretrained", "pixels"),
        default="auto",
        help="by which images are alike; auto: the first of these that there is",
    )
    parser.add_argument("--label-studio", action="store_true", help="write tasks for Label Studio")
    parser.add_argument("--fiftyone", action="store_true", help="write a FiftyOne data set")
    parser.add_argument("--coco", action="store_true", help="write images and masks as COCO's JSON")
    with Marks(Path.cwd()).renewed():
        return run_command("pick", parser, pick)


if __name__ == "__main__":
    sys.exit(main())
