"""Let a frozen, pretrained body look at every prepared image once, shard by shard.

Without embed.source it only says so, and starts neither torch nor a tracked run.
"""

from pipeline.data.features import PARTS, features_metadata
from pipeline.data.shards import read_manifest, write_manifest
from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import finish_derived
from pipeline.files import publish_folder
from pipeline.models.spec import model_digest
from pipeline.workflow.shards import map_shards
from pipeline.workflow.stage import Stage, result_line, run_stage


def embed(stage: Stage) -> None:
    """Write features/: the body, and what it makes of each image."""
    layout, params = stage.layout, stage.params.embed
    if params.source is None:
        for part in PARTS:
            write_manifest(layout.features(part), [], {"body": None})
        layout.body.mkdir(parents=True, exist_ok=True)
        result_line(stage, "no embed.source, so no features; networks learn from pixels")
        return
    from pipeline.models.embed import ShardEmbedder
    from pipeline.train.body import find_body, write_body

    source = find_body(params, stage.root)
    inputs = layout.data_digests(*PARTS) | {"body": source.digest}
    storage = open_storage(stage.params.storage.url)
    with stage.run(inputs, {"embed": params.model_dump(mode="json")}) as run:
        body = run.scratch / "body"
        num_features = write_body(body, params, source, layout.prepared)
        outs = {
            part: run.destination(storage, "features", run.scratch / part, part) for part in PARTS
        }
        works = [
            ShardEmbedder(
                (body,),
                layout.prepared / part,
                out,
                params.batch_size,
                params.threads,
                params.device,
            )
            for part, out in outs.items()
        ]
        map_shards(stage, run, *works)
        for part, out in outs.items():
            images = layout.prepared / part
            noted = features_metadata(images, model_digest(body), num_features)
            manifest = finish_derived(images, out, noted, manifest_in=run.scratch / part)
            run.images += manifest.rows
        for name in (*PARTS, "body"):
            publish_folder(run.scratch / name, layout.root / "features" / name)
        run.tracker.metrics({"images": run.images, "features": num_features})
    rows = ", ".join(f"{read_manifest(layout.features(part)).rows} {part}" for part in PARTS)
    result_line(stage, f"{num_features} features of each image by {params.name}: {rows}")


if __name__ == "__main__":
    run_stage("embed", embed)
