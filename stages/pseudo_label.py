"""Let a generation's teacher label the unlabelled images, shard by shard, with Ray Data."""

from pipeline.files import replace_folder
from pipeline.labels.predict import ShardPredictor, finish_predictions, unpredicted
from pipeline.models.checkpoint import model_digest, read_spec
from pipeline.models.device import resolve_device
from pipeline.runtime.prediction import distributed_predict
from pipeline.runtime.stage import Stage, result_line, run_stage


def pseudo_label(stage: Stage) -> None:
    """Write what the teacher thinks of each unlabelled image to predictions/."""
    layout, predict, seed = stage.layout, stage.params.predict, stage.params.seed
    teacher = layout.model(stage.params.generations[stage.key].teacher)
    unlabeled = layout.prepared / "unlabeled"
    inputs = layout.data_digests("unlabeled") | {"teacher": model_digest(teacher)}
    parameters = {"predict": predict.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, parameters) as run:
        out = run.scratch / "predictions"
        predictor = ShardPredictor(
            model=teacher,
            unlabeled=unlabeled,
            out=out,
            views=predict.views,
            jitter_views=predict.jitter_views,
            batch_size=predict.batch_size,
            seed=seed,
            threads=predict.threads,
            device=resolve_device(predict.device).type,
        )
        todo = unpredicted(unlabeled, out)
        distributed_predict(predictor, todo, actors=predict.actors, title=stage.title)
        manifest = finish_predictions(unlabeled, out, len(read_spec(teacher).classes))
        replace_folder(out, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
    result_line(stage, f"{manifest.rows} images in {len(manifest.shards)} shards")


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, per_generation=True)
