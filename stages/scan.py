"""Look at the source's files, so that a change of them reruns prepare."""

from pipeline.files import write_json
from pipeline.workflow.stage import Stage, result_line, run_stage


def scan(stage: Stage) -> None:
    """Write source.json: how many files the source holds, and the digest of all."""
    data = stage.params.data
    if data.path is None:  # comes with an installed package
        from importlib.metadata import version

        facts: dict[str, int | str] = {"digest": f"scikit-learn {version('scikit-learn')}"}
        shown = f"the {data.source} of {facts['digest']}"
    else:
        from pipeline.data.preparation.listing import list_source

        listing = list_source(data.path, stage.layout.listing(data.path), project=stage.root)
        facts = {"files": listing.files, "bytes": listing.bytes, "digest": listing.digest}
        shown = f"{listing.files} files in {data.path}, {listing.read} of them not seen before"
    write_json(stage.layout.source, facts)
    result_line(stage, shown)


if __name__ == "__main__":
    run_stage("scan", scan)
