"""Look at the program and the source's files, so that what a change touches runs again."""

from pipeline.files import write_json
from pipeline.program import program_digests
from pipeline.workflow.source import source_facts
from pipeline.workflow.stage import Stage, result_line, run_stage


def scan(stage: Stage) -> None:
    """Write program.json, digests of the code of each stage, and source.json: how many files the
    source holds, and the digest of all."""
    facts, shown = source_facts(stage.root, stage.params.data)
    write_json(stage.layout.program, program_digests(stage.params.task))
    write_json(stage.layout.source, facts)
    result_line(stage, shown)


if __name__ == "__main__":
    run_stage("scan", scan)
