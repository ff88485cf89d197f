"""All generations as one, the champion among them, and the labels that they contradict."""

from pipeline.errors import counted
from pipeline.evaluate.champion import model_words
from pipeline.evaluate.ensemble import judge_ensemble
from pipeline.evaluate.label_issues import find_label_issues, write_label_issues
from pipeline.evaluate.recipe import save_classifier
from pipeline.evaluate.result import load_result
from pipeline.files import write_json
from pipeline.models.spec import model_digest
from pipeline.workflow.shipping import registered_name, shipped, write_evidence
from pipeline.workflow.stage import Stage, result_line, run_stage


def ensemble(stage: Stage) -> None:
    """Write ensemble.json, label_issues.csv and metrics/ensemble.json; log the model to ship."""
    layout, params, keys = stage.layout, stage.params.ensemble, stage.params.ensemble_keys
    task, candidates = stage.task, [*stage.params.control_keys, *stage.params.model_keys]
    layout.remove_leftovers(stage.params.all_models)
    bootstrap = stage.params.evaluate.model_dump(include={"bootstrap_samples", "interval"})
    bootstrap["seed"] = stage.params.seed
    inputs = {f"evaluation.{key}": layout.evaluation_digest(key) for key in stage.params.all_models}
    inputs |= layout.data_digests("labeled")
    inputs |= {f"model.{key}": model_digest(layout.model(key)) for key in keys}
    views = stage.params.evaluate.model_dump(include={"views", "jitter_views"})
    with stage.run(inputs, bootstrap | views | {"ensemble": params.model_dump(mode="json")}) as run:
        folders = {key: layout.evaluation(key) for key in stage.params.all_models}
        results = {key: load_result(folder, task) for key, folder in folders.items()}
        judged = judge_ensemble(
            task,
            {key: results[key] for key in keys},
            params.method,
            candidates={key: results[key] for key in candidates},
            interval=bootstrap["interval"],
        )
        issues = []
        if task.image_classes:
            issues = find_label_issues(
                layout.prepared / "labeled",
                {key: layout.labeled_predictions(key) for key in judged.members},
                judged.members,
                layout.classes,
                least_margin=params.label_issue_margin,
            )
        metrics = judged.metrics(task) | {"label_issues": len(issues)}
        write_json(layout.ensemble, judged.to_json(task))
        write_label_issues(layout.label_issues, issues)
        write_json(layout.metrics("ensemble"), metrics)
        models, recipe = shipped(layout, stage.params)
        save_classifier(run.scratch / "classifier", models, recipe)
        run.tracker.model(run.scratch / "classifier")
        evidence = run.scratch / "validation.json"
        write_evidence(evidence, layout.prepared / "validation", results, recipe, task)
        compared = {"samples": bootstrap["bootstrap_samples"], "interval": bootstrap["interval"]}
        compared["task"] = task.name
        run.tracker.register(registered_name(stage.params), evidence, compared)
        run.tracker.metrics(metrics)
        run.tracker.artifact(layout.label_issues)
        run.tracker.tags({"champion": judged.champion}, lineage=True)
    shown, test = "", judged.test
    if test:
        shown = f"test {task.score_words} {test.score:.2%} ({test.low:.2%} to {test.high:.2%}) of "
        shown += f"{counted(len(judged.members), 'model')}; "
    issue_note = (
        f"; {counted(len(issues), 'label')} contradicted: label_issues.csv" if issues else ""
    )
    champion = f"champion: {model_words(judged.champion)}, {judged.champion_reason}"
    result_line(stage, shown + champion + issue_note)


if __name__ == "__main__":
    run_stage("ensemble", ensemble)
