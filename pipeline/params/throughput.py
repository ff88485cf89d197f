"""The section `run` of params.yaml: how fast a run goes, which changes no byte of its outputs."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.params.sections import Section


class RunParams(Section):
    """How fast a run goes; no output depends on it, so a change makes no stage run again, and what
    was stopped goes on. The section may be left out."""

    actors: int | list[int] = Field(
        1,
        description="Ray actors that predict or embed at once; [fewest, most]: as many as there is "
        "room for",
    )
    gpus_per_actor: float = Field(
        1.0, gt=0, le=1, description="of an actor that works on a GPU; 0.5: two share one"
    )
    select_workers: int = Field(
        0, ge=0, description="Ray tasks that select at once; 0: in the stage's own process"
    )
    select_threads: int = Field(
        2, ge=1, description="CPU threads of select in the stage's own process"
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="longest stretch of training a kill can cost"
    )

    @field_validator("actors", mode="before")
    @classmethod
    def _one_or_two_counts(cls, value: object) -> object:
        counts = value if isinstance(value, list) and len(value) == 2 else [value, value]
        whole = [count for count in counts if isinstance(count, int) and count is not True]
        if len(whole) != 2 or not 1 <= whole[0] <= whole[1]:
            raise ValueError(f"run.actors = {value!r}: must be a number from 1, or [fewest, most]")
        return value

    @property
    def actor_range(self) -> tuple[int, int]:
        """The fewest and the most actors at work."""
        if isinstance(self.actors, int):
            return self.actors, self.actors
        return self.actors[0], self.actors[1]
