"""The section `storage` of params.yaml: where the bulk of a run's data lies."""

from __future__ import annotations

from pydantic import Field, model_validator

from pipeline.addresses import storage_problem, without_secrets
from pipeline.params.sections import Section


class StorageParams(Section):
    """Shared storage for shards; the repository then holds their manifests alone."""

    url: str | None = Field(
        None,
        description="a folder, as file:///shared/mine, s3://bucket/mine or gs://bucket/mine; "
        "null: in the repository",
    )

    @model_validator(mode="after")
    def _address_allowed(self) -> StorageParams:
        problem = None if self.url is None else storage_problem(self.url)
        if problem is not None:
            raise ValueError(f"storage.url = {without_secrets(str(self.url))!r}: {problem}")
        return self
