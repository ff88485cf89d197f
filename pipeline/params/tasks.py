"""What of params.yaml needs one class an image, and is refused for every other task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# By section and parameter: the values that mean nothing of the kind.
PLAIN: dict[tuple[str, str], tuple[object, ...]] = {
    ("data", "validation"): ("held_out",),
    ("data", "corrections"): (None,),
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
    if params.task == "classification":
        return
    for where, section, name, value in _given(params):
        plain = PLAIN[section, name]
        if value not in plain:
            choose = " or ".join("null" if each is None else str(each) for each in plain)
            raise ValueError(
                f"{where}{section}.{name} = {value!r}: needs one class an image, and task = "
                f"{params.task} has none; set it to {choose}"
            )


def _given(params: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Each parameter of PLAIN where it is said: of what, its section and name, and its value."""
    for section, name in PLAIN:
        yield "", section, name, getattr(getattr(params, section), name)
    overrides: dict[str, Mapping[str, Any]] = {"teacher.": vars(params.teacher)}
    for key, generation in params.generations.items():
        overrides[f"generations.{key}."] = {"select": generation.select}
        overrides[f"generations.{key}.student."] = vars(generation.student)
    for where, sections in overrides.items():
        for section, name in PLAIN:
            if name in sections.get(section, {}):
                yield where, section, name, sections[section][name]
