"""Let a generation's teacher label the unlabelled images, shard by shard.

Networks look at the images here, or with Ray Data; classifiers on features are asked here.
"""

from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import upload_shards
from pipeline.errors import counted
from pipeline.files import publish_folder
from pipeline.models.spec import teacher_chain
from pipeline.self_training.guard import check_teacher
from pipeline.self_training.pseudo_label import (
    EMBEDDINGS,
    PseudoLabeling,
    has_features,
    needs_own_features,
)
from pipeline.workflow.shards import map_shards
from pipeline.workflow.stage import Stage, result_line, run_stage

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
        map_shards(stage, run, work.predictor, images=work.predictor.needs_images)
        manifest = work.finish()
        if refined:
            upload_shards(finished, storage, "predictions")
        publish_folder(finished, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
        run.images = manifest.rows
    shown = f"{counted(manifest.rows, 'image')} in {counted(len(manifest.shards), 'shard')}"
    result_line(stage, shown + (f" by {len(models)} teachers" if len(models) > 1 else ""))


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, models="generations")
