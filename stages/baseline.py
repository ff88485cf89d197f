"""What a simpler method makes of the same labels, to measure self-training by.

Where there are features a logistic regression on them, else scikit-learn's LabelSpreading on
pixels. Neither needs torch.
"""

from dataclasses import asdict

from pipeline.data.features import body_of
from pipeline.evaluate.baseline import NAME, Baseline, absent, prepared_label_spreading
from pipeline.files import write_json
from pipeline.progress import say
from pipeline.train.head_baseline import feature_baseline
from pipeline.workflow.stage import Stage, result_line, run_stage


def baseline(stage: Stage) -> None:
    """Write metrics/baseline.json; the baseline may use the validation labels too, as labels."""
    layout, params = stage.layout, stage.params.evaluate
    parts = ("labeled", "validation", "unlabeled", "test")
    inputs = layout.data_digests(*parts)
    inputs["body"] = body_of(layout.features("labeled")) or ""
    with stage.run(inputs, {"interval": params.interval, "seed": stage.params.seed}) as run:
        result = _measured(stage, params.interval)
        write_json(layout.metrics("baseline"), asdict(result))
        if result.accuracy is not None:
            run.tracker.metrics({"test/accuracy": result.accuracy})
        run.tracker.tags({"baseline": result.name})
    shown = result.note if result.accuracy is None else f"test accuracy {result.accuracy:.2%}"
    result_line(stage, f"{result.name}: {shown}")


def _measured(stage: Stage, interval: float) -> Baseline:
    layout = stage.layout
    if not stage.task.image_classes:
        return absent(NAME, "needs one class an image")
    if stage.params.embed.source is not None:
        say(f"{stage.title}: logistic regression on the features of the labelled images")
        folder = layout.root / "features"
        return feature_baseline(
            layout.prepared, folder, len(layout.classes), seed=stage.params.seed, interval=interval
        )
    say(f"{stage.title}: scikit-learn's LabelSpreading over the pixels of all images")
    return prepared_label_spreading(layout.prepared, interval=interval)


if __name__ == "__main__":
    run_stage("baseline", baseline)
