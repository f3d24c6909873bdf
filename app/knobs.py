"""Every field of the request, flattened once, for the faces that are flat: command-line flags, form inputs, addresses.

The list is read from the contract's schema, so that a new field of the contract appears on every face by itself. Only
the words for people stand here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal, get_args

from planner.contract import EstimateRequest, Framework

_SUFFIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmbgt])", re.ASCII | re.IGNORECASE)
_POWERS: Mapping[str, int] = {"k": 1, "m": 2, "b": 3, "g": 3, "t": 4}

KnobType = Literal["text", "integer", "number", "flag", "list"]
Path = tuple[str, ...]

# A name is the path without its first word, because `machine` and `run` share no name but `device`'s figures.
_LABELS: Mapping[str, tuple[str, str]] = {
    "device": ("Device", "a catalogue id (see `trainfit devices`), or this-machine"),
    "device.name": ("Device name", "what to call a device that the catalogue does not hold"),
    "device.vendor": ("Vendor", "who makes the device"),
    "device.kind": ("Kind of device", "what kind of device it is"),
    "device.memory_gib": ("Device memory, GiB", "memory of one device that the catalogue does not hold"),
    "device.memory_bandwidth_gb_s": ("Memory bandwidth, 10⁹ B/s", "from the device's data sheet"),
    "device.tflops_bfloat16": ("Peak bfloat16, TFLOP/s", "dense peak, without sparsity"),
    "device.tflops_float16": ("Peak float16, TFLOP/s", "dense peak, without sparsity"),
    "device.tflops_float32": ("Peak float32, TFLOP/s", "dense peak"),
    "device.interconnect_gb_s": ("Link between devices, 10⁹ B/s", "one direction"),
    "device.power_watts": ("Board power, W", "for the energy of the run"),
    "device_count": ("Number of devices", "how many of them the run uses"),
    "device_memory_gib": ("Memory per device, GiB", "when you know better than the catalogue"),
    "host_memory_gib": ("Host memory, GiB", "memory of the computer, all of it"),
    "disk_free_gib": ("Free disk, GiB", "for the weights and what the run saves"),
    "offer": ("Rented machine", "an id of `trainfit offers`: it says the devices, the host's memory and the price"),
    "spot": ("Spot price", "rent at the price that can be taken away at any time"),
    "price_usd_per_hour": ("Price, $ an hour", "what you pay for the whole machine, instead of the offer's price"),
    "purchase_usd": ("Purchase price, $", "of such a machine, to compare buying with renting"),
    "electricity_usd_per_kwh": ("Electricity, $ a kWh", "for the energy of the run"),
    "method": ("Method", "what is trained"),
    "objective": ("Objective", "what the head predicts"),
    "num_labels": ("Number of labels", "for sequence classification"),
    "framework": ("Framework", "which library trains; each has its own habits"),
    "lora.rank": ("LoRA rank", "width of the adapters"),
    "lora.target_modules": ("LoRA target modules", "all-linear, or module names separated by commas"),
    "lora.modules_to_save": ("Modules trained in full", "module names separated by commas"),
    "lora.adapter_dtype": ("Adapter type", "number format of the adapters"),
    "lora.dropout": ("LoRA dropout", "0 keeps no dropout mask"),
    "freeze.trainable_layers": ("Trainable layers", "counted from the last, for the freeze method"),
    "quantization.scheme": ("Quantisation", "how the frozen base is stored under qlora"),
    "quantization.double_quant": ("Double quantisation", "quantise the scales as well"),
    "weights_dtype": ("Weights", "number format of the weights"),
    "compute_dtype": ("Compute", "number format of the multiplications"),
    "gradient_dtype": ("Gradients", "number format of the gradients"),
    "master_weights": ("Master copy", "keep a float32 copy of 16-bit weights"),
    "optimizer": ("Optimizer", "which optimizer"),
    "optimizer_impl": ("Optimizer implementation", "fused makes no temporary copy of the parameters"),
    "optimizer_state_dtype": ("Optimizer states", "number format of the moments"),
    "optimizer_in_backward": ("Optimizer in backward", "step each parameter as soon as its gradient is there"),
    "sequence_length": ("Sequence length", "tokens of the longest sample of a batch; 4k means 4,096"),
    "micro_batch_size": ("Micro-batch", "samples per device in one forward pass"),
    "gradient_accumulation_steps": ("Gradient accumulation", "micro-batches per optimizer step"),
    "activation_checkpointing": ("Activation checkpointing", "recompute instead of keeping"),
    "activation_checkpointing.every_nth": ("Checkpoint every n-th layer", "instead of a named kind"),
    "attention": ("Attention", "which kernel"),
    "loss": ("Loss", "how the logits are made"),
    "loss_chunks": ("Loss chunks", "for the chunked loss"),
    "expert_imbalance": ("Expert imbalance", "rows of the busiest routed expert over the mean; 1 is balanced"),
    "compile": ("torch.compile", "compile the model"),
    "parallelism.data": ("Data parallel", "left out: what the devices leave"),
    "parallelism.zero_stage": ("ZeRO stage", "3 is FSDP's full shard"),
    "parallelism.tensor": ("Tensor parallel", "ways"),
    "parallelism.pipeline": ("Pipeline parallel", "stages"),
    "parallelism.context": ("Context parallel", "ways"),
    "parallelism.expert": ("Expert parallel", "ways"),
    "offload.optimizer": ("Offload the optimizer", "to host memory"),
    "offload.parameters": ("Offload the parameters", "to host memory"),
    "offload.activations": ("Offload the activations", "to host memory"),
    "allocator": ("Allocator", "how CUDA memory is handed out"),
    "tokens": ("Tokens to train on", "for the time to finish; 10M means 10,000,000"),
    "examples": ("Examples to train on", "for the time to finish, instead of tokens"),
    "epochs": ("Epochs", "with examples"),
}

_EXAMPLES: Mapping[str, str] = {
    "sequence_length": "typical: 2048",
    "micro_batch_size": "typical: 1",
    "gradient_accumulation_steps": "typical: 1",
    "tokens": "for example 10000000",
    "examples": "for example 5000",
    "epochs": "for example 3",
    "expert_imbalance": "typical: 1",
    "lora.modules_to_save": "none",
}


@dataclass(frozen=True, slots=True)
class Knob:
    """One flat field: where it lives in the request, what it is called, and what it takes."""

    path: Path
    type: KnobType
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive: bool = False
    exclusive_maximum: bool = False

    @property
    def name(self) -> str:
        """The name on the command line, in the form and in addresses: the path without `machine` or `run`."""
        return ".".join(self.path[1:])

    @property
    def label(self) -> str:
        return _LABELS.get(self.name, (self.name, ""))[0]

    @property
    def help(self) -> str:
        return _LABELS.get(self.name, (self.name, ""))[1]

    @property
    def placeholder(self) -> str:
        """What an empty input means, or an example of what may stand there."""
        if self.default is not None and self.default != []:
            return self.format(self.default)
        return _EXAMPLES.get(self.name, "")

    @property
    def accepted(self) -> str:
        """What the field takes, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type in ("integer", "number"):
            return ("an integer" if self.type == "integer" else "a number") + bounds(
                self.minimum, self.maximum, above=self.exclusive, below=self.exclusive_maximum
            )
        return {"flag": "true or false", "list": "all-linear, or a list of module names"}.get(self.type, "a text")

    def parse(self, text: str) -> Any:
        """The value that a text means. What cannot be read stays text, so that the contract's check names the field."""
        try:
            return self._parse(text.strip())
        except ValueError:
            return text

    def _parse(self, text: str) -> Any:
        if self.type == "integer":
            return self._integer(text) if len(text) <= 40 else text
        if self.type == "number":
            return float(text)
        if self.type == "flag":
            return {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "no": False}.get(
                text.lower(), text
            )
        if self.type == "list":
            return text if text == "all-linear" else [part.strip() for part in text.split(",") if part.strip()]
        return int(text) if self.choices and text.isdigit() and len(text) < 4 else text

    def _integer(self, text: str) -> int:
        """A whole number, perhaps with a suffix: `10M` tokens are 10,000,000, a sequence of `4k` is 4,096 long."""
        digits = text.replace("_", "").replace(",", "").replace(" ", "")
        suffixed = _SUFFIXED.fullmatch(digits)
        if suffixed is None:
            return int(digits)
        base = 1024 if self.name == "sequence_length" else 1000
        value = Decimal(suffixed[1]) * base ** _POWERS[suffixed[2].lower()]
        if value != value.to_integral_value():
            raise ValueError(f"{text} is no whole number")
        return int(value)

    def format(self, value: Any) -> str:
        """The text of a value, such that `parse` gives it back."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list | tuple):
            return ",".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        return str(value)


def bounds(minimum: float | None, maximum: float | None, *, above: bool, below: bool) -> str:
    """Both ends of what a number may be, in words; `above` and `below` leave out the end itself."""
    start = "" if minimum is None else f" {'above' if above else 'from'} {_plain(minimum)}"
    if maximum is None:
        return start
    if below:
        return f"{start} {'to ' if start else ''}below {_plain(maximum)}"
    return start + (" to " if start and not above else " and up to " if start else " up to ") + _plain(maximum)


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


@cache
def knobs() -> tuple[Knob, ...]:
    """Every knob of machine and run, in the contract's order."""
    schema = EstimateRequest.model_json_schema()
    definitions: Mapping[str, Any] = schema["$defs"]
    found = [
        knob
        for section, definition in (("machine", "MachineRequest"), ("run", "RunRequest"))
        for knob in _walk((section,), definitions[definition], definitions)
    ]
    return tuple(found)


@cache
def knobs_by_name() -> dict[str, Knob]:
    """name -> knob."""
    return {knob.name: knob for knob in knobs()}


@cache
def knobs_by_path() -> dict[Path, Knob]:
    """path -> knob."""
    return {knob.path: knob for knob in knobs()}


def _walk(path: Path, definition: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Knob]:
    for name, described in definition["properties"].items():
        variants = [v for v in described.get("anyOf", [described]) if v.get("type") != "null"]
        plain = [v for v in variants if "$ref" not in v]
        if plain:
            yield _knob((*path, name), plain, described.get("default"))
        for variant in variants:
            if "$ref" in variant:
                yield from _walk((*path, name), definitions[variant["$ref"].rsplit("/", 1)[1]], definitions)


def _knob(path: Path, variants: list[Mapping[str, Any]], default: Any) -> Knob:
    if any(v.get("type") == "array" for v in variants):
        return Knob(path, "list", default)
    (variant, *_) = variants
    types: dict[str, KnobType] = {"integer": "integer", "number": "number", "boolean": "flag"}
    choices = tuple(str(value) for value in variant.get("enum", ()))
    if path == ("run", "framework"):
        choices = get_args(Framework)
    exclusive = "exclusiveMinimum" in variant
    minimum = variant.get("exclusiveMinimum", variant.get("minimum"))
    kind: KnobType = "text" if choices else types.get(variant.get("type", "string"), "text")
    maximum = variant.get("exclusiveMaximum", variant.get("maximum"))
    return Knob(path, kind, default, choices, minimum, maximum, exclusive, "exclusiveMaximum" in variant)


def flatten(request: EstimateRequest) -> dict[str, str]:
    """name -> text of every value that differs from the contract's default, in the contract's order."""
    given = request.model_dump(mode="json")
    flat: dict[str, str] = {}
    for knob in knobs():
        value = _look_up(given, knob.path)
        if value is not None and value != knob.default and not isinstance(value, dict):
            flat[knob.name] = knob.format(value)
    return flat


def _look_up(tree: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return tree  # pyright: ignore[reportUnknownVariableType]


def unflatten(flat: Mapping[str, str]) -> dict[str, Any]:
    """{"machine": {...}, "run": {...}} from name -> text. Empty texts are left out; unknown names are kept in `run`.

    An unknown name goes where the contract's check will refuse it by name, rather than being ignored.
    """
    tree: dict[str, Any] = {"machine": {}, "run": {}}
    by_name = knobs_by_name()
    for name, text in flat.items():
        if text.strip():
            knob = by_name.get(name)
            path, value = (knob.path, knob.parse(text)) if knob else (("run", name), text)
            _place(tree, path, value)
    return tree


def _place(tree: dict[str, Any], path: Path, value: Any) -> None:
    *parents, last = path
    for name in parents:
        inner = tree.get(name)
        if not isinstance(inner, dict):  # `device=custom` beside `device.memory_gib=24`: the figures win
            inner = tree[name] = {}
        tree = inner  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(tree.get(last), dict):
        tree[last] = value
