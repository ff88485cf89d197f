"""What of params.yaml a task can't do: what needs one class an image, or one a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Allowed = dict[tuple[str, str], tuple[object, ...]]  # values by section and parameter
PIXELS: Allowed = {("augment", "mix"): ("none", "mixup", "cutmix", "both")}
IMAGES: Allowed = {
    ("data", "validation"): ("held_out",),
    ("embed", "source"): (None,),
    ("augment", "mix"): ("none", "cutmix", "classmix"),
    ("train", "contrastive_weight"): (0,),
    ("transfer", "mode"): ("full", "layerwise"),
    ("predict", "propagation"): (None,),
    ("select", "distribution_alignment"): ("none",),
    ("select", "images_per_class"): (None,),
    ("select", "strangers"): ("keep",),
    ("evaluate", "robustness_images"): (None,),
}


def check_task(params: Any) -> None:
    """Raise ValueError where Params has what its task can't do; the first such line says what."""
    allowed, what = (PIXELS, "pixel") if params.task == "classification" else (IMAGES, "image")
    for where, section, name, value in _given(params, allowed):
        plain = allowed[section, name]
        if value not in plain:
            choose = " or ".join("null" if each is None else str(each) for each in plain)
            raise ValueError(
                f"{where}{section}.{name} = {value!r}: needs one class a{'n' * (what == 'image')} "
                f"{what}, and task = {params.task} has none; set it to {choose}"
            )


def _given(params: Any, allowed: Allowed) -> Iterator[tuple[str, str, str, Any]]:
    """Each of these parameters where it is said: of what, its section and name, and its value."""
    for section, name in allowed:
        yield "", section, name, getattr(getattr(params, section), name)
    overrides: dict[str, Mapping[str, Any]] = {"teacher.": vars(params.teacher)}
    for key, generation in params.generations.items():
        overrides[f"generations.{key}."] = {"select": generation.select}
        overrides[f"generations.{key}.student."] = vars(generation.student)
    for where, sections in overrides.items():
        for section, name in allowed:
            if name in sections.get(section, {}):
                yield where, section, name, sections[section][name]
