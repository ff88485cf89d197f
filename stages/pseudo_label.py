"""Let a generation's teacher label the unlabelled images, shard by shard.

Networks look at the images with Ray Data; classifiers on features are asked here, in seconds.
"""

from pathlib import Path

from pipeline.data.features import body_of
from pipeline.data.storage import StoredFolder, open_storage
from pipeline.data.stored_shards import mark_in_use, missing_shards, stored_prefix, upload_shards
from pipeline.files import publish_folder
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.teaching import Teaching
from pipeline.models.spec import read_spec, teacher_chain
from pipeline.progress import progress
from pipeline.workflow.guard import check_teacher
from pipeline.workflow.refining import embeddings_of, refine
from pipeline.workflow.stage import Stage, result_line, run_stage


def pseudo_label(stage: Stage) -> None:
    """Write what the teacher thinks of each unlabelled image to predictions/."""
    layout, predict, seed = stage.layout, stage.params.predict, stage.params.seed
    storage = open_storage(stage.params.storage.url)
    check_teacher(stage)
    last = stage.params.generations[stage.key].teacher
    before = stage.params.model_keys[: int(stage.key)] if predict.teacher == "ensemble" else [last]
    models = [layout.model(key) for key in before]
    unlabeled = layout.prepared / "unlabeled"
    has_features = body_of(layout.features("unlabeled")) is not None
    refined = has_features or predict.propagation is not None
    inputs = layout.data_digests("unlabeled")
    if refined:
        inputs |= layout.data_digests("labeled")
    if has_features:
        parts = ("labeled", "unlabeled")
        inputs |= layout.digests_of(**{f"features.{part}": layout.features(part) for part in parts})
    inputs |= {f"teacher.{key}": digest for key, digest in teacher_chain(models).items()}
    parameters = {"predict": predict.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, parameters) as run:
        here = run.scratch / "predictions"
        by_teacher = run.scratch / "by_teacher" if refined else here
        out: Path | StoredFolder = by_teacher
        if storage is not None:
            out = stored_prefix(storage, "predictions", run.fingerprint)
            mark_in_use(out)
        embeddings = embeddings_of(stage, run, models[-1], storage)
        predictor = ShardPredictor(
            models=tuple(models),
            folder=unlabeled,
            out=out,
            params=predict,
            seed=seed,
            features=layout.features("unlabeled") if has_features else None,
            embeddings=embeddings,
        )
        todo = missing_shards(unlabeled, out)
        if predictor.needs_images:
            from pipeline.ray.map_shards import distributed_map

            distributed_map(
                (predictor, todo),
                actors=stage.params.run.actor_range,
                gpus_per_actor=stage.params.run.gpus_per_actor,
                scratch=run.scratch,
                title=stage.title,
            )
        else:
            with progress(stage.title, predictor.manifest.rows) as advance:
                for number in todo:
                    advance(predictor(number))
        num_classes = len(read_spec(models[-1]).classes)
        manifest = finish_predictions(unlabeled, out, num_classes, manifest_in=by_teacher)
        if refined:
            refine(stage, run, models[-1], by_teacher, here, embeddings)
            teaching = Teaching(propagation=predict.propagation).noted()
            manifest = finish_predictions(unlabeled, here, num_classes, notes=teaching)
            upload_shards(here, storage, "predictions")
        publish_folder(here, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
        run.images = manifest.rows
    by = f" by {len(models)} teachers" if len(models) > 1 else ""
    result_line(stage, f"{manifest.rows} images in {len(manifest.shards)} shards{by}")


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, models="generations")
