"""How the pixels of views moved, so that what belongs to them moves alike: masks, predictions.

Places are those of pipeline.augment.geometry: in pixels of the images from their centre, x to the
right and y down, and a matrix maps a place in the output of a step to the place in its input. The
centre of pixel (i, j) of S × S pixels is at x = j - (S - 1) / 2, y = i - (S - 1) / 2. Every pixel
of the last view is followed back through all steps, and the nearest pixel is taken once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.augment.geometry import displacement


@dataclass(frozen=True)
class Move:
    """matrices: (n, 3, 3); knots, strengths: (n, 2, K, K) and (n,) of a displacement in pixels, see
    geometry.displacement, that is added to the places in the input."""

    matrices: Tensor
    knots: Tensor | None = None
    strengths: Tensor | None = None


@dataclass(frozen=True)
class Erasure:
    """boxes: (n, 4), see pipeline.augment.boxes."""

    boxes: Tensor


@dataclass
class Warp:
    """The moves of n images of `height` × `width` pixels, one after the other, as views record them
    while they are made."""

    height: int
    width: int
    steps: list[Move | Erasure] = field(default_factory=list)

    @classmethod
    def of(cls, images: Tensor) -> Warp:
        """An empty record for images (n, C, H, W)."""
        return cls(*images.shape[-2:])

    def shift(self, right: Tensor, down: Tensor, mirrored: Tensor | None) -> None:
        """See pipeline.augment.views.move."""
        x, y = -right.float(), -down.float()
        sign = torch.ones_like(x) if mirrored is None else 1 - 2 * mirrored.to(x)
        self.steps.append(Move(_matrices(sign, x, torch.ones_like(y), y)))

    def crop(self, boxes: Tensor, mirrored: Tensor | None) -> None:
        """Boxes (n, 4) resized to the image, then mirrored where `mirrored` (n,) says."""
        top, left, bottom, right = boxes.float().unbind(1)
        across = (right - left) / self.width
        if mirrored is not None:
            across = across * (1 - 2 * mirrored.to(across))
        x, y = (left + right - self.width) / 2, (top + bottom - self.height) / 2
        self.steps.append(Move(_matrices(across, x, (bottom - top) / self.height, y)))

    def resample(
        self, matrices: Tensor, knots: Tensor | None = None, strengths: Tensor | None = None
    ) -> None:
        """See Move."""
        self.steps.append(Move(matrices, knots, strengths))

    def erase(self, boxes: Tensor) -> None:
        """What lies in the boxes (n, 4) is gone."""
        self.steps.append(Erasure(boxes))

    def inverse(self) -> Warp:
        """From the last view back to the images; only of matrices, such as the weak view's."""
        back: list[Move | Erasure] = []
        for step in reversed(self.steps):
            if isinstance(step, Erasure) or step.knots is not None:
                raise ValueError("only a warp of matrices has an inverse")
            back.append(Move(torch.linalg.inv(step.matrices.double()).float()))
        return Warp(self.height, self.width, back)

    def then(self, other: Warp) -> Warp:
        """This warp, and the other after it."""
        return Warp(self.height, self.width, [*self.steps, *other.steps])

    def apply(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (n, M, h, w) moved as the images were, and which pixels are known: (n, h, w).

        Not known is what was erased or comes from outside the image, even where the view continues
        the image by its reflection. h × w: the images' pixels, or more coarsely or finely their
        area.
        """
        count, _, rows, columns = values.shape
        x = _centres(columns, self.width, values.device).expand(count, rows, -1)
        y = _centres(rows, self.height, values.device)[:, None].expand(count, -1, columns)
        known = torch.ones(count, rows, columns, dtype=torch.bool, device=values.device)
        for step in reversed(self.steps):
            if isinstance(step, Erasure):
                known &= ~self._covered(step, x, y)
            else:
                x, y = self._before(step, x, y)
                known &= (x.abs() < self.width / 2) & (y.abs() < self.height / 2)
        place = _pixel(y, self.height, rows) * columns + _pixel(x, self.width, columns)
        place = place.view(count, 1, -1).expand(-1, values.shape[1], -1)
        return values.flatten(2).gather(2, place).view_as(values), known

    def _covered(self, step: Erasure, x: Tensor, y: Tensor) -> Tensor:
        top, left, bottom, right = step.boxes.to(x.device).view(-1, 4, 1, 1).unbind(1)
        row, column = y + self.height / 2, x + self.width / 2
        return (row >= top) & (row < bottom) & (column >= left) & (column < right)

    def _before(self, step: Move, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where places were before a move."""
        terms = step.matrices.to(x.device)[..., None, None].unbind(1)
        across, along, last = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in terms)
        across, along = across / last, along / last
        if step.knots is not None and step.strengths is not None:
            knots = step.knots.to(x.device)
            moves = displacement(knots, step.strengths, self.height, self.width).flatten(2)
            place = _pixel(y, self.height, self.height) * self.width
            place = (place + _pixel(x, self.width, self.width)).flatten(1)
            right, down = (part.gather(1, place).view_as(x) for part in moves.unbind(1))
            across, along = across + right, along + down
        return across, along


def _matrices(a: Tensor, x: Tensor, d: Tensor, y: Tensor) -> Tensor:
    """Scaling by a and d, then a move by x and y: (n, 3, 3)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack((a, zero, x, zero, d, y, zero, zero, one), dim=1).view(-1, 3, 3)


def _centres(count: int, side: int, device: torch.device) -> Tensor:
    """The centres of `count` cells along a side, in pixels from its middle."""
    return (torch.arange(count, device=device) - (count - 1) / 2) * (side / count)


def _pixel(places: Tensor, side: int, count: int) -> Tensor:
    """Which of `count` cells along a side the places are in, the outermost for those outside."""
    return ((places + side / 2) * (count / side)).floor().clamp(0, count - 1).long()
