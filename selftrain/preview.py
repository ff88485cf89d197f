"""Look at what the parameters do to some real images: a contact sheet of their augmentation.

selftrain preview [--data labeled] [--images 8] [--out preview.png]
                          [--all | --corruptions]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import ParameterError, counted
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.self_training.choices import with_choices
from pipeline.workflow.command import (
    add_out_arguments,
    check_writable,
    command_parser,
    run_command,
)
from pipeline.workflow.in_use import Marks
from pipeline.workflow.layout import Layout

PARTS = ("labeled", "unlabeled", "validation", "test")


def preview(args: argparse.Namespace) -> None:
    """Draw the sheet that the command line asks for."""
    import torch

    from pipeline.data.tensors import load_images, read_dataset
    from pipeline.report.contact_sheet import TITLE, draw_sheet, save_sheet
    from pipeline.report.preview import (
        Overlay,
        choose_images,
        corruption_rows,
        every_operation_rows,
        preview_rows,
    )
    from pipeline.tasks import open_task

    if args.images < 1 or args.out.suffix not in (".png", ".html"):
        wrong = f"--images {args.images}" if args.images < 1 else f"--out {args.out}"
        raise ParameterError(f"{wrong}: takes 1 or more images, and a name in .png or .html")
    check_writable(args.out, TITLE.encode(), force=args.force)
    layout, params = Layout(Path.cwd()), load_params()
    augment = with_choices(params, layout.choices).augment
    dataset = read_dataset(layout.prepared)
    classes, task = dataset.classes, open_task(dataset.task)
    folder, cache_gib = layout.prepared / args.data, params.train.cache_gib
    images = load_images(folder, task=task, cache_gib=cache_gib)
    numbers = torch.full((len(images),), -1)
    numbers = images.targets if task.image_classes else numbers
    rows_shown = choose_images(numbers, args.images)
    if not len(rows_shown):
        raise ParameterError(f"--data {args.data}: there are no images in it")
    labels = [classes[n] if n >= 0 else "" for n in numbers[rows_shown].tolist()]
    overlay = None
    if not task.image_classes:
        overlay = Overlay(task, images.targets[rows_shown], len(classes))
    pixels = images.images[rows_shown].float() / 255
    if args.corruptions:
        rows = corruption_rows(images.images[rows_shown[len(rows_shown) // 2 :][:1]], params.seed)
        title = "common corruptions, as evaluate.robustness_images tests them"
    elif args.all:
        rows = every_operation_rows(pixels, params.seed)
        title = "every operation, by its magnitude (0 to 30, both ways) or the share it changes"
    else:
        rows = preview_rows(pixels, labels, augment, params.seed, overlay)
        title = f"{len(rows_shown)} of {args.data}, as params.yaml augments them"
    save_sheet(draw_sheet(title, rows), args.out)
    say(f"{args.out}: {counted(len(rows), 'row')}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("preview", __doc__)
    parser.add_argument("--data", choices=PARTS, default="labeled", help="which prepared images")
    parser.add_argument("--images", type=int, default=8, help="how many")
    add_out_arguments(parser, ".png or .html", default=Path("preview.png"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="every operation, at rising magnitudes")
    what.add_argument("--corruptions", action="store_true", help="what robustness is tested on")
    with Marks(Path.cwd()).renewed():
        return run_command("preview", parser, preview)


if __name__ == "__main__":
    sys.exit(main())
