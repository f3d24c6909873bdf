"""The form of a plan: which knobs stand in front, which are folded away, and what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.knobs import Knob, knobs_by_name
from app.problems import Problem, Violation

FRONT: Sequence[str] = ("method", "sequence_length", "micro_batch_size", "tokens")
GROUPS: Sequence[tuple[str, str, Sequence[str]]] = (
    (
        "memory",
        "Memory savers",
        (
            "activation_checkpointing",
            "activation_checkpointing.every_nth",
            "loss",
            "loss_chunks",
            "attention",
            "gradient_accumulation_steps",
            "optimizer_in_backward",
            "allocator",
            "expert_imbalance",
            "compile",
        ),
    ),
    (
        "optimizer",
        "Optimizer and number formats",
        (
            "optimizer",
            "optimizer_impl",
            "optimizer_state_dtype",
            "weights_dtype",
            "compute_dtype",
            "gradient_dtype",
            "master_weights",
        ),
    ),
    (
        "adapters",
        "Adapters, quantisation, freezing",
        (
            "lora.rank",
            "lora.target_modules",
            "lora.modules_to_save",
            "lora.adapter_dtype",
            "lora.dropout",
            "quantization.scheme",
            "quantization.double_quant",
            "freeze.trainable_layers",
        ),
    ),
    ("task", "Task, framework and length", ("objective", "num_labels", "framework", "examples", "epochs")),
    (
        "machine",
        "The machine, when you know better",
        ("device_count", "device_memory_gib", "host_memory_gib", "disk_free_gib"),
    ),
    (
        "money",
        "Money and energy",
        ("offer", "spot", "price_usd_per_hour", "purchase_usd", "electricity_usd_per_kwh"),
    ),
    (
        "figures",
        "A device that is not in the list",
        (
            "device.name",
            "device.kind",
            "device.memory_gib",
            "device.memory_bandwidth_gb_s",
            "device.tflops_bfloat16",
            "device.tflops_float16",
            "device.tflops_float32",
            "device.interconnect_gb_s",
            "device.power_watts",
        ),
    ),
    (
        "parallel",
        "Several devices and offload",
        (
            "parallelism.data",
            "parallelism.zero_stage",
            "parallelism.tensor",
            "parallelism.pipeline",
            "parallelism.context",
            "parallelism.expert",
            "offload.optimizer",
            "offload.parameters",
            "offload.activations",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Form:
    """What was typed, and what is wrong with it: input name -> message."""

    values: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    problem: Problem | None = None

    def value(self, name: str) -> str:
        return self.values.get(name, "")

    def error(self, name: str) -> str | None:
        return self.errors.get(name)

    def is_open(self, names: Sequence[str]) -> bool:
        """Whether a folded group holds something that was typed or is wrong."""
        return any(self.values.get(name) or name in self.errors for name in names)


def knob(name: str) -> Knob:
    """The knob behind an input."""
    return knobs_by_name()[name]


def with_problem(values: Mapping[str, str], problem: Problem) -> Form:
    """The form as it was typed, each error beside its input."""
    errors: dict[str, str] = {}
    for violation in problem.violations:
        errors.setdefault(_input_of(violation, values), violation.message)
    return Form(values, errors, problem)


def _input_of(violation: Violation, values: Mapping[str, str]) -> str:
    """The input that a field of the request came from."""
    path = violation.field.split(".")
    if path[0] == "model":
        return "config_text" if path[1:2] == ["config"] or values.get("config_text") else "model"
    name = ".".join(path[1:])
    known = knobs_by_name()
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or violation.field


def label(name: str) -> str:
    """What an input is called."""
    if name in _OTHER_LABELS:
        return _OTHER_LABELS[name]
    known = knobs_by_name().get(name)
    return known.label if known else name


_OTHER_LABELS = {"model": "Model", "config_text": "config.json", "device": "Machine"}
