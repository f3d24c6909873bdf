"""What a measuring run found, beside what was predicted: a closed document that pages, REST and the database share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.contract import EstimateRequest

Unit = Literal["seconds", "bytes", "tokens/s"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid")


class Compared(_Document):
    """One quantity, predicted and measured; either may be unknown."""

    name: str
    unit: Unit
    predicted: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted over measured."""
        if self.predicted is None or not self.measured:
            return None
        return self.predicted / self.measured


class Steps(_Document):
    """How the time was taken. `seconds` holds every measured step; `low` and `high` hold the true median with 95 %."""

    warm_up: int
    seconds: list[float]
    median: float
    low: float
    high: float
    steady: bool = Field(description="whether the rule was met before the number of steps or the time ran out")
    rule: str


class Depth(_Document):
    """Which layers were built. Where they are fewer than the model's, all figures are extended to its depth."""

    layers: int
    built: list[int] = Field(description="the depths that ran; one: the whole model")
    how: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the model ran as it is."""
        return self.built == [self.layers]


class Measurement(_Document):
    """A measured plan. `rows` are figures of the whole step, `phases` and `terms` its parts.

    `out_of_memory` says in which phase of the job memory ran out; then nothing is measured but what had been.
    """

    schema_version: Literal[1] = 1
    request: EstimateRequest
    configuration: dict[str, Any] = Field(description="every knob of the run, defaults filled in")
    model: dict[str, Any] = Field(description="model_type, parameters and the configuration's SHA-256")
    device: str = Field(description="what ran it")
    planned_device: str | None = Field(
        default=None,
        description="the plan's device where another ran it: then predicted and measured are of two machines",
    )
    device_class: str
    device_count: int
    threads: int | None
    depth: Depth
    steps: Steps | None
    rows: list[Compared]
    phases: list[Compared]
    terms: list[Compared]
    peak_moment: str = ""
    basis: str | None = Field(default=None, description="what the predicted time rests on")
    calibration_id: str | None = None
    estimator_version: str
    out_of_memory: str | None = None
    warnings: list[str] = []

    def row(self, name: str) -> Compared | None:
        """The row of that name, None where it was not taken."""
        return next((row for row in self.rows if row.name == name), None)
