"""Choose before anything is trained: RandAugment's numbers, or what a generation is to be.

augment.search chooses num_ops and magnitude on the validation images; transfer.mode: auto whether
students are classifiers on features or fine-tuned networks, out of fold. Where neither is asked
for it only writes down what params.yaml says, and starts neither torch nor a tracked run.
"""

from dataclasses import asdict

from pipeline.data.features import load_features
from pipeline.files import write_json
from pipeline.progress import progress
from pipeline.self_training.choices import policy_metrics, save_choices
from pipeline.workflow.stage import Stage, result_line, run_stage


def search(stage: Stage) -> None:
    """Write choices.json and metrics/search.json."""
    layout, augment = stage.layout, stage.params.augment
    if augment.search is not None:
        shown = _search_policy(stage)
    elif stage.params.transfer.mode == "auto":
        shown = _try_modes(stage)
    else:
        save_choices(layout.choices, augment.num_ops, augment.magnitude)
        write_json(layout.metrics("search"), policy_metrics(augment.num_ops, augment.magnitude))
        shown = f"no search; {augment.num_ops} operations at {augment.magnitude:g}"
    result_line(stage, shown)


def _search_policy(stage: Stage) -> str:
    from pipeline.train.search import best_trial, search_prepared

    layout, training = stage.layout, stage.params.training("0")
    search = stage.params.augment.search
    assert search is not None
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
        save_choices(layout.choices, best.num_ops, best.magnitude, rows)
        run.tracker.metrics(metrics)
        run.tracker.artifact(layout.choices)
    shown = f"{best.num_ops} operations at {best.magnitude:g}, the best of {len(trials)} pairs"
    return f"{shown}: validation accuracy {best.accuracy:.2%}, NLL {best.nll:.4f}"


def _try_modes(stage: Stage) -> str:
    from pipeline.train.mode_trial import FOLDS, compare_prepared
    from pipeline.train.transfer import find_source

    layout, params = stage.layout, stage.params
    training = params.shared_training
    transfer, images = training.transfer, layout.prepared / "labeled"
    source = find_source(transfer.source, sha256=transfer.sha256, root=stage.root, teacher=None)
    assert source is not None  # Params refuses auto without one
    inputs = layout.data_digests("labeled") | {"transfer": source.digest}
    inputs |= layout.digests_of(features=layout.features("labeled"))
    parameters = training.model_dump(mode="json") | {"seed": params.seed}
    with stage.run(inputs, parameters) as run:
        with progress(stage.title, FOLDS, "folds") as advance:
            trial = compare_prepared(
                layout.prepared,
                load_features(layout.features("labeled"), images),
                training,
                source,
                seed=params.seed,
                kept=run.scratch,
                advance=advance,
            )
        augment = params.augment
        found = asdict(trial)
        save_choices(layout.choices, augment.num_ops, augment.magnitude, mode=trial.mode)
        metrics = policy_metrics(augment.num_ops, augment.magnitude)
        metrics |= {f"folds/{name}": float(count) for name, count in found.items()}
        write_json(layout.metrics("search"), metrics)
        run.tracker.metrics(metrics)
        run.tracker.artifact(layout.choices)
    won = "fine-tuned networks" if trial.mode == "layerwise" else "classifiers on features"
    return (
        f"students are {won}: of {trial.images} labels out of fold the network has "
        f"{trial.network} right after {transfer.trial_steps} steps, the classifier {trial.head}"
    )


if __name__ == "__main__":
    run_stage("search", search)
