"""Networks that come in sizes, in order: what `grow` climbs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ParameterError

Rung = Mapping[str, Any]

# Image side of EfficientNet-B0 to B7 (Tan & Le 2019).
COMPOUND_SIDES = (224, 240, 260, 300, 380, 456, 528, 600)

SMALL_SIZES = ((8, 1), (16, 1), (32, 1), (32, 2), (64, 2), (64, 3), (128, 3), (128, 4), (256, 4))
WRN_WIDTHS = (1, 2, 4, 8, 10)
RESNET_DEPTHS = (18, 34, 50, 101, 152)
FAMILIES = (
    tuple(f"resnet{depth}" for depth in RESNET_DEPTHS),
    tuple(f"seresnet{depth}" for depth in RESNET_DEPTHS),
    ("wide_resnet50_2", "wide_resnet101_2"),
    ("resnext50_32x4d", "resnext101_32x8d"),
    tuple(f"vgg{depth}" for depth in (11, 13, 16, 19)),
    tuple(f"vgg{depth}_bn" for depth in (11, 13, 16, 19)),
    tuple(f"densenet{depth}" for depth in (121, 169, 201)),
    tuple(f"efficientnet_b{compound}" for compound in range(8)),
    tuple(f"efficientnet_v2_{size}" for size in "sml"),
    tuple(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    tuple(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")),
    tuple(f"mnasnet{width}" for width in ("0_5", "0_75", "1_0", "1_3")),
    ("mobilenet_v3_small", "mobilenet_v3_large"),
)


def built_in_ladder(model: Rung) -> list[Rung]:
    """The sizes of the family of `model` (parameters of `model` by name), smallest first.

    Empty where the family is not known. A size of efficientnet has its image side in the
    proportion of Tan & Le 2019 to `model`'s own, unless that is null.
    """
    name = model["name"]
    library, slash, bare = name.rpartition("/")
    if name in ("resnet_small", "unet_small"):
        return [{"name": name, "width": w, "depth": d} for w, d in SMALL_SIZES]
    if name == "efficientnet":
        return [
            {"name": name, "compound": compound, "input_size": _side(model, compound)}
            for compound in range(len(COMPOUND_SIDES))
        ]
    if match := re.fullmatch(r"(wrn_\d+)_\d+", name):
        return [{"name": f"{match[1]}_{width}"} for width in WRN_WIDTHS]
    family = next((names for names in FAMILIES if bare in names), ())
    return [{"name": library + slash + member} for member in family]


def grown(
    teacher: Rung, shared: Rung, ladder: Sequence[Rung] | None, steps: int, where: str
) -> dict[str, Any]:
    """What makes up the size `steps` rungs above that of `teacher`: its name and what rungs set.

    `teacher`, `shared`: parameters of models by name; `ladder`: overrides of `shared` in order,
    None for the sizes of the teacher's own family; `where`: the parameter that says `steps`.
    Raises ParameterError where the teacher is not on the ladder, or the ladder ends.
    """
    rungs = built_in_ladder(teacher) if ladder is None else list(ladder)
    keys = dict.fromkeys(["name", *(key for rung in rungs for key in rung)])
    sizes = [{key: rung.get(key, shared[key]) for key in keys} for rung in rungs]
    size = {key: teacher[key] for key in keys}
    if steps == 0:
        return size
    line = f"{where} = {steps}: the teacher is {_shown(size)}"
    if not sizes:
        raise ParameterError(f"{line}, alone of its kind; set model.ladder, a list of overrides")
    if size not in sizes:
        ladder_shown = ", ".join(_shown(other) for other in sizes)
        raise ParameterError(f"{line}, which is not on the ladder: {ladder_shown}")
    larger = sizes[sizes.index(size) + 1 :]
    if steps > len(larger):
        raise ParameterError(
            f"{line}, and the ladder goes on by {len(larger)}, to {_shown(sizes[-1])}; "
            "lower it, or set model.ladder"
        )
    return larger[steps - 1]


def _side(model: Rung, compound: int) -> int | None:
    side = model["input_size"]
    factor = COMPOUND_SIDES[compound] / COMPOUND_SIDES[model["compound"]]
    return None if side is None else round(side * factor)


def _shown(size: Rung) -> str:
    """A size in a few characters: "resnet_small (width 16, depth 1)"."""
    others = [f"{key} {value}" for key, value in size.items() if value is not None][1:]
    return f"{size['name']} ({', '.join(others)})" if others else str(size["name"])
