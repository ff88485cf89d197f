"""The augmentation policy on disk: what the stage search_augment chose, for training to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.files import read_json, write_json
from pipeline.params import Params


def save_policy(
    path: Path, num_ops: int, magnitude: float, trials: Sequence[Mapping[str, float]] = ()
) -> None:
    """Write the chosen numbers, and all that were tried."""
    chosen = {"num_ops": num_ops, "magnitude": magnitude, "searched": bool(trials)}
    write_json(path, chosen | {"trials": [dict(trial) for trial in trials]})


def with_found_policy(params: Params, path: Path) -> Params:
    """`params` with the numbers that a search has found; themselves where none is asked for.

    Raises DataError where the search has not run.
    """
    if params.augment.search is None:
        return params
    try:
        found: Any = read_json(path)
        num_ops, magnitude, searched = found["num_ops"], found["magnitude"], found["searched"]
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the stage search_augment") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not as search_augment writes it ({error!r})") from None
    if not searched or (num_ops, magnitude) not in params.augment.search.pairs:
        raise DataError(
            f"{path}: num_ops {num_ops} at magnitude {magnitude} is not what augment.search "
            "asks for; run the stage search_augment"
        )
    return params.with_policy(num_ops, magnitude)


def policy_metrics(
    num_ops: int, magnitude: float, trials: Sequence[Mapping[str, float]] = ()
) -> dict[str, float]:
    """The choice and each trial's validation figures, one number a key."""
    flat: dict[str, float] = {"num_ops": num_ops, "magnitude": magnitude}
    for trial in trials:
        name = f"{trial['num_ops']}_ops_at_{trial['magnitude']:g}"
        flat |= {f"val/{key}/{name}": trial[key] for key in ("accuracy", "nll")}
    return flat
