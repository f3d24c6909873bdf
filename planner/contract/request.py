"""The request: a model, a machine and a run. A field that is left out gets a default, which the answer names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    expert_imbalance: Annotated[float, Field(ge=1, le=65536, allow_inf_nan=False)] | None = None
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
