"""A request with every open field filled in: typical defaults per framework, the dtype policy, and what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np

from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, EveryNth, LoraSettings, QuantizationSettings, RunRequest
from planner.errors import NotModelledError, PlanError
from planner.frameworks import adapted_names, adapter_dtype, as_built_by, autocasts_always, step_of
from planner.hardware import DeviceProfile, Machine
from planner.step.adapters import typical_targets, with_targets
from planner.step.rules import BYTES, StepRules
from planner.step.sizes import Quantity
from planner.support import Needs, attention_kernel

FRAMEWORKS = ("transformers", "trl", "axolotl", "llama_factory", "torchtune", "torchtitan", "litgpt", "deepspeed")
TYPICAL_SEQUENCE = 2048
ADAPTED = frozenset({"lora", "qlora", "dora"})
FIXED_DEFAULTS = ("framework", "objective", "allocator")
"""Fields whose default is one value for everybody."""
TYPICAL_LORA = LoraSettings()
TYPICAL_QUANTIZATION = QuantizationSettings()
_TYPICAL_LORA_ASSUMED = {f"run.lora.{name}": value for name, value in TYPICAL_LORA.model_dump().items()}
QUANTISED_STORES = {"float8", "mxfp4", "int4", "int8", None}

# What each framework does when it is not told otherwise, where that differs from the common defaults.
# transformers: TrainingArguments.gradient_checkpointing is False; peft's prepare_model_for_kbit_training, which its
# quantisation guide calls for qlora, turns it on. trl: SFTConfig turns gradient_checkpointing on. axolotl leaves
# it off (utils/schemas/config.py); LLaMA-Factory turns it on unless disable_gradient_checkpointing says otherwise
# (hparams/model_args.py). torchtune: the
# published single-device recipes set enable_activation_checkpointing and CEWithChunkedOutputLoss. torchtitan:
# activation_checkpoint.mode is "selective" with option "op".
FRAMEWORK_DEFAULTS: dict[str, dict[str, str]] = {
    "transformers": {"activation_checkpointing": "none", "loss": "full_logits"},
    "trl": {"activation_checkpointing": "full", "loss": "full_logits"},
    "axolotl": {"activation_checkpointing": "none", "loss": "full_logits"},
    "llama_factory": {"activation_checkpointing": "full", "loss": "full_logits"},
    "torchtune": {"activation_checkpointing": "full", "loss": "chunked"},
    "torchtitan": {"activation_checkpointing": "selective_op", "loss": "full_logits"},
    "litgpt": {"activation_checkpointing": "none", "loss": "full_logits"},
    "deepspeed": {"activation_checkpointing": "none", "loss": "full_logits"},
}


@dataclass(frozen=True, slots=True)
class Points:
    """The sizes of a plan: ints, or int64 arrays of one length, one element for each of many plans that differ in them.

    `batch` is the micro-batch of a data rank, `sequence` its length in tokens, `rank` the adapters' (any without them).
    """

    batch: Quantity
    sequence: Quantity
    rank: Quantity


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the memory and throughput formulas need; nothing is open.

    `assumed` maps each field of the request that was filled in to its value; `warnings` says what was ignored.
    """

    spec: ModelSpec
    machine: Machine
    rules: StepRules
    optimizer: str
    optimizer_impl: str
    optimizer_state_dtype: str
    master_weights: bool
    optimizer_in_backward: bool
    double_quant: bool
    sequence_length: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    rank: int
    data_parallel: int
    zero_stage: int
    allocator: Literal["native", "expandable_segments"]
    given_tokens: int | None
    examples: float | None
    attention: str
    kernel_reason: str
    assumed: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()

    def tokens_at(self, sequence: Quantity) -> Any:
        """Tokens to train on: as many as given, or the given examples times their length; None where nobody said."""
        if self.examples is None:
            return self.given_tokens
        tokens = cast("Any", np.round(self.examples * sequence))
        return tokens if np.ndim(sequence) else int(tokens)

    @property
    def tokens(self) -> int | None:
        """Tokens to train on, None where nobody said."""
        return self.tokens_at(self.sequence_length)

    @property
    def points(self) -> Points:
        """The plan's own sizes."""
        return Points(self.micro_batch_size, self.sequence_length, self.rank)

    @property
    def needs(self) -> Needs:
        """What the plan asks of its software."""
        rules = self.rules
        return Needs(
            method=rules.method,
            scheme=rules.scheme,
            optimizer=self.optimizer,
            framework=rules.framework,
            model_type=self.spec.model_type,
            attention=self.attention,
            loss=rules.loss,
            compute_dtype=rules.compute_dtype,
            data_parallel=self.data_parallel,
        )


class _Filler:
    """Takes a value from the run, or a default that is then noted in `assumed`."""

    def __init__(self) -> None:
        self.assumed: dict[str, Any] = {}
        self.warnings: list[str] = []

    def take(self, name: str, given: Any, default: Any) -> Any:
        if given is not None:
            return given
        self.assumed[f"run.{name}"] = default
        return default


@dataclass(frozen=True, slots=True)
class _Formats:
    """The dtypes of a run: of weights, of computing, of what is trained, of its gradients and optimizer states."""

    weights: str
    compute: str
    trained: str
    gradient: str
    state: str
    master: bool


def resolve(request: EstimateRequest, spec: ModelSpec, machine: Machine) -> Plan:
    """Fill in the request.

    Raises:
        PlanError: fields contradict each other, the model or the framework (HTTP 422).
        NotModelledError: the plan is understood but not covered.
    """
    run, filler = request.run, _Filler()
    data = _data_parallel(run, machine, filler)
    _refuse_uncovered(run)
    spec = as_built_by(run.framework, spec)
    filler.assumed |= {f"run.{name}": getattr(run, name) for name in FIXED_DEFAULTS if name not in run.model_fields_set}
    method = filler.take("method", run.method, "lora")
    weights, compute = _dtypes(run, method, spec, machine.device, filler)
    lora = _lora(run, method, spec, adapter_dtype(run.framework, method, weights), filler)
    optimizer = filler.take("optimizer", run.optimizer, "adamw")
    formats = _formats(run, optimizer, weights, compute, lora.adapter_dtype or weights, filler)
    attention = filler.take("attention", run.attention, "sdpa")
    kernel, why = attention_kernel(machine.device, attention, masked=False)
    accumulation = filler.take("gradient_accumulation_steps", run.gradient_accumulation_steps, 1)
    quantization = _quantization(run, method, filler)
    plain = _rules(run, method, spec, lora, formats, quantization, filler)
    rules = _completed(spec, plain, kernel, accumulation > 1, machine.device.allocator_family == "cpu")
    sequence = filler.take("sequence_length", run.sequence_length, _typical_sequence(spec))
    _check_sequence(sequence, spec, filler)
    filler.assumed |= _encoder_length(spec, sequence)
    return Plan(
        spec=spec,
        machine=machine,
        rules=rules,
        optimizer=optimizer,
        optimizer_impl=_implementation(run, optimizer, machine.device, filler),
        optimizer_state_dtype=formats.state,
        master_weights=formats.master,
        optimizer_in_backward=run.optimizer_in_backward,
        double_quant=quantization.double_quant,
        sequence_length=sequence,
        micro_batch_size=filler.take("micro_batch_size", run.micro_batch_size, 1),
        gradient_accumulation_steps=accumulation,
        rank=lora.rank,
        data_parallel=data,
        zero_stage=run.parallelism.zero_stage,
        allocator=run.allocator,
        given_tokens=run.tokens,
        examples=None if run.examples is None else run.examples * (run.epochs or 1.0),
        attention=attention,
        kernel_reason=why,
        assumed=filler.assumed,
        warnings=(*filler.warnings, *_kernel_warning(kernel, why), *_expert_warning(rules)),
    )


def _formats(run: RunRequest, optimizer: str, weights: str, compute: str, trained: str, filler: _Filler) -> _Formats:
    """Gradients and moments follow what is trained, unless the request says otherwise and the framework agrees."""
    gradient = filler.take("gradient_dtype", run.gradient_dtype, trained)
    state = filler.take("optimizer_state_dtype", run.optimizer_state_dtype, _state_dtype(run, optimizer, trained))
    master = filler.take("master_weights", run.master_weights, _master_by_default(run, trained))
    _check_framework_dtypes(run, trained=trained, gradient=gradient, state=state, optimizer=optimizer, master=master)
    return _Formats(weights, compute, trained, gradient, state, master)


@lru_cache(maxsize=4096)
def _completed(
    spec: ModelSpec, plain: StepRules, kernel: str, accumulate: bool, on_processor: bool
) -> StepRules:  # fmt: skip
    """The rules with kernel and targets: one object for equal ones, so that later caches find them by identity."""
    rules = replace(plain, kernel=cast(Any, kernel), accumulate=accumulate, on_processor=on_processor)
    return with_targets(rules, spec)


def _rules(
    run: RunRequest, method: str, spec: ModelSpec, lora: LoraSettings, formats: _Formats,
    quantization: QuantizationSettings, filler: _Filler,
) -> StepRules:  # fmt: skip
    """What of the run decides the shape of the step; kernel and accumulation are added by `resolve`."""
    defaults = FRAMEWORK_DEFAULTS[run.framework]
    checkpointing, every = _checkpointing(run, method, defaults, filler)
    gathered = _gathered_dtype(run, formats.weights, formats.compute)
    return StepRules(
        method=cast(Any, method),
        weights_dtype=gathered,
        stored_dtype=None if gathered == formats.weights else formats.weights,
        compute_dtype=formats.compute,
        gradient_dtype=formats.gradient,
        adapter_dtype=lora.adapter_dtype or "float32",
        targets=None if lora.target_modules == "all-linear" else adapted_names(lora.target_modules, spec),
        saved_modules=tuple(lora.modules_to_save),
        dropout=lora.dropout > 0,
        scheme=quantization.scheme if method == "qlora" else None,
        checkpointing=cast(Any, checkpointing),
        checkpoint_every=every,
        loss=filler.take("loss", run.loss, defaults["loss"]),
        loss_chunks=run.loss_chunks,
        framework=step_of(run.framework),
        trainer_autocast=autocasts_always(run.framework),
        trainable_layers=_trainable_layers(run, method, spec, filler),
        objective=run.objective,
        num_labels=run.num_labels,
        optimizer_in_backward=run.optimizer_in_backward,
    )


# -- what is refused ------------------------------------------------------------------------------------------------


def _refuse_uncovered(run: RunRequest) -> None:
    if run.framework not in FRAMEWORKS:
        raise NotModelledError(
            "framework_not_modelled", "run.framework",
            f"framework `{run.framework}` is not modelled; modelled are {', '.join(FRAMEWORKS)}",
        )  # fmt: skip
    for axis in ("tensor", "pipeline", "context", "expert"):
        if getattr(run.parallelism, axis) != 1:
            raise NotModelledError(
                "parallelism_not_modelled", f"run.parallelism.{axis}",
                f"{axis} parallelism is not modelled; data parallelism with zero_stage 0 to 3 is",
            )  # fmt: skip
    for what in ("optimizer", "parameters", "activations"):
        if getattr(run.offload, what) != "none":
            raise NotModelledError(
                "offload_not_modelled", f"run.offload.{what}",
                f"offloading the {what} to the CPU is not modelled; the paged optimizers are",
            )  # fmt: skip
    if run.compile:
        raise NotModelledError(
            "compile_not_modelled", "run.compile", "torch.compile fuses kernels in ways that no formula here covers"
        )
    for name in ("weights_dtype", "compute_dtype", "gradient_dtype", "optimizer_state_dtype"):
        if getattr(run, name) == "float8":
            raise NotModelledError("float8_not_modelled", f"run.{name}", "training in float8 is not modelled")


# -- dtypes ---------------------------------------------------------------------------------------------------------


def _dtypes(run: RunRequest, method: str, spec: ModelSpec, device: DeviceProfile, filler: _Filler) -> tuple[str, str]:
    """(weights, compute) by the contract's policy.

    Stored 8- or 4-bit or unknown -> bfloat16 weights; compute follows the weights, but float16 where the device's
    bfloat16 is absent or emulated (float32 where float16 is no better, as on CPUs), and weights left open follow it;
    a compute dtype that was asked for leaves the weights as they are stored (autocast); full float16 training keeps
    float32 weights and computes in float16 under autocast.
    """
    stored = (
        spec.stored_dtype if spec.stored_dtype in BYTES and spec.stored_dtype not in QUANTISED_STORES else "bfloat16"
    )
    compute = run.compute_dtype or _computable(run.weights_dtype or stored, device)
    natural = stored if run.compute_dtype is not None else compute
    if method == "full" and compute == "float16":
        natural = "float32"
    weights = filler.take("weights_dtype", run.weights_dtype, natural)
    return weights, filler.take("compute_dtype", run.compute_dtype, compute)


def _gathered_dtype(run: RunRequest, weights: str, compute: str) -> str:
    """The dtype of the parameters that a module sees.

    FSDP gathers its float32 shards in the compute dtype, so that nothing is left to autocast: torchtitan
    (distributed/fsdp.py, MixedPrecisionPolicy with param_dtype) and accelerate (utils/dataclasses.py,
    FullyShardedDataParallelPlugin.set_mixed_precision). Lightning's bf16-mixed, DeepSpeed and a single device gather
    or keep the parameters as they are stored.
    """
    gathers = step_of(run.framework) in {"torchtitan", "torchtune", "transformers", "trl"}
    mixed = gathers and run.parallelism.zero_stage == 3
    return compute if mixed else weights


def _computable(dtype: str, device: DeviceProfile) -> str:
    """The dtype that the device should compute in when the weights are of the given one.

    Where float16 is emulated, as on x86 processors at 0.006 of float32's rate, nobody would train in it: bfloat16 where
    that is native, else float32.
    """
    supports = device.supports
    if dtype == "float16" and supports.float16 == "emulated":
        return "bfloat16" if supports.bfloat16 == "native" else "float32"
    if dtype != "bfloat16" or supports.bfloat16 in {"native", "unknown"}:
        return dtype
    return "float16" if supports.float16 == "native" and device.kind != "cpu" else "float32"


def _state_dtype(run: RunRequest, optimizer: str, trained: str) -> str:
    """Moments take the trained parameter's dtype in torch.optim; bitsandbytes and DeepSpeed keep float32.

    transformers' own Adafactor computes 16-bit gradients in float32 and keeps its state so (optimization.py).
    """
    if run.framework == "deepspeed" or optimizer in {"lion", "adafactor", "paged_adamw"}:
        return "float32"
    return trained


def _master_by_default(run: RunRequest, trained: str) -> bool:
    """DeepSpeed keeps a float32 master copy of 16-bit parameters (runtime/bf16_optimizer.py); the others do not."""
    return run.framework == "deepspeed" and trained != "float32"


def _check_framework_dtypes(
    run: RunRequest, *, trained: str, gradient: str, state: str, optimizer: str, master: bool
) -> None:
    if run.framework == "deepspeed":
        if not master and trained != "float32":
            raise _contradiction(
                "master_weights", False, "true", "DeepSpeed keeps float32 master weights beside 16-bit parameters"
            )
        return
    if gradient != trained:
        raise _contradiction(
            "gradient_dtype", gradient, trained, f"PyTorch keeps .grad in the trained parameter's dtype, here {trained}"
        )
    if master:
        raise _contradiction(
            "master_weights", True, "false, or framework deepspeed", f"{run.framework} keeps no separate master copy"
        )
    plain = optimizer in {"adamw", "sgd_momentum", "muon"}
    if plain and state != trained:
        raise _contradiction(
            "optimizer_state_dtype",
            state,
            trained,
            f"torch.optim creates its state in the parameter's dtype, here {trained}",
        )


def _contradiction(name: str, value: object, accepted: str, rule: str) -> PlanError:
    return PlanError(
        "contradicts_framework",
        f"run.{name}",
        value,
        accepted,
        f"run.{name} {value!r} contradicts the framework: {rule}",
    )


# -- the rest -------------------------------------------------------------------------------------------------------


def _lora(run: RunRequest, method: str, spec: ModelSpec, dtype: str, filler: _Filler) -> LoraSettings:
    if method not in ADAPTED:
        if run.lora is not None:
            filler.warnings.append(f"run.lora is ignored: method `{method}` trains no adapters")
        return TYPICAL_LORA
    targets = typical_targets(spec)
    if run.lora is None:
        own = {"run.lora.adapter_dtype": dtype, "run.lora.target_modules": targets}
        filler.assumed |= _TYPICAL_LORA_ASSUMED | own
        return TYPICAL_LORA.model_copy(update={"adapter_dtype": dtype, "target_modules": targets})
    given = {name for name in run.lora.model_fields_set if getattr(run.lora, name) is not None}
    typical = {
        name: value for name, value in (("adapter_dtype", dtype), ("target_modules", targets)) if name not in given
    }
    lora = run.lora.model_copy(update=typical)
    filler.assumed |= {
        f"run.lora.{name}": getattr(lora, name) for name in LoraSettings.model_fields if name not in given
    }
    return lora


def _quantization(run: RunRequest, method: str, filler: _Filler) -> QuantizationSettings:
    if method != "qlora":
        if run.quantization is not None:
            filler.warnings.append(f"run.quantization is ignored: only qlora quantises, the method is `{method}`")
        return TYPICAL_QUANTIZATION
    if run.quantization is None:
        filler.assumed["run.quantization"] = TYPICAL_QUANTIZATION.model_dump()
        return TYPICAL_QUANTIZATION
    return run.quantization


def _trainable_layers(run: RunRequest, method: str, spec: ModelSpec, filler: _Filler) -> int:
    if method != "freeze":
        return 0
    layers = run.freeze.trainable_layers if run.freeze else filler.take("freeze.trainable_layers", None, 2)
    if layers > spec.text.layer_count:
        raise PlanError(
            "too_many_layers", "run.freeze.trainable_layers", layers, f"0 to {spec.text.layer_count}",
            f"run.freeze.trainable_layers is {layers}, but the model has {spec.text.layer_count} layers",
        )  # fmt: skip
    return layers


def _implementation(run: RunRequest, optimizer: str, device: DeviceProfile, filler: _Filler) -> str:
    best = "fused" if device.supports.fused_optimizer and device.kind != "cpu" else "foreach"
    if device.kind == "cpu":
        best = "for_loop"
    if optimizer not in {"adamw", "sgd", "sgd_momentum"}:
        best = "for_loop" if optimizer in {"adafactor", "muon"} else "fused"
        return filler.take("optimizer_impl", run.optimizer_impl, best)
    chosen = filler.take("optimizer_impl", run.optimizer_impl, best)
    if chosen == "fused" and not device.supports.fused_optimizer:
        raise PlanError(
            "contradicts_device", "run.optimizer_impl", chosen, "for_loop or foreach",
            f"run.optimizer_impl `fused` does not run on {device.display_name}",
        )  # fmt: skip
    return chosen


def _checkpointing(run: RunRequest, method: str, defaults: dict[str, str], filler: _Filler) -> tuple[str, int]:
    typical = "full" if method == "qlora" and run.framework == "transformers" else defaults["activation_checkpointing"]
    chosen = filler.take("activation_checkpointing", run.activation_checkpointing, typical)
    if isinstance(chosen, EveryNth):
        return "full", chosen.every_nth
    if chosen == "none":
        return "none", 0
    return ("selective_op" if chosen == "selective" else chosen), 1


def _expert_warning(rules: StepRules) -> tuple[str, ...]:
    """PEFT 0.21 turns the names of per-expert linear modules into the stacked parameters of transformers 5."""
    if not any(name.endswith("_proj") for name in rules.target_parameters):
        return ()
    return (
        "adapters: PEFT reaches the stacked experts of this model too and makes their whole weights anew in each "
        "forward pass; name the attention modules in run.lora.target_modules to leave the experts alone",
    )


def _kernel_warning(kernel: str, why: str) -> tuple[str, ...]:
    return (f"attention: {why}",) if kernel == "math" else ()


def _encoder_length(spec: ModelSpec, sequence: int) -> dict[str, Any]:
    """What an encoder reads: as many tokens as the decoder writes, or one window of sound."""
    if spec.task == "seq2seq_lm":
        return {"model.encoder_length": sequence}
    if spec.task == "speech_seq2seq_lm":
        return {"model.encoder_length": spec.encoders[0].positions_per_sample}
    return {}


def _typical_sequence(spec: ModelSpec) -> int:
    return min(TYPICAL_SEQUENCE, spec.max_positions or TYPICAL_SEQUENCE)


def longest_sequence(spec: ModelSpec) -> int | None:
    """The end of the model's position table; None without one, as with RoPE, which can be computed for any position."""
    has_table = len(spec.embeddings) > 1 and any("pos" in t.name or t.name == "wpe" for t in spec.embeddings)
    return spec.max_positions if has_table else None


def _check_sequence(sequence: int, spec: ModelSpec, filler: _Filler) -> None:
    limit = spec.max_positions
    if limit is None or sequence <= limit:
        return
    if longest_sequence(spec) is not None:
        raise PlanError(
            "sequence_too_long", "run.sequence_length", sequence, f"1 to {limit}",
            f"run.sequence_length is {sequence}, but the model's position table ends at {limit}",
        )  # fmt: skip
    filler.warnings.append(
        f"run.sequence_length {sequence} is above the {limit} positions that the model was trained for"
    )


def _data_parallel(run: RunRequest, machine: Machine, filler: _Filler) -> int:
    parallelism, logical = run.parallelism, machine.logical_devices
    others = parallelism.tensor * parallelism.pipeline * parallelism.context
    derived = logical // others
    if logical % others or (parallelism.data or derived) != derived:
        product = f"{others} times a whole number" if parallelism.data is None else others * parallelism.data
        raise PlanError(
            "parallelism_mismatch", "run.parallelism.data", parallelism.data, str(derived or 1),
            f"data x tensor x pipeline x context is {product}, but the machine has {logical} logical devices",
        )  # fmt: skip
    if parallelism.data is None:
        filler.assumed["run.parallelism.data"] = derived
        return derived
    return parallelism.data
