"""What two runs of the same parameters came to, one of which has lost nodes.

Exact: predictions and pseudo-labels. The same shard gives the same bytes whoever predicts it, so
the shards of the generation whose prediction was disturbed are compared by their SHA-256, and so
is the teacher that made them. Not exact: the student that went on with fewer workers. Each worker
normalises its own part of a batch, and sums are rounded in another order. Of students, the right
and wrong answers on the same test images are compared, by the paired test of evaluate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.demo_losses import Seen
from cluster.demo_project import Project
from pipeline.data.shards import iter_shards, read_manifest
from pipeline.evaluate.metrics import correct
from pipeline.evaluate.run import load_result
from pipeline.evaluate.significance import compare
from pipeline.files import file_digest

DISTURBED = "1"  # the generation whose prediction and training lose a node


@dataclass(frozen=True)
class Check:
    """Something that has to hold, and whether it does."""

    holds: bool
    words: str

    def __str__(self) -> str:
        return f"{'ok ' if self.holds else 'NOT'}  {self.words}"


def verdict(calm: Project, disturbed: Project, seen: Seen, retried: Sequence[str]) -> list[Check]:
    """All that the demonstration is to show; raises DataError where a run has left nothing."""
    generations = list(disturbed.values["generations"])
    return [
        check_losses(seen, retried),
        *(check_images(disturbed, generation) for generation in generations),
        check_exact(calm, disturbed),
        *(check_accuracy(calm, disturbed, generation) for generation in generations),
    ]


def check_losses(seen: Seen, retried: Sequence[str]) -> Check:
    """Whether a node was lost in prediction and in training, and work was done again for it."""
    went_on = bool(seen.logged) and seen.logged.count(seen.logged[0]) == 1
    words = (
        f"{len(seen.lost)} nodes lost; predicted again elsewhere: {len(retried)} shards; trained "
        f"again from the last state: {seen.steps_again} of {len(seen.logged)} logged steps"
    )
    return Check(len(seen.lost) == 2 and bool(retried) and went_on, words)


def check_images(project: Project, generation: str) -> Check:
    """Whether each unlabelled image has one prediction, by its ID."""
    lost, doubled, images = images_lost(
        ids_in(project.layout.prepared / "unlabeled"),
        ids_in(project.layout.predictions(generation)),
    )
    words = f"generation {generation}: {images} images predicted, {lost} lost, {doubled} doubled"
    return Check(not lost and not doubled, words)


def images_lost(wanted: Counter[str], found: Counter[str]) -> tuple[int, int, int]:
    """How many images are missing or too many in `found`, and how many there are."""
    return (wanted - found).total(), (found - wanted).total(), found.total()


def ids_in(folder: Path) -> Counter[str]:
    """How often each image's ID is in the shards of a folder."""
    return Counter(
        str(name)
        for table in iter_shards(folder, ["id"])
        for name in table.column("id").to_pylist()
    )


def check_exact(calm: Project, disturbed: Project) -> Check:
    """Whether the teacher, its predictions and the pseudo-labels are the same to the byte."""
    here, there = (exact_digests(project) for project in (calm, disturbed))
    differing = [name for name in here if here[name] != there[name]]
    words = "the same to the byte as without losses: " + ", ".join(here)
    return Check(not differing, f"{words}; differing: {', '.join(differing) or 'none'}")


def exact_digests(project: Project) -> dict[str, object]:
    """Digests of what losses must not change, by what it is."""
    layout = project.layout
    folders = {
        "predictions": layout.predictions(DISTURBED),
        "pseudo-labels": layout.pseudo_labels(DISTURBED),
    }
    return {"teacher": file_digest(layout.model("0") / "model.safetensors")} | {
        name: [(entry.rows, entry.sha256) for entry in read_manifest(folder).shards]
        for name, folder in folders.items()
    }


def check_accuracy(calm: Project, disturbed: Project, generation: str) -> Check:
    """Whether the student is as good as its like without losses, on the same test images."""
    results = [load_result(project.layout.evaluation(generation)) for project in (calm, disturbed)]
    right = [correct(result.test_log_probs, result.test_labels) for result in results]
    test = compare(right[0], right[1])
    words = (
        f"generation {generation}: test accuracy {right[1].mean():.2%} with losses, "
        f"{right[0].mean():.2%} without; {test.gained} images gained, {test.lost} lost "
        f"(p = {test.p_value:.2f})"
    )
    same_bytes = [
        file_digest(project.layout.model(generation) / "model.safetensors")
        for project in (calm, disturbed)
    ]
    exact = "the same weights" if same_bytes[0] == same_bytes[1] else "weights of its own"
    return Check(test.verdict not in ("better", "worse"), f"{words}; {exact}")
