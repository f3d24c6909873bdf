"""The request and the answer of trainfit, version 1.

One schema serves the REST API, the command line, the web form and the saved report. Bytes are integers, times are
seconds, rates are per second. Names and values are fixed by the contract; adding is allowed, changing is not.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Dtype = Literal["float32", "bfloat16", "float16", "float8"]
Method = Literal["full", "lora", "qlora", "dora", "freeze"]
Objective = Literal["causal_lm", "sequence_classification"]
Framework = Literal["transformers", "trl", "axolotl", "llama_factory", "torchtune", "torchtitan", "litgpt", "deepspeed"]
Optimizer = Literal[
    "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "sgd", "sgd_momentum", "lion", "muon"
]
OptimizerImplementation = Literal["for_loop", "foreach", "fused"]
CheckpointingName = Literal["none", "full", "selective", "selective_op", "selective_attention"]
AttentionKernel = Literal["eager", "sdpa", "flash_attention"]
Loss = Literal["full_logits", "chunked", "fused_linear"]
Offload = Literal["none", "cpu"]
Allocator = Literal["native", "expandable_segments"]
Verdict = Literal["fits", "tight", "does_not_fit", "unsupported", "not_modelled"]
Basis = Literal["catalogue", "derived", "calibrated"]
Tier = Literal["estimate", "verified", "measured"]

Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
Length = Annotated[int, Field(ge=1, le=2**24, strict=True)]
Gibibytes = Annotated[float, Field(gt=0, le=2**30, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Strict(BaseModel):
    """A document whose unknown fields are errors: a misspelt knob must not be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelReference(_Strict):
    """Which model: an identifier of the catalogue or the Hub, or a config.json."""

    id: str | None = Field(default=None, max_length=256, examples=["meta-llama/Llama-3.1-8B"])
    revision: str | None = Field(default=None, max_length=128)
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> ModelReference:
        if (self.id is None) == (self.config is None):
            raise ValueError("give exactly one of `id` and `config`")
        return self


class DeviceFigures(_Strict):
    """A device's own figures, for hardware that the catalogue does not hold."""

    name: str = Field(default="custom device", max_length=128)
    vendor: str = Field(default="unknown", max_length=64)
    kind: Literal["gpu", "apu", "apple", "cpu", "tpu", "accelerator"] = "gpu"
    memory_gib: Gibibytes
    memory_bandwidth_gb_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    tflops_bfloat16: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    tflops_float16: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    tflops_float32: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    interconnect_gb_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    power_watts: Annotated[float, Field(gt=0, le=1e5, allow_inf_nan=False)] | None = None


class MachineRequest(_Strict):
    """The hardware: a catalogue id, this machine, or figures; with what the person knows better.

    `offer` rents a machine of the catalogue of offers: it says the device, how many, the host's memory and the price
    where those are left open. Prices are in US dollars.
    """

    device: Annotated[str, Field(min_length=1, max_length=128)] | DeviceFigures = Field(
        default="this-machine", examples=["nvidia-rtx-4090-24gb"]
    )
    device_count: Annotated[int, Field(ge=1, le=65536, strict=True)] = 1
    device_memory_gib: Gibibytes | None = None
    host_memory_gib: Gibibytes | None = None
    disk_free_gib: Annotated[float, Field(ge=0, le=2**30, allow_inf_nan=False)] | None = None
    offer: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, examples=["runpod-rtx-4090-secure"]
    )
    spot: bool = False
    price_usd_per_hour: Dollars | None = None
    purchase_usd: Dollars | None = None
    electricity_usd_per_kwh: Dollars | None = None


class LoraSettings(_Strict):
    """Low-rank adapters (arXiv 2106.09685) as PEFT builds them.

    An `adapter_dtype` that is left open is the framework's: float32, or the model's under torchtune and litgpt.
    """

    rank: Annotated[int, Field(ge=1, le=65536, strict=True)] = 16
    target_modules: Literal["all-linear"] | list[Annotated[str, Field(max_length=128)]] = "all-linear"
    modules_to_save: list[Annotated[str, Field(max_length=128)]] = []
    adapter_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0


class FreezeSettings(_Strict):
    """How many layers, counted from the last, are trained."""

    trainable_layers: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 2


class QuantizationSettings(_Strict):
    """How the frozen base is stored under qlora (bitsandbytes)."""

    scheme: Literal["nf4", "int8"] = "nf4"
    double_quant: bool = True


class EveryNth(_Strict):
    """Checkpoint every n-th layer."""

    every_nth: Annotated[int, Field(ge=1, le=100_000, strict=True)]


class Parallelism(_Strict):
    """How many ways each axis splits the work. `data` is derived when it is left out."""

    data: Count | None = None
    zero_stage: Literal[0, 1, 2, 3] = 0
    tensor: Count = 1
    pipeline: Count = 1
    context: Count = 1
    expert: Count = 1


class OffloadSettings(_Strict):
    """What lives in host memory instead of the device's."""

    optimizer: Offload = "none"
    parameters: Offload = "none"
    activations: Offload = "none"


class RunRequest(_Strict):
    """The training run. A field that is left out gets the framework's default and is listed in `assumed`."""

    method: Method | None = None
    objective: Objective = "causal_lm"
    num_labels: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 2
    framework: str = Field(default="transformers", max_length=64)
    lora: LoraSettings | None = None
    freeze: FreezeSettings | None = None
    quantization: QuantizationSettings | None = None
    weights_dtype: Dtype | None = None
    compute_dtype: Dtype | None = None
    gradient_dtype: Dtype | None = None
    master_weights: bool | None = None
    optimizer: Optimizer | None = None
    optimizer_impl: OptimizerImplementation | None = None
    optimizer_state_dtype: Dtype | None = None
    optimizer_in_backward: bool = False
    sequence_length: Length | None = None
    micro_batch_size: Annotated[int, Field(ge=1, le=2**20, strict=True)] | None = None
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=2**20, strict=True)] | None = None
    activation_checkpointing: CheckpointingName | EveryNth | None = None
    attention: AttentionKernel | None = None
    loss: Loss | None = None
    loss_chunks: Annotated[int, Field(ge=1, le=65536, strict=True)] = 8
    compile: bool = False
    parallelism: Parallelism = Parallelism()
    offload: OffloadSettings = OffloadSettings()
    allocator: Allocator = "native"
    tokens: Annotated[int, Field(ge=1, le=10**18, strict=True)] | None = None
    examples: Annotated[int, Field(ge=1, le=10**15, strict=True)] | None = None
    epochs: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _tokens_or_examples(self) -> RunRequest:
        if self.tokens is not None and self.examples is not None:
            raise ValueError("give either `tokens`, or `examples` and `epochs`, not both")
        if self.epochs is not None and self.examples is None:
            raise ValueError("`epochs` needs `examples`")
        return self


class EstimateRequest(_Strict):
    """One question: this model, on this machine, in this run."""

    model: ModelReference
    machine: MachineRequest = MachineRequest()
    run: RunRequest = RunRequest()


class _Open(BaseModel):
    """A part of the answer. Fields may be added in later versions."""

    model_config = ConfigDict(frozen=True)


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
    """Which tiers of evidence stand behind the answer; `notes` say what was built and traced."""

    tier: Tier = "estimate"
    differences: list[Difference] = []
    notes: list[str] = []
    timeline: Timeline | None = None


_ESTIMATED = Evidence()


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
    evidence: Evidence = Field(default_factory=lambda: _ESTIMATED)
    assumed: dict[str, Any] = {}
    warnings: list[str] = []
