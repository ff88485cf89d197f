"""What to do next, by rule, in at most three lines."""

from __future__ import annotations

from pipeline.errors import counted
from pipeline.evaluate.champion import model_words
from pipeline.evaluate.result import weakest_classes
from pipeline.report.data import ReportData
from pipeline.report.words import answer, percent
from pipeline.tasks.significance import UNSHOWN

MOST = 3
MANY_STRANGERS = 0.05  # of the unlabelled images


def decisions(data: ReportData) -> list[str]:
    """What the figures advise, the most important first; each names what does it."""
    rules = (_ship, _strangers, _start_from_weights, _hold_out_more, _label, _stop)
    return [advice for rule in rules if (advice := rule(data))][:MOST]


def _ship(data: ReportData) -> str | None:
    best = max(data.controls, key=lambda each: each.result.test.score, default=None)
    if best is not None and best.champion.verdict == "worse":
        return (
            f"Ship the labels alone, trained for longer, which did better: "
            f"selftrain export --model models/0.{best.name} --out served_model"
        )
    first = data.champion_result.against_first
    if first is not None and first.verdict == "worse":
        return (
            "Ship generation 0, which did better: selftrain export --model models/0 "
            "--out served_model"
        )
    if answer(data).tone == "better":
        return f"Ship {model_words(data.champion)}: selftrain export --out served_model"
    return None


def _strangers(data: ReportData) -> str | None:
    last = [*data.taught.values()][-1:]
    images = sum(sum(audit.reasons.values()) for audit in last)
    strangers = sum(audit.strangers or 0 for audit in last)
    if not images or strangers < MANY_STRANGERS * images:
        return None
    return (
        f"Look at the {counted(strangers, 'unlabelled image')} ({percent(strangers / images, 0)}) "
        f"that {'seems' if strangers == 1 else 'seem'} to show none of the classes, in the gallery "
        "of strangers; select.strangers: drop leaves them out"
    )


def _start_from_weights(data: ReportData) -> str | None:
    if not data.from_scratch:
        return None
    if not data.task.image_classes:
        return (
            "If these are photographs, start from pretrained weights: transfer.source: packaged "
            "with model.name: unet/tf_efficientnet_lite0"
        )
    return (
        "If these are photographs, start from pretrained weights: selftrain init chooses them, "
        "presets/photographs.yaml has them"
    )


def _hold_out_more(data: ReportData) -> str | None:
    first = data.champion_result.against_first
    if first is None or first.verdict != UNSHOWN or first.low <= 0:
        return None
    return "Test by more labelled images: the gain that was found may be one of these few"


def _label(data: ReportData) -> str | None:
    if named := weakest_classes(data.classes, data.champion_result.test, data.task):
        tool = "" if data.task.answer_file is None else " --label-studio"
        return f"Label more images: selftrain pick --count 50{tool}; the weakest classes: {named}"
    return None


def _stop(data: ReportData) -> str | None:
    for part in data.generations:
        if part.against_teacher is not None and part.against_teacher.verdict == "worse":
            return (
                f"Generation {part.generation} is clearly worse than its teacher: look at what it "
                "learnt from, the pseudo-labels above and what you said in corrections.csv"
            )
    last = data.generations[-1]
    if last.against_teacher is None or last.against_teacher.verdict == "better":
        return None
    return f"Add no generation: generation {last.generation} is not clearly better than its teacher"
