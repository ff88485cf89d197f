"""Average all generations with equal weight, and name the champion by the validation images."""

from pipeline.evaluate.champion import choose_champion
from pipeline.evaluate.ensemble import average_log_probs
from pipeline.evaluate.result import evaluate, evaluation_to_json, flat_metrics
from pipeline.evaluate.run import load_result
from pipeline.files import write_json
from pipeline.runtime.stage import Stage, result_line, run_stage


def ensemble(stage: Stage) -> None:
    """Write ensemble.json and metrics/ensemble.json."""
    layout, how, keys = stage.layout, stage.params.evaluate, stage.params.model_keys
    layout.remove_leftovers(keys)
    bootstrap = how.model_dump(include={"bootstrap_samples", "interval"})
    bootstrap["seed"] = stage.params.seed
    inputs = {f"evaluation.{key}": layout.evaluation_digest(key) for key in keys}
    with stage.run(inputs, bootstrap) as run:
        results = {key: load_result(layout.evaluation(key)) for key in keys}
        labels = results["0"].test_labels
        test = evaluate(
            average_log_probs([r.test_log_probs for r in results.values()]), labels, **bootstrap
        )
        validation = None
        if results["0"].validation is not None:
            average = average_log_probs([r.validation_log_probs for r in results.values()])
            validation = evaluate(average, results["0"].validation_labels, **bootstrap)
        champion, reason = choose_champion({key: r.validation for key, r in results.items()})
        metrics = flat_metrics(test, validation=validation)
        write_json(
            layout.ensemble,
            {"test": evaluation_to_json(test), "champion": champion, "champion_reason": reason},
        )
        write_json(layout.metrics("ensemble"), metrics)
        run.tracker.metrics(metrics)
        run.tracker.tags({"champion": champion}, lineage=True)
    shown = f"test accuracy {test.accuracy:.2%} ({test.low:.2%} to {test.high:.2%})"
    result_line(stage, f"{shown} of {len(keys)} models; champion: generation {champion}, {reason}")


if __name__ == "__main__":
    run_stage("ensemble", ensemble)
