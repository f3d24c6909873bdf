"""Which plans a trace can check, and how a plan is said to the tracer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from planner.architecture.spec import ModelSpec
from planner.contract import LoraSettings, Reason, RunRequest
from planner.plan import Plan
from planner.step.adapters import typical_targets
from planner.verify.settings import Attention, Objective, Target, TraceSettings

PROXIES: Final[Mapping[str, str]] = {"kimi_k2": "deepseek_v3"}
"""Types without a class in transformers whose published code is another type's, renamed (Kimi K2's config.json names
DeepseekV3ForCausalLM in `architectures`)."""
NOT_FOR_BUILDING: Final = frozenset(
    {
        "attn_implementation",
        "auto_map",
        "dtype",
        "experts_implementation",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
    }
)
GENERATING: Final = frozenset({"causal_lm", "seq2seq_lm", "speech_seq2seq_lm"})
TRACED_MICRO_BATCHES: Final = 2
"""From the second micro-batch on, each is like the one before: gradients exist and are added to."""
KERNELS: Final[Mapping[str, Attention]] = {
    "fused": "sdpa",
    "math": "sdpa",
    "flash": "flash_attention",
    "eager": "eager",
}


class NotVerifiable(Exception):
    """The estimate stands alone; `reason` says why."""

    def __init__(self, field: str, message: str) -> None:
        self.reason = Reason(code="not_verifiable", field=field, message=message)
        super().__init__(message)


def buildable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json as transformers may have it: no code of its own, no kernels, no stored precision.

    A quantised checkpoint is built in the plan's dtype, as the estimate has it.
    """
    kept = {name: value for name, value in config.items() if name not in NOT_FOR_BUILDING and not name.startswith("_")}
    model_type = str(config.get("model_type"))
    return kept | {"model_type": PROXIES.get(model_type, model_type)}


def settings_for(plan: Plan, run: RunRequest) -> TraceSettings:
    """The plan in the tracer's words.

    Raises:
        NotVerifiable: the tracer doesn't run what the plan runs.
    """
    refuse_uncovered(plan, run)
    return replace(
        run_settings(plan, run),
        gradient_accumulation_steps=min(plan.gradient_accumulation_steps, TRACED_MICRO_BATCHES),
    )


def run_settings(plan: Plan, run: RunRequest) -> TraceSettings:
    """The plan as plain values, all its micro-batches included; nothing is refused."""
    rules, lora = plan.rules, run.lora or LoraSettings()
    given = "target_modules" in lora.model_fields_set
    targets = lora.target_modules if given else typical_targets(plan.spec)
    target = target_of(plan)
    return TraceSettings(
        method=rules.method,
        trainable_layers=rules.trainable_layers,
        lora_rank=plan.rank,
        target_modules=targets if isinstance(targets, str) else tuple(targets),
        adapter_dtype=rules.adapter_dtype,
        lora_dropout=lora.dropout if rules.has_adapters else 0.0,
        quantization=rules.scheme or "nf4",
        double_quant=plan.double_quant,
        weights_dtype=rules.weights_dtype,
        compute_dtype=rules.compute_dtype,
        optimizer=cast(Any, plan.optimizer),
        optimizer_impl=cast(Any, plan.optimizer_impl),
        optimizer_in_backward=plan.optimizer_in_backward,
        sequence_length=plan.sequence_length,
        micro_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        activation_checkpointing=rules.checkpointing,
        checkpoint_every=max(1, rules.checkpoint_every),
        loss=rules.loss,
        trainer_autocast=rules.trainer_autocast,
        expert_imbalance=plan.expert_imbalance,
        loss_chunks=rules.loss_chunks,
        objective=cast(Objective, rules.objective),
        num_labels=rules.num_labels,
        attention=KERNELS[rules.kernel],
        rounding_bytes=plan.machine.device.allocation_rounding_bytes,
        target=target,
        fused_attention=rules.kernel != "math",
        library_scratch=target == "cpu" or rules.kernel in {"fused", "flash"},
    )


def target_of(plan: Plan) -> Target:
    """Whose kernels: the CPU's own, or CUDA's, which ROCm's builds share (hipified sources)."""
    return "cpu" if plan.machine.device.allocator_family == "cpu" else "cuda"


def refuse_uncovered(plan: Plan, run: RunRequest) -> None:
    """Raises NotVerifiable with the first thing that the tracer doesn't run."""
    rules, device = plan.rules, plan.machine.device
    what = f"the trace runs transformers' own model and Trainer; {rules.framework} has its own loop"
    require(rules.framework == "transformers", "run.framework", what)
    require(plan.data_parallel == 1, "run.parallelism", "the trace runs one device; buckets and shards need several")
    require(rules.stored_dtype is None, "run.parallelism.zero_stage", "the trace runs no sharded parameters")
    task = f"the trace runs models that write text, and this is a {plan.spec.task} model"
    require(plan.spec.task in GENERATING, "model", task)
    head = "the trace puts a classifier on decoders, not on models with an encoder of their own"
    require(not (has_two_stacks(plan.spec) and rules.objective != "causal_lm"), "run.objective", head)
    require(not plan.master_weights, "run.master_weights", "the trace keeps no separate master copy")
    saved = "the trace runs no fully trained modules beside adapters"
    require(not (run.lora and run.lora.modules_to_save), "run.lora.modules_to_save", saved)
    known = device.allocator_family in {"cuda", "rocm", "cpu"} or rules.kernel in {"math", "eager"}
    kernel = f"the trace knows CUDA's, ROCm's and the CPU's attention kernels, not those of {device.name}"
    require(known, "machine.device", kernel)


def has_two_stacks(spec: ModelSpec) -> bool:
    """Whether the library builds an encoder and a decoder."""
    return spec.task in {"seq2seq_lm", "speech_seq2seq_lm"}


def require(holds: bool, field: str, message: str) -> None:
    """Raises NotVerifiable unless it holds."""
    if not holds:
        raise NotVerifiable(field, message)
