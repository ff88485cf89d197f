"""What a report is made of: plain values, gathered by the stage that writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.evaluate.result import Evaluation, Robustness
from pipeline.evaluate.significance import PairedTest
from pipeline.report.galleries import Gallery


@dataclass(frozen=True)
class PseudoLabels:
    """What a generation was taught; lists are by class, accuracies None where no truth is known.

    coverage: share of the unlabelled images kept; class_imbalance: largest over smallest class;
    strangers: images that show none of the classes, None where nobody looked; dropped_strangers: of
    them, those left out; class_shares: those that predictions were aligned with, if they were.
    """

    coverage: float
    class_imbalance: float
    mean_confidence: float
    per_class: tuple[int, ...]
    accuracy: float | None = None
    accuracy_per_class: tuple[float | None, ...] = ()
    strangers: int | None = None
    dropped_strangers: int = 0
    class_shares: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TrainingCurve:
    """Losses at `steps`, and accuracy on validation at `validation_steps` (both may be empty)."""

    steps: tuple[int, ...]
    loss_labeled: tuple[float, ...]
    loss_pseudo: tuple[float, ...] = ()
    validation_steps: tuple[int, ...] = ()
    validation_accuracy: tuple[float, ...] = ()


@dataclass(frozen=True)
class GenerationResult:
    """One generation: `test` is with the test-time views, `centre` the same images without.

    findings: what the guard saw in it or in what it was taught, a sentence each; body: the frozen
    network whose features it classifies, None of a network of its own.
    """

    generation: str
    test: Evaluation
    centre: Evaluation
    validation: Evaluation | None = None
    pseudo_labels: PseudoLabels | None = None
    against_teacher: PairedTest | None = None
    against_first: PairedTest | None = None
    curve: TrainingCurve | None = None
    findings: tuple[str, ...] = ()
    robustness: Robustness | None = None
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
class Trial:
    """Labelled images held out, and how many of them a head and a network had right."""

    images: int
    head: int
    network: int


@dataclass(frozen=True)
class ParameterRow:
    """A parameter as params.yaml has it and as the preset does, both in words."""

    key: str
    value: str
    preset: str


@dataclass(frozen=True)
class ReportData:
    """All of a report; counts: as in metrics/prepare.json; unused: why files and rows are not
    used, how many, and one of them.

    The first generation is "0", the labels alone; `champion` names one of `generations`, and
    `champion_reason` says how it was chosen. ensemble_weights: by model, empty where all are
    equal; num_seeds: students trained once more for the ensemble; controls: the labels alone,
    trained for longer; trial: what chose between heads and networks, if anything; folds: validation
    is of heads on the labelled images, out of fold; label_issues: all that were found, worst first;
    preset: the nearest, "" for none; parameters: those that differ from it.
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
    trial: Trial | None = None
    folds: bool = False
    views: str = "centre"
    interval: float = 0.95
    galleries: tuple[Gallery, ...] = ()
    preset: str = ""
    parameters: tuple[ParameterRow, ...] = ()
    unused: tuple[tuple[str, int, str], ...] = ()

    @property
    def champion_result(self) -> GenerationResult:
        """The generation that `champion` names."""
        return next(part for part in self.generations if part.generation == self.champion)

    @property
    def findings(self) -> list[str]:
        """What the guard found, generation by generation."""
        return [text for part in self.generations for text in part.findings]

    @property
    def robust(self) -> list[tuple[str, Robustness]]:
        """The generations that were tested under corruptions, and what came of it."""
        return [
            (part.generation, part.robustness)
            for part in self.generations
            if part.robustness is not None
        ]

    @property
    def has_validation(self) -> bool:
        """Whether there are validation images to choose by."""
        return any(part.validation is not None for part in self.generations)
