"""Let a generation's teacher label the unlabelled images, shard by shard, with Ray Data."""

from pathlib import Path

from pipeline.data.shards import read_manifest
from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import mark_in_use, stored_prefix
from pipeline.files import publish_folder
from pipeline.labels.predict import ShardPredictor, finish_predictions, unpredicted
from pipeline.models.spec import read_spec, teacher_chain
from pipeline.progress import progress
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
    if predict.propagation is not None:
        inputs |= layout.data_digests("labeled")
    inputs |= {f"teacher.{key}": digest for key, digest in teacher_chain(models).items()}
    parameters = {"predict": predict.model_dump(mode="json"), "seed": seed}
    with stage.run(inputs, parameters) as run:
        here = run.scratch / "predictions"
        told = here if predict.propagation is None else run.scratch / "by_teacher"
        out = told if storage is None else stored_prefix(storage, "predictions", run.fingerprint)
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
        manifest = finish_predictions(unlabeled, out, num_classes, manifest_in=told)
        if predict.propagation is not None:
            _ask_neighbors(stage, models[-1], told, here)
            finish_predictions(unlabeled, here, num_classes)
        publish_folder(here, layout.predictions(stage.key))
        run.tracker.metrics({"images": manifest.rows})
        run.images = manifest.rows
    by = f" by {len(models)} teachers" if len(models) > 1 else ""
    result_line(stage, f"{manifest.rows} images in {len(manifest.shards)} shards{by}")


def _ask_neighbors(stage: Stage, model: Path, predictions: Path, out: Path) -> None:
    """Write `predictions` to `out`, joined with what neighbours say in the features of `model`."""
    import torch

    from pipeline.labels.pool import network_features
    from pipeline.labels.propagate import propagate_folder
    from pipeline.models.checkpoint import load_checkpoint
    from pipeline.models.device import resolve_device

    predict, prepared = stage.params.predict, stage.layout.prepared
    assert predict.propagation is not None
    torch.set_num_threads(predict.threads)  # as the actors: sums come out the same anywhere
    teacher = load_checkpoint(model)
    see = network_features(
        teacher.network,
        mean=teacher.spec.mean,
        std=teacher.spec.std,
        batch_size=predict.batch_size,
        device=str(resolve_device(predict.device)),
    )
    folders = (prepared / "unlabeled", prepared / "labeled")
    with progress(
        f"{stage.title}: neighbours", sum(read_manifest(folder).rows for folder in folders)
    ) as advance:
        propagate_folder(
            predictions,
            out,
            unlabeled=folders[0],
            labeled=folders[1],
            see=see,
            how=predict.propagation,
            advance=advance,
        )


if __name__ == "__main__":
    run_stage("pseudo_label", pseudo_label, models="generations")
