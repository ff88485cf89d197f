"""What a peer without a network makes of the same images: scikit-learn's LabelSpreading."""

from dataclasses import asdict

from pipeline.evaluate.baseline import prepared_label_spreading
from pipeline.files import write_json
from pipeline.progress import say
from pipeline.runtime.stage import Stage, result_line, run_stage


def baseline(stage: Stage) -> None:
    """Write metrics/baseline.json; the peer may use the validation labels too, as labels."""
    layout, how = stage.layout, stage.params.evaluate
    parts = ("labeled", "validation", "unlabeled", "test")
    bootstrap = how.model_dump(include={"bootstrap_samples", "interval"})
    bootstrap["seed"] = stage.params.seed
    say(f"{stage.title}: scikit-learn's LabelSpreading over the pixels of all images")
    with stage.run(layout.data_digests(*parts), bootstrap) as run:
        result = prepared_label_spreading(layout.prepared, **bootstrap)
        write_json(layout.metrics("baseline"), asdict(result))
        if result.accuracy is not None:
            run.tracker.metrics({"test/accuracy": result.accuracy})
    shown = result.note if result.accuracy is None else f"test accuracy {result.accuracy:.2%}"
    result_line(stage, f"LabelSpreading: {shown}")


if __name__ == "__main__":
    run_stage("baseline", baseline)
