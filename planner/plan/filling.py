"""Typical defaults per framework: each one used is noted as assumed."""

from __future__ import annotations

from typing import Any

from planner.architecture.spec import ModelSpec
from planner.contract import EveryNth, LoraSettings, QuantizationSettings, RunRequest
from planner.errors import PlanError
from planner.hardware import DeviceProfile
from planner.step.adapters import typical_targets

ADAPTED = frozenset({"lora", "qlora", "dora"})
TYPICAL_LORA = LoraSettings()
TYPICAL_QUANTIZATION = QuantizationSettings()
_TYPICAL_LORA_ASSUMED = {f"run.lora.{name}": value for name, value in TYPICAL_LORA.model_dump().items()}
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


class Filler:
    """Takes a value from the run, or a default that is then noted in `assumed`."""

    def __init__(self) -> None:
        self.assumed: dict[str, Any] = {}
        self.warnings: list[str] = []

    def take(self, name: str, given: Any, default: Any) -> Any:
        """The value that was given, or the default, which is then assumed."""
        if given is not None:
            return given
        self.assumed[f"run.{name}"] = default
        return default


def lora_settings(run: RunRequest, method: str, spec: ModelSpec, dtype: str, filler: Filler) -> LoraSettings:
    """The adapters' settings with the framework's own for what is left open; typical ones where none are trained."""
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


def quantization_settings(run: RunRequest, method: str, filler: Filler) -> QuantizationSettings:
    """How qlora stores the base; typical settings for the other methods."""
    if method != "qlora":
        if run.quantization is not None:
            filler.warnings.append(f"run.quantization is ignored: only qlora quantises, the method is `{method}`")
        return TYPICAL_QUANTIZATION
    if run.quantization is None:
        filler.assumed["run.quantization"] = TYPICAL_QUANTIZATION.model_dump()
        return TYPICAL_QUANTIZATION
    return run.quantization


def trainable_layers(run: RunRequest, method: str, spec: ModelSpec, filler: Filler) -> int:
    """How many layers freeze trains, counted from the last; 0 for the other methods.

    Raises:
        PlanError: more than the model has.
    """
    if method != "freeze":
        return 0
    layers = run.freeze.trainable_layers if run.freeze else filler.take("freeze.trainable_layers", None, 2)
    if layers > spec.text.layer_count:
        raise PlanError(
            "too_many_layers", "run.freeze.trainable_layers", layers, f"0 to {spec.text.layer_count}",
            f"run.freeze.trainable_layers is {layers}, but the model has {spec.text.layer_count} layers",
        )  # fmt: skip
    return layers


def implementation(run: RunRequest, optimizer: str, device: DeviceProfile, filler: Filler) -> str:
    """The optimizer's implementation, by default the one that its library and the device take.

    Raises:
        PlanError: fused on a device without one.
    """
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


def checkpointing(run: RunRequest, method: str, defaults: dict[str, str], filler: Filler) -> tuple[str, int]:
    """What checkpoints keep, and that every n-th layer has one (0: none)."""
    typical = "full" if method == "qlora" and run.framework == "transformers" else defaults["activation_checkpointing"]
    chosen = filler.take("activation_checkpointing", run.activation_checkpointing, typical)
    if isinstance(chosen, EveryNth):
        return "full", chosen.every_nth
    if chosen in {"none", "selective_attention"}:
        return chosen, 0
    return ("selective_op" if chosen == "selective" else chosen), 1
