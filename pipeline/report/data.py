"""What a report is made of: plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.corruption_error import Robustness
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.evaluate.result import Evaluation
from pipeline.labels.audit import Audit
from pipeline.params.presets import Difference
from pipeline.report.galleries import Gallery, ShownImage
from pipeline.report.mistakes import Mistakes
from pipeline.report.originals import Picture
from pipeline.tasks import Task, open_task
from pipeline.tasks.significance import PairedTest

Curve = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class GenerationResult:
    """One generation: `test` is with the test-time views, `centre` the same images without.

    pseudo_labels: what it was taught, None of the labels alone; losses, validations: by step, the
    columns of its curves, {} of a head, which is solved; findings: what the guard saw in it or in
    what it was taught, a sentence each; body: the frozen network whose features it classifies, None
    of a network of its own.
    """

    generation: str
    test: Evaluation
    centre: Evaluation
    validation: Evaluation | None = None
    against_teacher: PairedTest | None = None
    against_first: PairedTest | None = None
    robustness: Robustness | None = None
    pseudo_labels: Audit | None = None
    losses: Curve = field(default_factory=dict)
    validations: Curve = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    body: str | None = None


@dataclass(frozen=True)
class ControlResult:
    """Generation 0 trained once more for `steps` steps; all_steps: of all generations together.

    champion: the champion against it, on the same test images; like: whose training it had,
    "teacher" or "student".
    """

    name: str
    steps: int
    all_steps: int
    result: GenerationResult
    champion: PairedTest
    like: str = "teacher"


@dataclass(frozen=True)
class ReportData:
    """All of a report; counts: as in metrics/prepare.json; unused: why files and rows are not
    used, how many, and one of them.

    The first generation is "0", the labels alone; `champion` names one of them or of the controls,
    and `champion_reason` says how it was chosen. ensemble_weights: by model, empty where all are
    equal; num_seeds: students trained once more for the ensemble; controls: the labels alone,
    trained for longer; trial: how many labelled images were held out, and how many of them a head
    and a network had right, None without a trial; folds: validation is of heads on the labelled
    images, out of fold; label_issues: all that were found, worst first; preset: the nearest, "" for
    none; parameters: those that differ from it; from_scratch: no model starts from weights, though
    the images are large enough and coloured; mistakes: the champion's on the test images, None for
    none; pictures: by id, of images that are shown, where there are larger ones; worst: of test
    images, where an image has no single class.
    """

    dataset: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    generations: tuple[GenerationResult, ...]
    champion: str
    champion_reason: str
    ensemble: Evaluation | None = None
    ensemble_weights: Mapping[str, float] = field(default_factory=dict)
    num_seeds: int = 0
    label_issues: tuple[LabelIssue, ...] = ()
    baseline: Baseline | None = None
    controls: tuple[ControlResult, ...] = ()
    trial: Mapping[str, int] | None = None
    folds: bool = False
    views: str = "centre"
    interval: float = 0.95
    galleries: tuple[Gallery, ...] = ()
    preset: str = ""
    parameters: tuple[Difference, ...] = ()
    unused: tuple[tuple[str, int, str], ...] = ()
    from_scratch: bool = False
    mistakes: Mistakes | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    task: Task = field(default_factory=lambda: open_task("classification"))
    worst: Gallery | None = None

    @property
    def shown_images(self) -> list[ShownImage]:
        """Those of all galleries that may be shown larger, in the order of the page."""
        galleries = [*self.galleries]
        if self.mistakes is not None:
            galleries += [self.mistakes.surest, *(cell.gallery for cell in self.mistakes.cells)]
        return [image for gallery in galleries for image in gallery.images if image.stored]

    @property
    def champion_result(self) -> GenerationResult:
        """The generation or control that `champion` names."""
        candidates = [*self.generations, *(control.result for control in self.controls)]
        return next(part for part in candidates if part.generation == self.champion)

    @property
    def findings(self) -> list[str]:
        """What the guard found, generation by generation."""
        return [text for part in self.generations for text in part.findings]

    @property
    def taught(self) -> dict[str, Audit]:
        """What each generation with pseudo-labels was taught."""
        return {p.generation: p.pseudo_labels for p in self.generations if p.pseudo_labels}

    @property
    def robust(self) -> list[tuple[str, Robustness]]:
        """The generations that were tested under corruptions, and what came of it."""
        return [(p.generation, p.robustness) for p in self.generations if p.robustness]

    @property
    def has_validation(self) -> bool:
        """Whether there are validation images to choose by."""
        return any(part.validation is not None for part in self.generations)
