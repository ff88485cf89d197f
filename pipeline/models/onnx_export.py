"""A model as one ONNX file that needs no torch: pixels in, calibrated probabilities out.

Normalisation, temperature and the average over models are in the graph; an image is seen once,
from the centre. The exporter is torch's (torch.export), its run-time here onnxruntime.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.files import written_whole
from pipeline.models.checkpoint import Checkpoint

NEEDED = ("onnx", "onnxscript")
INPUT, OUTPUT = "images", "probabilities"


class PixelClassifier(nn.Module):
    """Models as one, from pixels (N, C, S, S) uint8 to probabilities (N, K) float32, of dense
    networks (N, K, S, S)."""

    def __init__(self, members: Sequence[tuple[Checkpoint, float]]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(model.network for model, _ in members)
        self.weights = [weight for _, weight in members]
        self.temperatures = [model.spec.temperature for model, _ in members]
        for place, (model, _) in enumerate(members):
            for name, values in (("mean", model.spec.mean), ("std", model.spec.std)):
                self.register_buffer(f"{name}_{place}", torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The weighted mean of the members' softmax(logits / temperature)."""
        scaled = images.float() / 255
        total: Tensor | None = None
        for place, network in enumerate(self.networks):
            pixels = (scaled - self.get_buffer(f"mean_{place}")) / self.get_buffer(f"std_{place}")
            part = (
                torch.softmax(network(pixels) / self.temperatures[place], 1) * self.weights[place]
            )
            total = part if total is None else total + part
        assert total is not None  # there is at least one member
        return total


def export_onnx(
    members: Sequence[tuple[Checkpoint, float]], out: Path, *, keeps_whole: bool = False
) -> None:
    """Write the weighted models, on the CPU, to `out`, whole or not at all.

    Input `images`: (N, C, S, S) uint8, N free; output `probabilities`: (N, K) float32, or
    (N, K, S, S). The file's metadata hold the classes as JSON, the image size and what to do with
    an image first; keeps_whole: it is letterboxed, not cropped (Task.keeps_whole). Raises
    ModelError where onnx and onnxscript are missing, or a network can't be exported.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ModelError(f"ONNX needs {' and '.join(missing)}: pip install 'selftrain[onnx]'")
    spec = members[0][0].spec
    shape = (2, spec.channels, spec.image_size, spec.image_size)
    program = _exported(PixelClassifier(members).eval(), torch.zeros(shape, dtype=torch.uint8))
    program.model.metadata_props.update(
        {
            "classes": json.dumps(spec.classes),
            "image_size": str(spec.image_size),
            "channels": str(spec.channels),
            "generation": spec.generation,
            "preprocessing": (
                "longer side resized to image_size, letterboxed; "
                if keeps_whole
                else "shorter side resized to image_size, centre cropped; "
            )
            + ("grey" if spec.channels == 1 else "RGB"),
        }
    )
    with written_whole(out) as partial:
        program.save(str(partial))


def _exported(network: nn.Module, example: Tensor) -> Any:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the network can't be had as ONNX ({reason})") from None
