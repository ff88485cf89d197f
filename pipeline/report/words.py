"""Say what the figures show, and no more than they show."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import counted
from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.champion import model_words
from pipeline.evaluate.label_issues import MOST_ISSUES
from pipeline.evaluate.result import Evaluation
from pipeline.report.data import ControlResult, GenerationResult, ReportData
from pipeline.tasks import Task
from pipeline.tasks.significance import PairedTest

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
    """The interval of a score: "97.1 to 98.9 %"; a dash where there is none."""
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
    champion, controls = data.champion_result, [part.champion.verdict for part in data.controls]
    if len(data.generations) < 2:
        short, tone = "Nothing to compare yet.", "neutral"
        sentences = ["Only generation 0 was trained, on the labels alone."]
    elif champion.against_first is None:
        short, tone = "Not chosen.", "worse"
        chosen = model_words(data.champion).capitalize()
        sentences = [f"{chosen}, trained on the labels alone, was chosen over the students."]
        sentences += _gain(data.generations[-1], data.task)
    else:
        sentences = _gain(champion, data.task)
        if champion.against_first.verdict == "worse":
            short, tone = "No, they made the model worse.", "worse"
        elif "worse" in controls:
            short, tone = "No: the labels alone, trained for longer, do better.", "worse"
        elif champion.against_first.verdict != "better":
            torn = champion.against_first.low > 0  # one of the two tests excludes chance
            reason = "too few test images to be sure" if torn else "no difference beyond chance"
            short, tone = f"Not shown: {reason}.", "neutral"
        elif set(controls) - {"better"}:
            short = "Not shown: the labels alone, trained for longer, do as well."
            tone = "neutral"
        else:
            short, tone = "Yes, the unlabelled images helped.", "better"
    return Answer(short, tone, (*sentences, *_context(data)))


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
    if not data.folds:
        if data.has_validation:
            return (
                "Choices (calibration, champion) were made on the validation images, not on "
                "test; each of these is seen once, from the centre."
            )
        return (
            "No validation images: choices that need them are off. Confidence is not calibrated, "
            f"and the champion is not chosen by {data.task.score_words}."
        )
    note = ["No label was given up for validation."]
    if data.has_validation:
        note.append(
            "Classifiers on features were calibrated and judged on the labelled images, each "
            "predicted by one that had not seen it."
        )
    if any(part.validation is None for part in data.generations):
        note.append(
            "Fine-tuned networks are judged on the test images alone, and are not calibrated."
        )
    return " ".join(note)


def issues_sentence(data: ReportData) -> str | None:
    """How many labels the models contradict and what that means, None where none."""
    count = len(data.label_issues)
    if not count:
        return None
    shown, which = counted(count, "labelled image"), "all"
    if count == MOST_ISSUES:
        shown, which = f"{shown} or more", "the worst"
    return (
        f"The models see another class than the label on {shown}, {which} "
        "in label_issues.csv: look at them. They learnt from these very labels, so wrong ones may "
        "be missing here; none was changed."
    )


def _gain(result: GenerationResult, task: Task) -> list[str]:
    """What a student gained over generation 0, if it was compared with it."""
    test = result.against_first
    if test is None:
        return []
    images = counted(result.test.images, "test image")
    reached = f"{percent(result.test.score)} ({span(result.test)})"
    if task.image_classes:
        shown = f"is right on {reached} of {images}"
        changed = f"It gained {test.gained} of them and lost {test.lost}"
    else:
        shown = f"has a {task.score_words} of {reached} on {images}"
        changed = f"Of these {test.gained} got better and {test.lost} worse"
    return [
        f"Generation {result.generation} {shown}, against generation 0, which saw the labels "
        f"alone: {change(test)}. {changed}."
    ]


def _context(data: ReportData) -> list[str]:
    """What else bears on the answer: controls, champion, trial, ensemble and baseline."""
    heads = all(part.body is not None for part in data.generations)
    return [
        *(_control_sentence(control, heads) for control in data.controls),
        f"Champion: {model_words(data.champion)}, {data.champion_reason}.",
        *_trial_sentences(data),
        *_ensemble_sentences(data),
        *_baseline_sentences(data),
    ]


def _control_sentence(control: ControlResult, heads: bool) -> str:
    """What the labels alone come to with more steps, and the champion against that."""
    match = "as many as all generations together"
    if heads:  # which have no steps
        match = "a fine-tuned network, where the generations are classifiers on features"
    elif control.steps != control.all_steps:
        match = f"all generations together have {control.all_steps:,}"
    test = control.result.test
    like = " as students are" if control.like == "student" and not heads else ""
    sentence = (
        f"The labels alone, trained{like} for {counted(control.steps, 'step')} ({match}), reach "
        f"{percent(test.score)} ({span(test)}); the champion against that: "
        f"{change(control.champion)}"
    )
    if control.champion.verdict == "better":
        return f"{sentence}."
    if control.champion.difference >= 0:
        return f"{sentence}: no gain shown."
    return (
        f"{sentence}; to ship it instead: selftrain export "
        f"--model models/0.{control.name}. The test images then no longer measure it fairly."
    )


def _trial_sentences(data: ReportData) -> list[str]:
    """Why students are networks or classifiers on features, where a trial has chosen."""
    trial = data.trial
    if trial is None:
        return []
    networks = trial["network"] >= trial["head"]
    students = "fine-tuned networks" if networks else "classifiers on features"
    return [
        f"Students are {students}: of {counted(trial['images'], 'labelled image')}, each held out "
        f"once, a network fine-tuned on the other labels has {trial['network']:,} right, a "
        f"classifier on features {trial['head']:,}."
    ]


def _ensemble_sentences(data: ReportData) -> list[str]:
    """The ensemble beside the champion, where there is one."""
    if data.ensemble is None:
        return []
    members = f"The average of all {len(data.generations)} generations"
    if data.num_seeds:
        students = "a student" if data.num_seeds == 1 else f"{data.num_seeds} students"
        members += f" and {students} trained with other seeds"
    if data.ensemble_weights:
        weights = ", ".join(
            f"{percent(weight, 0)} {model_words(key)}"
            for key, weight in data.ensemble_weights.items()
            if weight > 0
        )
        members = f"The ensemble chosen on the validation images ({weights})"
    return [f"{members} reaches {percent(data.ensemble.score)} ({span(data.ensemble)})."]


def _baseline_sentences(data: ReportData) -> list[str]:
    """The baseline's accuracy, or why there is none."""
    baseline = data.baseline
    if baseline is None:
        return []
    if baseline.accuracy is None:
        return [f"A simpler method, {baseline.name}, for comparison: {baseline.note}."]
    note = f" ({baseline.note})" if baseline.note else ""
    gain = data.champion_result.test.score - baseline.accuracy
    return [
        f"A simpler method, {baseline.name}, reaches {percent(baseline.accuracy)} "
        f"({span(baseline)}){note}; the champion is {points(gain)} from that."
    ]
