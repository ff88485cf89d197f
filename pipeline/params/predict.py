"""The sections `predict` and `evaluate` of params.yaml: how trained models see images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.sections import Device, Section

Views = Literal["centre", "flip", "five_crop", "ten_crop", "multi_scale", "jitter"]
JitterViews = Annotated[int, Field(ge=1, le=256)]


class PassParams(Section):
    """How images pass through a trained network."""

    jitter_views: JitterViews = Field(8, description="number of views where views is jitter")
    batch_size: int = Field(512, ge=1)
    """most images a forward pass; long predictions on a CPU take the fastest number of them"""


class ViewParams(PassParams):
    """How a trained network sees an image."""

    views: Views = Field("centre", description="views averaged for each image")


class TeacherParams(Section):
    """Who labels the unlabelled images."""

    teacher: Literal["last", "ensemble"] = "last"
    """the generation before, or the equal average of all before"""


class PropagationParams(Section):
    """What labelled images pass on to near ones in the teacher's features, beside what it predicts.

    Where it is given, all features are in the memory of the machine that runs the stage.
    """

    num_neighbors: int = Field(20, ge=1, description="nearest images that an image is joined to")
    alpha: float = Field(0.9, gt=0, lt=1)
    """how far labels travel; near 1: across many neighbours"""
    teacher_weight: float = Field(0.5, ge=0)
    """of the teacher's log-probabilities beside the neighbours'"""


class PredictParams(ViewParams, TeacherParams):
    """How a teacher labels the unlabelled images."""

    threads: int = Field(1, ge=1, description="CPU threads of each actor; part of the result")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of long predictions; auto: bfloat16 where the machine has instructions for it and the teacher
    is as accurate in it on the validation images"""
    device: Device = Field("auto", description="auto: a GPU if there is one")
    propagation: PropagationParams | None = None
    """also ask each image's neighbours in the teacher's features"""


class EvaluateParams(PassParams):
    """How models are measured, and how what is shipped sees an image."""

    views: Literal["auto", Views] = "auto"
    """views averaged for each image; auto: those with which generation 0 is clearly surer of its
    validation images, one centre view where none are or there are under 50 of them"""
    bootstrap_samples: int = Field(1000, ge=100)
    """resamples for the intervals of differences"""
    interval: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    threads: int = Field(2, ge=1, description="CPU threads; part of the result")
    device: Device = Field("auto", description="auto: a GPU if there is one")
    robustness_images: int | None = Field(None, ge=1)
    """also test on so many of the test images (all, where there are fewer) under common corruptions
    at five severities, one centre view: 75 more passes; null: not"""

    @property
    def views_or_centre(self) -> Views:
        """`views`, the centre view where they are to be chosen and nothing has chosen any."""
        return "centre" if self.views == "auto" else self.views

    def view_params(self, views: Views) -> ViewParams:
        """How a network sees an image in these views."""
        return ViewParams(views=views, jitter_views=self.jitter_views, batch_size=self.batch_size)
