"""The question and the answer of a search, version 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.contract import EstimateRequest, Verdict

MAXIMUM_SHOWN = 100

Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scalar = str | int | float | bool | dict[str, Any] | list[str] | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Constraints(_Strict):
    """What a plan must keep. `verdict` is the worst that is taken: `fits` means that its whole interval fits."""

    verdict: Literal["fits", "tight", "any"] = "fits"
    hours: Amount | None = None
    budget_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    vendor: str | list[str] | None = None
    minimum_sequence_length: Annotated[int, Field(ge=1)] | None = None
    minimum_micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    minimum_rank: Annotated[int, Field(ge=1)] | None = None
    minimum_tokens_per_second: Amount | None = None
    minimum_headroom_gib: Amount | None = None


class SearchRequest(_Strict):
    """Everything of `base` stays as it is but what is `free`: a path of the request, and the values that it may take.

    `["*"]` stands for every value of a field that has a list of them, every device or every offer.
    """

    base: EstimateRequest
    free: Annotated[dict[str, Annotated[list[Scalar], Field(min_length=1, max_length=512)]], Field(max_length=16)] = {}
    constraints: Constraints = Constraints()
    limit: Annotated[int, Field(ge=1, le=MAXIMUM_SHOWN, strict=True)] = 20


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Quality(_Open):
    """How near a way of training is to training every weight: an order that papers support, not a measurement."""

    name: str
    order: int
    source: str


class SearchPlan(_Open):
    """One plan of the answer. `change` is a merge patch on the base, `request` the whole plan."""

    change: dict[str, Any]
    request: EstimateRequest
    values: dict[str, Any]
    model: str
    machine: str
    verdict: Verdict
    quality: Quality
    required_bytes: int
    interval_bytes: tuple[int, int]
    usable_bytes: int
    headroom_bytes: int
    step_seconds: float | None
    tokens_per_second: float | None
    seconds_to_finish: float | None
    usd_per_hour: float | None
    usd_per_million_tokens: float | None
    cost_usd: float | None


class Refused(_Open):
    """Plans that are not among the answers, with one reason for all of them."""

    code: str
    field: str
    message: str
    count: int


class SearchAnswer(_Open):
    """What was found.

    `plans`: each way of training once, at its fastest sizes, best quality first. `frontier`: the plans that no other
    beats in memory of all devices, time and price of a token, quality and, where it is free, sequence length. `best`
    names single winners. Of `space` combinations `repeated` ones say the same as another, `evaluated` were weighed,
    `feasible` of those keep the constraints; all others stand in `refused` by reason.
    """

    estimator_version: str
    catalog_version: str
    prices_as_of: tuple[str, str]
    summary: str
    base_verdict: Verdict | None
    plans: list[SearchPlan]
    frontier: list[SearchPlan]
    frontier_total: int
    best: dict[str, SearchPlan]
    space: int
    evaluated: int
    repeated: int
    feasible: int
    refused: list[Refused]
