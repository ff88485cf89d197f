"""What was chosen before anything is trained, on disk: by the stage search, for training to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.params import Params

MODES = ("head", "layerwise")


@dataclass(frozen=True)
class Choices:
    """The chosen numbers of RandAugment and all that were tried, and the mode that was.

    folds: what the trial of the modes counted; each empty where nothing was tried.
    """

    num_ops: int
    magnitude: float
    trials: Sequence[Mapping[str, float]] = ()
    mode: str | None = None
    folds: Mapping[str, int] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The choice and each trial's figures, one number a key."""
        values: dict[str, float] = {"num_ops": self.num_ops, "magnitude": self.magnitude}
        for trial in self.trials:
            name = f"{trial['num_ops']}_ops_at_{trial['magnitude']:g}"
            figures = [key for key in trial if key not in values]
            values |= {f"val/{key}/{name}": trial[key] for key in figures}
        return values | {f"folds/{name}": float(count) for name, count in self.folds.items()}

    def write(self, path: Path, metrics: Path) -> None:
        """Write what `with_choices` reads, and the metrics."""
        values = {"num_ops": self.num_ops, "magnitude": self.magnitude, "mode": self.mode}
        write_json(path, values | {"searched": bool(self.trials), "trials": list(self.trials)})
        write_json(metrics, self.metrics)


def with_choices(params: Params, path: Path) -> Params:
    """`params` with what the stage search has found; themselves where nothing is to be found.

    Raises DataError where it has not run.
    """
    search = params.augment.search
    if search is None and params.transfer.mode != "auto":
        return params
    try:
        values: Any = read_json(path)
        num_ops, magnitude, searched = values["num_ops"], values["magnitude"], values["searched"]
        mode = values["mode"]
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the stage search") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not as search writes it ({error!r})") from None
    if params.transfer.mode == "auto":
        if mode not in MODES:
            raise DataError(f"{path}: mode = {mode!r}: not tried; run the stage search")
        params = params.with_mode(mode)
    if search is None:
        return params
    if not searched or (num_ops, magnitude) not in search.pairs:
        raise DataError(
            f"{path}: num_ops {num_ops} at magnitude {magnitude} is not what augment.search "
            "asks for; run the stage search"
        )
    return params.with_policy(num_ops, magnitude)
