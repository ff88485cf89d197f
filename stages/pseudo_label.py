"""Let a generation's teacher label the unlabelled images, shard by shard.

Networks look at the images with Ray Data; classifiers on features are asked here, in seconds.
"""

from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import missing_shards, upload_shards
from pipeline.errors import counted
from pipeline.files import publish_folder
from pipeline.labels.predict import ShardPredictor
from pipeline.models.spec import teacher_chain
from pipeline.progress import progress
from pipeline.self_training.guard import check_teacher
from pipeline.self_training.pseudo_label import (
    EMBEDDINGS,
    PseudoLabeling,
    has_features,
    needs_own_features,
)
from pipeline.workflow.stage import Run, Stage, result_line, run_stage

PARTS = ("labeled", "unlabeled")


def pseudo_label(stage: Stage) -> None:
    """Write what the teacher thinks of each unlabelled image to predictions/."""
    layout, predict, seed = stage.layout, stage.params.predict, stage.params.seed
    storage, features = open_storage(stage.params.storage.url), layout.body.parent
    last = stage.params.generations[stage.key].teacher
    check_teacher(stage.params, stage.key, layout.metrics("guard", last))
    before = stage.params.model_keys[: int(stage.key)] if predict.teacher == "ensemble" else [last]
    models = [layout.model(key) for key in before]
    refined = has_features(features) or predict.propagation is not None
    inputs = layout.data_digests(*(PARTS if refined else PARTS[1:]))
    if has_features(features):
        inputs |= layout.digests_of(**{f"features.{part}": features / part for part in PARTS})
    inputs |= {f"teacher.{key}": digest for key, digest in teacher_chain(models).items()}
    parameters = {"predict": predict.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, parameters) as run:
        finished, embeddings = run.scratch / "predictions", None
        by_teacher = run.scratch / "by_teacher" if refined else finished
        out = run.destination(storage, "predictions", by_teacher)
        if needs_own_features(predict, models[-1]):
            own = run.scratch / EMBEDDINGS / "unlabeled"
            embeddings = run.destination(storage, "features", own, "unlabeled")
        work = PseudoLabeling(
            layout.prepared, features, tuple(models), predict, seed, run.scratch, out, embeddings
        )
        _predict(stage, run, work.predictor)
        manifest = work.finish()
        if refined:
            upload_shards(finished, storage, "predictions")
        publish_folder(finished, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
        run.images = manifest.rows
    shown = f"{counted(manifest.rows, 'image')} in {counted(len(manifest.shards), 'shard')}"
    result_line(stage, shown + (f" by {len(models)} teachers" if len(models) > 1 else ""))


def _predict(stage: Stage, run: Run, predictor: ShardPredictor) -> None:
    """Predict the shards that are missing: with Ray where images are looked at, else here."""
    missing = missing_shards(predictor.folder, predictor.out)
    if not predictor.needs_images:
        with progress(stage.title, predictor.manifest.rows) as advance:
            for number in missing:
                advance(predictor(number))
        return
    from pipeline.ray.map_shards import distributed_map

    distributed_map(
        (predictor, missing),
        actors=stage.params.run.actor_range,
        gpus_per_actor=stage.params.run.gpus_per_actor,
        scratch=run.scratch,
        title=stage.title,
    )


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, models="generations")
