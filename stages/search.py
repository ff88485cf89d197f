"""Choose before anything is trained: RandAugment's numbers, or what a generation is to be.

augment.search chooses num_ops and magnitude on the validation images; transfer.mode: auto, out of
fold, whether students are heads or networks. Without both neither torch nor a tracked run starts.
"""

from dataclasses import asdict

from pipeline.data.features import load_features
from pipeline.params import SearchParams
from pipeline.progress import progress
from pipeline.self_training.choices import Choices
from pipeline.workflow.stage import Run, Stage, result_line, run_stage


def search(stage: Stage) -> None:
    """Write choices.json and metrics/search.json."""
    layout, augment = stage.layout, stage.params.augment
    if augment.search is not None:
        shown = _search_policy(stage, augment.search)
    elif stage.params.transfer.mode == "auto":
        shown = _try_modes(stage)
    else:
        Choices(augment.num_ops, augment.magnitude).write(layout.choices, layout.metrics("search"))
        shown = f"no search; {augment.num_ops} operations at {augment.magnitude:g}"
    result_line(stage, shown)


def _search_policy(stage: Stage, search: SearchParams) -> str:
    from pipeline.train.trials import Trials, best_policy

    layout, training, seed = stage.layout, stage.params.training("0"), stage.params.seed
    parameters = training.model_dump(mode="json") | {"seed": seed}
    parameters["search"] = search.model_dump(mode="json")
    with (
        stage.run(layout.data_digests("labeled", "validation"), parameters) as run,
        progress(stage.title, len(search.pairs) * search.seeds, "trials") as advance,
    ):
        trials = Trials.of_prepared(
            layout.prepared, training, seed=seed, folder=run.scratch, advance=advance
        )
        best, task = best_policy(tried := trials.search_policy(search)), trials.data.task
        _write(stage, Choices(best.num_ops, best.magnitude, [t.figures(task) for t in tried]), run)
    return best.describe(len(tried), task)


def _try_modes(stage: Stage) -> str:
    from pipeline.train.transfer import find_source, read_source
    from pipeline.train.trials import FOLDS, Trials

    layout, training, seed = stage.layout, stage.params.shared_training, stage.params.seed
    transfer, features = training.transfer, layout.features("labeled")
    source = find_source(transfer.source, sha256=transfer.sha256, root=stage.root, teacher=None)
    assert source is not None  # Params refuses auto without one
    inputs = layout.data_digests("labeled") | {"transfer": source.digest}
    inputs |= layout.digests_of(features=features)
    with (
        stage.run(inputs, training.model_dump(mode="json") | {"seed": seed}) as run,
        progress(stage.title, FOLDS, "folds") as advance,
    ):
        trial = Trials.of_prepared(
            layout.prepared, training, seed=seed, folder=run.scratch, advance=advance
        ).compare_modes(
            load_features(features, layout.prepared / "labeled"),
            read_source(source.name, source.path, training.model.name),
        )
        augment, folds = stage.params.augment, asdict(trial)
        choices = Choices(augment.num_ops, augment.magnitude, mode=trial.mode, folds=folds)
        _write(stage, choices, run)
    return trial.describe(transfer.trial_steps)


def _write(stage: Stage, choices: Choices, run: Run) -> None:
    choices.write(stage.layout.choices, stage.layout.metrics("search"))
    run.tracker.metrics(choices.metrics)
    run.tracker.artifact(stage.layout.choices)


if __name__ == "__main__":
    run_stage("search", search)
