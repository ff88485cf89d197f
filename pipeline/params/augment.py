"""The section `augment` of params.yaml: the views of a training image, and how they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field, model_validator

from pipeline.params.sections import Section

Operation = Literal[
    "identity",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "scale",
    "perspective",
    "elastic",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "posterize",
    "solarize",
    "equalize",
    "autocontrast",
    "colour_shift",
    "pca_colour_shift",
]


# Operations that RandAugment draws from only where they are named.
LATER = ("scale", "perspective", "elastic", "colour_shift", "pca_colour_shift")
RANDAUGMENT: tuple[Operation, ...] = tuple(
    name for name in get_args(Operation) if name not in LATER
)  # as Cubuk et al. 2020 have it


class SearchParams(Section):
    """What the stage search tries: every number of operations at every magnitude."""

    num_ops: tuple[int, ...] = Field(strict=False, min_length=1)
    """numbers of operations to try, as [1, 2, 3]"""
    magnitude: tuple[float, ...] = Field(strict=False, min_length=1)
    """magnitudes to try, as [5.0, 10.0]"""
    steps: int = Field(200, ge=1, description="optimizer steps of each trial")
    seeds: int = Field(1, ge=1, le=100, description="trials of each pair, averaged")

    @model_validator(mode="after")
    def _values_allowed(self) -> SearchParams:
        _check_values("num_ops", self.num_ops, 16)
        _check_values("magnitude", self.magnitude, 30)
        return self

    @property
    def pairs(self) -> list[tuple[int, float]]:
        """Every number of operations with every magnitude, in the order given."""
        return [(count, strength) for count in self.num_ops for strength in self.magnitude]


class AugmentParams(Section):
    """The weak and the strong view of a training image."""

    flip: bool = Field(False, description="mirror images left-right; wrong for digits and text")
    crop: Literal["shift", "resized"] = "shift"
    """weak: move by whole pixels, or cut a box out and resize it"""
    shift: float = Field(0.125, ge=0, le=0.5, description="weak: largest shift, share of the side")
    padding: Literal["reflect", "zeros"] = "reflect"
    """what a shift moves in: the mirrored image, or black"""
    crop_area: tuple[float, float] = Field((0.5, 1.0), strict=False)
    """of a resized crop: its share of the area"""
    crop_ratio: tuple[float, float] = Field((0.75, 1.3333), strict=False)
    """of a resized crop: its width over its height"""
    num_ops: int = Field(2, ge=0, le=16, description="strong: RandAugment operations an image")
    magnitude: float = Field(10.0, ge=0, le=30, description="strong: their strength, 0 to 30")
    magnitude_std: float = Field(0.0, ge=0, le=30, description="strong: its standard deviation")
    magnitude_sampling: Literal["normal", "uniform"] = "normal"
    """strong: about the magnitude, or between 0 and it"""
    distinct_ops: bool = Field(False, description="strong: no operation twice for one image")
    cutout: float = Field(0.0, ge=0, le=1, description="strong: side of an erased square, share")
    erasing: float = Field(0.0, ge=0, le=1)
    """strong: chance that a random rectangle is erased"""
    mix: Literal["none", "mixup", "cutmix", "both", "classmix"] = "none"
    """mix pairs of images and their targets; both: mixup or cutmix, as each image draws; classmix:
    paste the pixels of half of the partner's classes"""
    mix_alpha: float = Field(1.0, gt=0, le=32)
    """shares are Beta(alpha, alpha); 1: uniform, less: milder"""
    operations: tuple[Operation, ...] = Field(RANDAUGMENT, strict=False, min_length=1)
    """strong: what RandAugment draws from"""
    search: SearchParams | None = None
    """choose num_ops and magnitude on the validation images; null: as above"""

    @model_validator(mode="after")
    def _ranges(self) -> AugmentParams:
        for name, (low, high), least, most, allowed in (
            ("crop_area", self.crop_area, 1e-9, 1, "two shares that rise, above 0 and at most 1"),
            ("crop_ratio", self.crop_ratio, 0.1, 10, "two numbers that rise, from 0.1 to 10"),
        ):
            if not least <= low <= high <= most:
                raise ValueError(f"augment.{name} = [{low}, {high}]: {allowed}")
        counts = [("num_ops", self.num_ops)]
        if self.search is not None:
            counts += [("search.num_ops", count) for count in self.search.num_ops]
        for name, count in counts:
            if self.distinct_ops and count > len(self.operations):
                raise ValueError(
                    f"augment.{name} = {count}: with distinct_ops at most the number of "
                    f"augment.operations, {len(self.operations)}"
                )
        return self


def _check_values(name: str, values: Sequence[float], most: int) -> None:
    shown = f"augment.search.{name} = {list(values)}"
    if not all(0 <= value <= most for value in values):
        raise ValueError(f"{shown}: each from 0 to {most}")
    if len(set(values)) < len(values):
        raise ValueError(f"{shown}: names a value twice")
