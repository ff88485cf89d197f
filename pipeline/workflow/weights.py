"""Weights on disk that a run starts from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.params import Params
from pipeline.params.transfer import WeightsParams


def check_weights(root: Path, params: Params, stages: Iterable[str]) -> None:
    """Look for the weights on disk that `stages` will read, as these do, before any of them runs.

    Models that the run itself makes are left to it. Raises ParameterError and CheckpointError as
    find_source.
    """
    asked: list[tuple[str, WeightsParams]] = []
    for stage in stages:
        name, _, model = stage.partition("@")
        if name == "embed":
            asked.append((name, params.embed))
        elif name.startswith("train_"):
            transfer = params.training(model or "0").transfer
            if transfer.mode != "head":
                asked.append(("transfer", transfer))
    on_disk = {
        (section, weights.source, weights.sha256)
        for section, weights in asked
        if weights.is_path and not (root / str(weights.source)).is_relative_to(root / "models")
    }
    for section, source, sha256 in sorted(on_disk, key=str):
        from pipeline.train.transfer import find_source  # torch takes seconds to import

        find_source(source, sha256=sha256, root=root, teacher=None, section=section)
