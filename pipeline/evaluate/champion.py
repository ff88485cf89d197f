"""Which model is shipped: the champion of a run, and whether it beats the one before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import counted
from pipeline.tasks import Task
from pipeline.tasks.significance import BOOTSTRAP, Bootstrap
from pipeline.tasks.task import Array

FEW = 50  # images, under which no difference is claimed


def choose_champion(task: Task, evidence: Mapping[str, Array | None]) -> tuple[str, str]:
    """The champion and the reason, as the end of "Champion: generation g, …".

    evidence: how the same validation images speak for each candidate, (N, …), the controls first
    and then the generations in order; None where it was judged on none, and then the last
    generation is champion. Else the latest that is
    within one standard error of every earlier one (the rule of Breiman et al. 1984, sec. 3.4.3, on
    paired differences). Not the most accurate: of a few dozen images that is the generation with
    most luck, while that students improve on their teachers is what self-training rests on. Nor
    the latest that is not worse beyond a 95 % interval: few images hardly ever show a collapse so
    surely. Simulated with 30 images (in the tests): of students that gain a point each, 95 to
    98 %, the one chosen has 98.0 % on average, the first of the most accurate 96.3 %; after a
    collapse from 96 to 80 % it has 95.2 %, the choice by the interval 85.7 %. The price: of
    students that lose a point each, 98 to 95 %, it has 95.4 %, the most accurate 97.8 %.
    """
    keys = list(evidence)
    judged = {key: value for key, value in evidence.items() if value is not None}
    if not judged:
        return keys[-1], "the last; there are no validation images to choose by"
    if len(judged) < len(evidence):
        unjudged = [key for key in keys if key not in judged]
        return keys[-1], f"the last; no images were held out from {_all(unjudged)} to choose by"
    for place in range(len(keys) - 1, 0, -1):
        if not any(task.beats(judged[key], judged[keys[place]]) for key in keys[:place]):
            return keys[place], _reason(task, judged, keys[place])
    return keys[0], _reason(task, judged, keys[0])


def _reason(task: Task, judged: Mapping[str, Array], champion: str) -> str:
    keys, images = list(judged), len(judged[champion])
    if len(keys) == 1:
        return "the only one"
    if champion == keys[-1]:
        return f"the latest, and no other one clearly better on {counted(images, 'image')} held out"
    last = keys[-1]
    scores = {key: task.scores(each).score for key, each in judged.items()}
    better = max(keys[:-1], key=lambda key: scores[key])
    held_out = f"{counted(images, 'image')} held out"
    behind = task.behind(scores[last], scores[better], images, held_out)
    unsure = ", too few to be sure" if images < FEW else ""
    return f"since {_the(last)} {behind} than {_the(better)}{unsure}"


def _all(models: Sequence[str]) -> str:
    """ "generations 2, 3 and the control longer"."""
    generations = [key for key in models if key.isdigit()]
    plural = "s" if len(generations) > 1 else ""
    named = [f"generation{plural} {', '.join(generations)}"] if generations else []
    return " and ".join([*named, *(_the(key) for key in models if not key.isdigit())])


def _the(model: str) -> str:
    """A model in a sentence: "generation 2", "the control longer"."""
    words = model_words(model)
    return f"the {words}" if words.startswith("control") else words


def model_words(model: str) -> str:
    """ "2" → "generation 2"; "2.1" → "generation 2 with seed 1"; "0.longer" → "control longer"."""
    generation, _, name = model.partition(".")
    if name and not name.isdigit():
        return f"control {name}"
    return f"generation {generation}" + (f" with seed {name}" if name else "")


NAME_CHARACTERS = 16
MOST_COMPARED = 50_000  # validation images; one JSON file holds what speaks for a model


@dataclass(frozen=True)
class Promotion:
    """Whether the challenger becomes champion, and why, as the end of a sentence."""

    moves: bool
    reason: str


def content_name(image: bytes) -> str:
    """A name of an image that its content alone decides."""
    return hashlib.sha256(image).hexdigest()[:NAME_CHARACTERS]


def rows_by_content(images: Iterable[bytes], most: int = MOST_COMPARED) -> dict[str, int]:
    """The row of each image by its content, of copies the last; of more than `most` the first
    names, which are about the same share of any set of images."""
    rows: dict[str, int] = {}
    for row, image in enumerate(images):
        rows[content_name(image)] = row
        if len(rows) > 2 * most:
            rows = dict(sorted(rows.items())[:most])
    return dict(sorted(rows.items())[:most])


def promote(
    task: Task,
    champion: Mapping[str, Any] | None,
    challenger: Mapping[str, Any],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Promotion:
    """Compare two models on the validation images that both were measured on (significance).

    Both: what speaks for the model (Task.evidence_values) by content_name; champion: None where
    there is none yet. Neither model has trained on its own validation images, so on those they
    share the comparison is fair though their training data differ.
    """
    if champion is None:
        return Promotion(True, "the first")
    shared = sorted(champion.keys() & challenger.keys())
    before, after = (task.evidence_of([m[k] for k in shared]) for m in (champion, challenger))
    if not shared or before.shape != after.shape:  # as of other classes
        return Promotion(False, "no validation image in common with the champion")
    test = task.compare(before, after, bootstrap)
    figures = (
        f"{100 * test.difference:+.1f} points ({100 * test.low:.1f} to {100 * test.high:.1f}) "
        f"against the champion on {counted(len(shared), 'validation image')}"
    )
    return Promotion(test.verdict == "better", f"{figures}: {test.verdict}")
