"""Say what the figures show, and no more than they show."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.result import Evaluation
from pipeline.evaluate.significance import PairedTest
from pipeline.report.data import ControlResult, GenerationResult, ReportData

ABSENT = "–"


@dataclass(frozen=True)
class Answer:
    """The verdict: a short answer, its tone for the page, and the sentences behind it."""

    short: str
    tone: str
    sentences: tuple[str, ...]


def percent(share: float | None, digits: int = 1) -> str:
    """0.981 → "98.1 %"; None → a dash."""
    return ABSENT if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """0.032 → "+3.2 points"."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def span(part: Evaluation | Baseline) -> str:
    """The interval of an accuracy: "97.1 to 98.9 %"; a dash where there is none."""
    if part.low is None or part.high is None:
        return ABSENT
    return f"{100 * part.low:.1f} to {100 * part.high:.1f} %"


def p_value(value: float) -> str:
    """A p-value with the figures that matter: "p = 0.031", "p < 0.0001"."""
    if value < 0.0001:
        return "p < 0.0001"
    return f"p = {value:.4f}" if value < 0.01 else f"p = {value:.2f}"


def change(test: PairedTest) -> str:
    """A paired test: "+3.2 points (2.0 to 4.4), p < 0.0001"."""
    low, high = (f"{100 * bound:.1f}".replace("-", "−") for bound in (test.low, test.high))
    return f"{points(test.difference)} ({low} to {high}), {p_value(test.p_value)}"


def answer(data: ReportData) -> Answer:
    """Did the unlabelled images help? The champion against generation 0, on the test images.

    And against the controls, where there are any: more steps might have helped as much.
    """
    if len(data.generations) < 2:
        return Answer(
            "Nothing to compare yet.",
            "neutral",
            ("Only generation 0 was trained, on the labels alone.", *_context(data)),
        )
    if data.champion_result.against_first is None:
        last = data.generations[-1]
        chosen = ["Generation 0, trained on the labels alone, was chosen over its students."]
        if last.against_first is not None:
            chosen.append(_gain(last, last.against_first))
        return Answer("Not chosen.", "worse", (*chosen, *_context(data)))
    test = data.champion_result.against_first
    sentences = (_gain(data.champion_result, test), *_context(data))
    if test.verdict == "worse":
        return Answer("No, they made the model worse.", "worse", sentences)
    if any(control.champion.verdict == "worse" for control in data.controls):
        return Answer("No: the labels alone, trained for longer, do better.", "worse", sentences)
    if test.verdict != "better":
        return Answer("Not shown: no difference beyond chance.", "neutral", sentences)
    if any(control.champion.verdict != "better" for control in data.controls):
        short = "Not shown: the labels alone, trained for longer, do as well."
        return Answer(short, "neutral", sentences)
    return Answer("Yes, the unlabelled images helped.", "better", sentences)


def body_sentences(data: ReportData) -> list[str]:
    """Which generations are classifiers on features, and of which network; none without any."""
    bodies: dict[str, list[str]] = {}
    for part in data.generations:
        if part.body is not None:
            bodies.setdefault(part.body, []).append(part.generation)
    return [
        f"Generation{'s' if len(keys) > 1 else ''} {', '.join(keys)}: a classifier on features of "
        f"{body}, solved to its optimum, so there are no steps to show."
        for body, keys in bodies.items()
    ]


def validation_note(data: ReportData) -> str:
    """What there being validation images, or not, means for the choices."""
    if data.folds:
        return _folds_note(data)
    if data.has_validation:
        return "Choices (calibration, champion) were made on the validation images, not on test."
    return (
        "No validation images: choices that need them are off. Confidence is not calibrated, and "
        "the champion is not chosen by accuracy."
    )


def _folds_note(data: ReportData) -> str:
    note = "No label was given up for validation. "
    if data.has_validation:
        note += (
            "Classifiers on features were calibrated and judged on the labelled images, each "
            "predicted by one that had not seen it. "
        )
    if any(part.validation is None for part in data.generations):
        note += "Fine-tuned networks are judged on the test images alone, and are not calibrated."
    return note.rstrip()


def ensemble_sentence(data: ReportData) -> str | None:
    """The ensemble beside the champion, or None where there is none."""
    if data.ensemble is None:
        return None
    members = f"The average of all {len(data.generations)} generations"
    if data.num_seeds:
        again = "a student" if data.num_seeds == 1 else f"{data.num_seeds} students"
        members += f" and {again} trained with other seeds"
    if data.ensemble_weights:
        weights = ", ".join(
            f"{percent(weight, 0)} {model_words(key)}"
            for key, weight in data.ensemble_weights.items()
            if weight > 0
        )
        members = f"The ensemble chosen on the validation images ({weights})"
    return f"{members} reaches {percent(data.ensemble.accuracy)} ({span(data.ensemble)})."


def model_words(model: str) -> str:
    """ "2" → "generation 2"; "2.1" → "generation 2 with seed 1"."""
    generation, _, seed = model.partition(".")
    return f"generation {generation}" + (f" with seed {seed}" if seed else "")


def issues_sentence(data: ReportData) -> str | None:
    """How many labels the models contradict and what that means, None where none."""
    count = len(data.label_issues)
    if not count:
        return None
    images = "1 labelled image" if count == 1 else f"{count:,} labelled images"
    return (
        f"The models see another class than the label on {images}, all in label_issues.csv: look "
        "at them. They learnt from these very labels, so wrong ones may be missing here; none was "
        "changed."
    )


def baseline_sentence(data: ReportData) -> str | None:
    """The peer's accuracy, or why there is none."""
    baseline = data.baseline
    if baseline is None:
        return None
    if baseline.accuracy is None:
        return f"A simpler method, {baseline.name}, for comparison: {baseline.note}."
    note = f" ({baseline.note})" if baseline.note else ""
    sentence = (
        f"A simpler method, {baseline.name}, reaches {percent(baseline.accuracy)} "
        f"({span(baseline)}){note}"
    )
    gain = data.champion_result.test.accuracy - baseline.accuracy
    return f"{sentence}; the champion is {points(gain)} from that."


def control_sentence(control: ControlResult) -> str:
    """What the labels alone come to with more steps, and the champion against that."""
    match = "as many as all generations together"
    if control.steps != control.all_steps:
        match = f"all generations together have {control.all_steps:,}"
    test = control.result.test
    how = " as students are" if control.like == "student" else ""
    sentence = (
        f"The labels alone, trained{how} for {control.steps:,} steps ({match}), reach "
        f"{percent(test.accuracy)} ({span(test)}); the champion against that: "
        f"{change(control.champion)}"
    )
    if control.champion.verdict == "better":
        return f"{sentence}."
    if control.champion.difference >= 0:
        return f"{sentence}: no gain beyond chance."
    return (
        f"{sentence}; to ship it instead: python -m stages.export "
        f"--model models/0.{control.name}. The test images then no longer measure it fairly."
    )


def trial_sentence(data: ReportData) -> str | None:
    """Why students are networks or classifiers on features, None where params.yaml says it."""
    trial = data.trial
    if trial is None:
        return None
    networks = trial.network > trial.head
    won = "fine-tuned networks" if networks else "classifiers on features"
    return (
        f"Students are {won}: of {trial.images:,} labelled images, each held out once, a network "
        f"fine-tuned on the other labels has {trial.network:,} right, a classifier on features "
        f"{trial.head:,}."
    )


def _gain(result: GenerationResult, test: PairedTest) -> str:
    return (
        f"Generation {result.generation} is right on {percent(result.test.accuracy)} "
        f"({span(result.test)}) of {result.test.images:,} test images, against generation 0, "
        f"which saw the labels alone: {change(test)}. {test.gained} images were gained, "
        f"{test.lost} lost."
    )


def _context(data: ReportData) -> list[str]:
    extra = [control_sentence(control) for control in data.controls]
    extra.append(f"Champion: generation {data.champion}, {data.champion_reason}.")
    more = (trial_sentence(data), ensemble_sentence(data), baseline_sentence(data))
    return extra + [sentence for sentence in more if sentence]
