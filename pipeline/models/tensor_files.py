"""Files of tensors, whoever wrote them: what they claim is checked before memory is taken for it,
then their numbers, and of a model of this project the bytes. Without torch, of whose tensors as of
numpy's arrays this works."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import CheckpointError
from pipeline.files import file_digest, folder_written_whole, open_regular, write_json
from pipeline.models.spec import SPEC, WEIGHTS, ModelSpec
from pipeline.params.errors import shortened

MOST_HEADER = 4 << 20  # bytes: of some 40,000 tensors
VARIANCE = "running_var"  # how torch names the variances of a batch normalisation
Form = tuple[str, tuple[int, ...]]  # of a tensor: its type as safetensors names it, its shape


def write_model(folder: Path, spec: ModelSpec, save: Callable[[Path], None]) -> None:
    """Put a model, whose weights `save` writes to a path, in the place of `folder`, whole or not at
    all; its spec names their SHA-256."""
    with folder_written_whole(folder) as finished:
        save(finished / WEIGHTS)
        digest = file_digest(finished / WEIGHTS)
        value = asdict(replace(spec, weights=digest))
        if spec.task == ModelSpec.task:  # so that classifiers are what earlier versions wrote
            del value["task"]
        write_json(finished / SPEC, value)


def read_weights(
    folder: Path, spec: ModelSpec, framework: Literal["pt", "numpy"], **how: Any
) -> dict[str, Any]:
    """The weights of the model folder that `spec` was read from, as read_safetensors reads them.

    Raises CheckpointError too where they are not the bytes that were written with the spec.
    """
    path = folder / WEIGHTS
    tensors = read_safetensors(path, framework, **how)
    if spec.weights is not None and spec.weights != file_digest(path):
        raise CheckpointError(
            f"{path}: not the bytes that {SPEC} names; copy the folder whole, or remove it and run "
            "dvc checkout, or selftrain run to train it anew"
        )
    return tensors


def read_safetensors(
    path: Path,
    framework: Literal["pt", "numpy"],
    *,
    names: Collection[str] | None = None,
    forms: Mapping[str, Form] | None = None,
) -> dict[str, Any]:
    """The tensors of a .safetensors file by name: all, or those of `names`.

    forms: those that there must be, no others. Raises CheckpointError where the file can't be read,
    lacks one, or holds what is no weight.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path) as (file, _):
            header = int.from_bytes(file.read(8), "little")
        if header > MOST_HEADER:
            raise ValueError(f"a header of {header:,} bytes")
        with safe_open(path, framework) as file:
            there = list(file.keys())
            if forms is not None:
                problem = _difference({name: _form(file, name) for name in there}, forms)
                if problem is not None:
                    raise CheckpointError(
                        f"{path}: does not fit {path.with_name(SPEC)} ({problem})"
                    )
            tensors = {name: file.get_tensor(name) for name in names or there}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not readable as safetensors ({reason})") from None
    check_numbers(tensors, path)
    return tensors


def _form(file: Any, name: str) -> Form:
    piece = file.get_slice(name)
    return piece.get_dtype(), tuple(piece.get_shape())


def _difference(there: Mapping[str, Form], wanted: Mapping[str, Form]) -> str | None:
    """The first tensor that is not as wanted; None where all are."""
    for name in sorted(there.keys() | wanted.keys()):
        found, needed = there.get(name), wanted.get(name)
        if found != needed:
            return f"{shortened(name)}: {_shown(found)}, where the network has {_shown(needed)}"
    return None


def _shown(form: Form | None) -> str:
    return "none" if form is None else shortened(f"{form[0]} of {form[1]}")


def check_numbers(tensors: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError, which `where` opens, for NaN, infinity or a negative variance."""
    for name, tensor in tensors.items():
        if 0 in tensor.shape:
            continue
        try:
            least, most = float(tensor.min()), float(tensor.max())
        except (RuntimeError, TypeError):  # a type without order, which no network here has
            continue
        if not (math.isfinite(least) and math.isfinite(most)):
            problem = "is not finite"
        elif name.endswith(VARIANCE) and least < 0:
            problem = f"has a negative variance, {least:g}"
        else:
            continue
        raise CheckpointError(
            f"{where}: {shortened(name)} {problem}; take weights of a sound training"
        )
