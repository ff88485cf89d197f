"""Draw rows of images with their names, to look at what is done to them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pipeline.errors import visible
from pipeline.files import written_whole

TITLE = "contact sheet"  # in every file of one
CELL = 80  # least side of a drawn image, pixels
GAP = 4
MARGIN = 12
FONT_SIZE = 14
CAPTION_SIZE = 12
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class SheetRow:
    """One row: its name, images (n, C, S, S) float in [0, 1] or uint8, a caption under each."""

    name: str
    images: Tensor
    captions: Sequence[str] = ()


def draw_sheet(title: str, rows: Sequence[SheetRow]) -> Image.Image:
    """The rows under each other, names at the left; small images enlarged by whole factors.

    Enlarged pixels stay square (nearest neighbour), so that nothing is smoothed away.
    """
    font, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(CAPTION_SIZE)
    cells = [_cells(row.images) for row in rows]
    side = max(cell.width for row in cells for cell in row)
    left = 2 * MARGIN + max(font.getlength(line) for row in rows for line in row.name.split("\n"))
    right = max(len(row) for row in cells) * (side + GAP) + MARGIN
    heights = [side + GAP + (CAPTION_SIZE + GAP if row.captions else 0) for row in rows]
    top = 2 * MARGIN + FONT_SIZE
    width = max(left + right, round(font.getlength(title)) + 2 * MARGIN)
    sheet = Image.new("RGB", (round(width), top + sum(heights) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=font)
    for row, images, height in zip(rows, cells, heights, strict=True):
        pen.text((MARGIN, top + side / 2), row.name, fill=INK, font=font, anchor="lm")
        for place, image in enumerate(images):
            at = round(left) + place * (side + GAP)
            sheet.paste(image, (at, top))
            if row.captions:
                under = (at + side / 2, top + side + GAP / 2)
                text = _fitting(small, row.captions[place], side)
                pen.text(under, text, fill=FAINT, font=small, anchor="mt")
        top += height
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write PNG, or a page that holds it where `path` ends in .html; whole or not at all."""
    data, about = io.BytesIO(), PngInfo()
    about.add_text("Title", TITLE)
    sheet.save(data, "PNG", optimize=True, pnginfo=about)
    content = data.getvalue()
    if path.suffix == ".html":
        text = base64.b64encode(content).decode()
        name = html.escape(path.stem)
        content = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
            f'<img alt="{TITLE}" src="data:image/png;base64,{text}"></html>\n'
        ).encode()
    with written_whole(path) as partial:
        partial.write_bytes(content)


def _cells(images: Tensor) -> list[Image.Image]:
    """Each image as it is drawn: RGB, at least CELL wide."""
    levels = images if not images.is_floating_point() else (images * 255).round().clamp(0, 255)
    factor = max(1, -(-CELL // images.shape[-1]))
    rows = levels.byte().cpu().movedim(1, -1).expand(-1, -1, -1, 3).numpy()
    cells = [Image.fromarray(row) for row in rows]
    return [ImageOps.scale(cell, factor, Image.Resampling.NEAREST) for cell in cells]


def _fitting(font: Font, text: str, width: int) -> str:
    """`text` on one line, cut where it is wider than `width` pixels."""
    text = whole = visible(text)[:width]  # no letter is narrower than a pixel
    while text and font.getlength(text) > width:
        whole = whole[:-1]
        text = f"{whole}…"
    return text
