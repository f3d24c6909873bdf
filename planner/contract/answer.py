"""The answer: verdict, memory, throughput, costs, software, advice and the evidence behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.contract.request import EstimateRequest

SCHEMA_VERSION = 1
Verdict = Literal["fits", "tight", "does_not_fit", "unsupported", "not_modelled"]
Basis = Literal["catalogue", "derived", "calibrated"]
Tier = Literal["estimate", "verified", "measured"]


class _Open(BaseModel):
    """A part of the answer. Fields may be added in later versions."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class Reason(_Open):
    """One cause of the verdict, for programs (`code`), forms (`field`) and people (`message`)."""

    code: str
    field: str
    message: str


class Parameters(_Open):
    """How many parameters there are, by the contract's definitions."""

    total: int
    active: int
    trainable: int
    checkpoint_total: int
    by_component: dict[str, int]


class Moment(_Open):
    """A moment of the run with the most bytes that the allocator hands out in it."""

    name: str
    allocated_bytes: int


class LedgerRow(_Open):
    """One line of the ledger: a quantity at the peak, how it was computed and where the rule comes from."""

    term: str
    what: str
    formula: str
    bytes: int
    source: str


class Terms(_Open):
    """The bytes at the step's peak, by term; each storage rounded as the target's allocator rounds."""

    weights: int = 0
    adapters: int = 0
    quantization_state: int = 0
    gradients: int = 0
    optimizer_states: int = 0
    master_weights: int = 0
    activations: int = 0
    logits_and_loss: int = 0
    temporaries: int = 0
    communication: int = 0
    fragmentation: int = 0
    outside_allocator: int = 0


class DeviceMemory(_Open):
    """Memory of one logical device."""

    total_bytes: int
    system_reserved_bytes: int
    in_use_bytes: int
    usable_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    peak_process_bytes: int
    interval_bytes: tuple[int, int]
    interval_basis: str
    headroom_bytes: int
    peak_moment: str
    required_bytes: int
    highest_moment: str
    terms: Terms
    moments: list[Moment]
    ledger: list[LedgerRow] = []


class HostMemory(_Open):
    """Memory of the host, all processes of this run together. `usable_bytes` is null when nobody said."""

    usable_bytes: int | None
    peak_bytes: int
    terms: dict[str, int]
    shared_with_device: bool


class DiskSpace(_Open):
    """Disk: the downloaded weights and what the run saves. `free_bytes` is null when nobody said."""

    free_bytes: int | None
    needed_bytes: int
    terms: dict[str, int] = {}


class Memory(_Open):
    """The ledger of device, host and disk."""

    device: DeviceMemory
    host: HostMemory
    disk: DiskSpace


class OperationTime(_Open):
    """The share of one step that a class of operations takes."""

    operation: str
    flops: float
    bytes: float
    seconds: float
    bound_by: Literal["compute", "memory", "communication"]


class Throughput(_Open):
    """Time of one optimizer step with all its micro-batches, and what follows from it.

    `interval` is of `step_seconds`, `finish_interval` of `seconds_to_finish`. `mfu` is a share of
    `peak_flops`, the dense peak of the compute dtype at the clock that the device runs at.
    """

    step_seconds: float
    tokens_per_second: float
    mfu: float | None
    interval: tuple[float, float]
    interval_basis: str = "uncalibrated"
    basis: Basis
    seconds_to_finish: float | None
    finish_interval: tuple[float, float] | None = None
    peak_flops: float | None = None
    cost_usd: float | None = None
    energy_kwh: float | None = None
    operations: list[OperationTime] = []


class Sessions(_Open):
    """What a provider's limits make of the run. `weeks` is null without a weekly quota."""

    session_hours: float | None
    weekly_hours: float | None
    sessions: int
    weeks: int | None
    must_resume: bool
    message: str


class Purchase(_Open):
    """Buying against renting: after how many hours of use the purchase has cost less. Null where renting costs less."""

    purchase_usd: float
    saved_usd_per_hour: float
    break_even_hours: float | None
    message: str


class Costs(_Open):
    """Money and energy to finish. `price_basis`: offer, spot or given; `price_as_of` is the date of an offer's price.

    The intervals follow the interval of the time. Energy is the board power over the whole time, an upper bound.
    """

    offer: str | None
    provider: str | None
    usd_per_hour: float | None
    price_basis: Literal["offer", "spot", "given"] | None
    price_as_of: str | None
    cost_usd: float | None
    cost_interval_usd: tuple[float, float] | None
    energy_kwh: float | None
    energy_interval_kwh: tuple[float, float] | None
    electricity_usd: float | None
    sessions: Sessions | None = None
    purchase: Purchase | None = None


class SoftwareSupport(_Open):
    """Whether a component runs there, from which version, and who says so."""

    component: str
    supported: bool
    since: str
    source: str
    note: str = ""


class Advice(_Open):
    """A lever: a merge patch (RFC 7396) on the request, and what it does."""

    change: dict[str, Any]
    bytes_saved: int
    time_factor: float | None
    makes_it_fit: bool
    why: str
    title: str = ""
    verdict: Verdict | None = None


class Difference(_Open):
    """Where the estimate and a trace of the real model disagree, and which one is believed."""

    term: str
    estimate_bytes: int
    trace_bytes: int
    difference_bytes: int
    believed: str
    why: str


class TimelineSpan(_Open):
    """One moment of the step: its instants from `first` up to `end`, which is the next one's."""

    moment: str
    first: int
    end: int


class TimelinePeak(_Open):
    """The highest instant of one span, with the module and the operation that ran then."""

    moment: str
    instant: int
    bytes: int
    module: str
    operation: str


class Timeline(_Open):
    """Memory over the steady step of a trace. Instants count births and deaths of storages from 0; they are no seconds.

    The lists hold one value for each of `instants`, which are thinned: each span keeps its ends and its peak.
    `reserved_bytes` is what the replayed allocator holds, empty where none is replayed.
    """

    layers: int
    instant_count: int
    spans: list[TimelineSpan]
    peaks: list[TimelinePeak]
    instants: list[int]
    modules: list[str]
    operations: list[str]
    allocated_bytes: list[int]
    reserved_bytes: list[int] = []
    terms: dict[str, list[int]]


class Evidence(_Open):
    """Which tiers of evidence stand behind the answer; `notes` say what was built and traced, or what ran.

    Of a measured plan the answer's numbers are the estimate's, `differences` hold the run's bytes in place of a
    trace's, and `measured` its figures by name, such as `step_seconds`. `job` is the job that found it.
    """

    tier: Tier = "estimate"
    differences: list[Difference] = []
    notes: list[str] = []
    timeline: Timeline | None = None
    measured: dict[str, float] = {}
    job: str | None = None


ESTIMATED = Evidence()
"""What stands behind an answer that nothing was held against."""


class Answer(_Open):
    """The answer to one request. `memory` and `throughput` are null when the plan is not modelled."""

    schema_version: int = SCHEMA_VERSION
    estimator_version: str
    catalog_version: str
    request: EstimateRequest
    model_sha256: str
    verdict: Verdict
    summary: str
    reasons: list[Reason]
    parameters: Parameters | None
    memory: Memory | None
    throughput: Throughput | None
    costs: Costs | None = None
    software: list[SoftwareSupport] = []
    advice: list[Advice] = []
    evidence: Evidence = Field(default_factory=lambda: ESTIMATED)
    assumed: dict[str, Any] = {}
    warnings: list[str] = []
