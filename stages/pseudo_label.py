"""Let a generation's teacher label the unlabelled images, shard by shard, with Ray Data."""

from pathlib import Path

from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import mark_in_use, stored_prefix
from pipeline.files import publish_folder
from pipeline.labels.predict import ShardPredictor, finish_predictions, unpredicted
from pipeline.models.spec import read_spec, teacher_chain
from pipeline.runtime.guard import check_teacher
from pipeline.runtime.prediction import distributed_predict
from pipeline.runtime.stage import Stage, result_line, run_stage


def pseudo_label(stage: Stage) -> None:
    """Write what the teacher thinks of each unlabelled image to predictions/."""
    layout, predict, seed = stage.layout, stage.params.predict, stage.params.seed
    storage = open_storage(stage.params.storage.url)
    check_teacher(stage)
    last = stage.params.generations[stage.key].teacher
    before = stage.params.model_keys[: int(stage.key)] if predict.teacher == "ensemble" else [last]
    models = [layout.model(key) for key in before]
    unlabeled = layout.prepared / "unlabeled"
    inputs = layout.data_digests("unlabeled")
    inputs |= {f"teacher.{key}": digest for key, digest in teacher_chain(models).items()}
    parameters = {"predict": predict.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, parameters) as run:
        here = run.scratch / "predictions"
        out = here if storage is None else stored_prefix(storage, "predictions", run.fingerprint)
        if not isinstance(out, Path):
            mark_in_use(out)
        predictor = ShardPredictor(
            models=tuple(models),
            folder=unlabeled,
            out=out,
            views=predict.views,
            jitter_views=predict.jitter_views,
            batch_size=predict.batch_size,
            seed=seed,
            threads=predict.threads,
            precision=predict.precision,
            device=predict.device,
        )
        num_classes = len(read_spec(models[-1]).classes)
        todo = unpredicted(unlabeled, out)
        distributed_predict(
            predictor,
            todo,
            actors=predict.actor_range,
            gpus_per_actor=predict.gpus_per_actor,
            scratch=run.scratch,
            title=stage.title,
        )
        manifest = finish_predictions(unlabeled, out, num_classes, manifest_in=here)
        publish_folder(here, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
        run.images = manifest.rows
    by = f" by {len(models)} teachers" if len(models) > 1 else ""
    result_line(stage, f"{manifest.rows} images in {len(manifest.shards)} shards{by}")


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, models="generations")
