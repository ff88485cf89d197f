"""Choose RandAugment's num_ops and magnitude on the validation images, where a search is asked for.

Without one it only writes down what params.yaml says, and starts neither torch nor a tracked run.
"""

from dataclasses import asdict

from pipeline.files import write_json
from pipeline.progress import progress
from pipeline.runtime.policy import policy_metrics, save_policy
from pipeline.runtime.stage import Stage, result_line, run_stage


def search_augment(stage: Stage) -> None:
    """Write augment_policy.json and metrics/search.json."""
    layout, augment = stage.layout, stage.params.augment
    if augment.search is None:
        save_policy(layout.policy, augment.num_ops, augment.magnitude)
        write_json(layout.metrics("search"), policy_metrics(augment.num_ops, augment.magnitude))
        result_line(stage, f"no search; {augment.num_ops} operations at {augment.magnitude:g}")
        return
    from pipeline.train.search import best_trial, search_prepared

    search, training = augment.search, stage.params.training("0")
    parameters = training.model_dump(mode="json") | {"seed": stage.params.seed}
    parameters["search"] = search.model_dump(mode="json")
    with stage.run(layout.data_digests("labeled", "validation"), parameters) as run:
        total = len(search.pairs) * search.seeds
        with progress(stage.title, total, "trials") as advance:
            trials = search_prepared(
                layout.prepared,
                training,
                search.pairs,
                steps=search.steps,
                num_seeds=search.seeds,
                seed=stage.params.seed,
                kept=run.scratch,
                advance=advance,
            )
        best, rows = best_trial(trials), [asdict(trial) for trial in trials]
        metrics = policy_metrics(best.num_ops, best.magnitude, rows)
        write_json(layout.metrics("search"), metrics)
        save_policy(layout.policy, best.num_ops, best.magnitude, rows)
        run.tracker.metrics(metrics)
        run.tracker.artifact(layout.policy)
    shown = f"{best.num_ops} operations at {best.magnitude:g}, the best of {len(trials)} pairs"
    result_line(stage, f"{shown}: validation accuracy {best.accuracy:.2%}, NLL {best.nll:.4f}")


if __name__ == "__main__":
    run_stage("search_augment", search_augment)
