"""What decides the shape of a step's program besides batch, sequence and rank: the hashable part of a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from planner.architecture.spec import Module

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
Kernel = Literal["eager", "fused", "flash", "math"]


@dataclass(frozen=True, slots=True)
class StepRules:
    """The categorical settings of a run, resolved: nothing is left open.

    `stored_dtype` is set where it differs from what the modules see: FSDP keeps shards in one dtype and gathers them in
    another (torch.distributed.fsdp MixedPrecisionPolicy.param_dtype), so that no operation is autocast.
    `kernel` is the attention kernel that the device really runs: "math" when sdpa or flash_attention was asked for
    but the device has no fused backward, so that the full score matrix is kept. `optimizer_in_backward` frees each
    gradient as soon as it has been used. `checkpoint_every` is 0 for none, also
    where selective_attention checkpoints inside layers, and 1 for every layer. `accumulate` is True
    when gradients of an earlier micro-batch exist. `trainer_autocast` is True where the trainer turns torch.autocast on
    although the weights have the compute dtype already, which adapters of a wider dtype notice. `on_processor` is True
    on the CPU, whose kernels keep other tensors. `expert_imbalance` is the busiest expert's load over the mean where a
    class runs one expert after the other, which is all that it matters to.
    """

    method: Literal["full", "lora", "qlora", "dora", "freeze"]
    weights_dtype: str
    compute_dtype: str
    gradient_dtype: str
    adapter_dtype: str = "float32"
    targets: tuple[str, ...] | None = None
    untargeted: tuple[str, ...] = ()
    target_parameters: tuple[str, ...] = ()
    saved_modules: tuple[str, ...] = ()
    dropout: bool = False
    scheme: Literal["nf4", "int8"] | None = None
    kernel: Kernel = "fused"
    checkpointing: Literal["none", "full", "selective_op", "selective_attention"] = "none"
    checkpoint_every: int = 0
    loss: Literal["full_logits", "chunked", "fused_linear"] = "full_logits"
    loss_chunks: int = 8
    framework: str = "transformers"
    accumulate: bool = False
    trainable_layers: int = 0
    objective: str = "causal_lm"
    num_labels: int = 2
    optimizer_in_backward: bool = False
    trainer_autocast: bool = False
    on_processor: bool = False
    stored_dtype: str | None = None
    expert_imbalance: float = 1.0

    @property
    def standing(self) -> StepRules:
        """What of the rules weights, adapters and states depend on: the rest is set to one value."""
        return _standing(self)

    def of_layer(self, *, checkpointed: bool) -> StepRules:
        """What of the rules one layer's step depends on, so that layers are played once for every loss."""
        return _of_layer(self, checkpointed)

    @property
    def weights_width(self) -> int:
        """Bytes of one weight that is not quantised."""
        return BYTES[self.weights_dtype]

    @property
    def stored_width(self) -> int:
        """Bytes of one weight between steps, which are those of a master copy under FSDP's mixed precision."""
        return BYTES[self.stored_dtype or self.weights_dtype]

    @property
    def compute_width(self) -> int:
        """Bytes of one activation inside matrix products."""
        return BYTES[self.compute_dtype]

    @property
    def adapter_width(self) -> int:
        """Bytes of one adapter weight."""
        return BYTES[self.adapter_dtype]

    @property
    def gradient_width(self) -> int:
        """Bytes of one element of a base parameter's gradient."""
        return BYTES[self.gradient_dtype]

    @property
    def autocast(self) -> bool:
        """Whether matrix products run in another dtype than the stored weights (torch.autocast)."""
        return self.weights_dtype != self.compute_dtype

    @property
    def autocasts_adapters(self) -> bool:
        """Whether autocast runs the adapters' products in a narrower dtype than the adapters have."""
        under_autocast = self.autocast or self.trainer_autocast
        return under_autocast and self.adapter_width > self.compute_width

    @property
    def trains_base(self) -> bool:
        """Whether every base parameter is trained."""
        return self.method == "full"

    @property
    def has_adapters(self) -> bool:
        """Whether low-rank adapters are trained."""
        return self.method in {"lora", "qlora", "dora"}

    @property
    def frees_gradients(self) -> bool:
        """Whether backward leaves no gradient behind that was not there before."""
        return self.accumulate or self.optimizer_in_backward

    def adapts(self, module: Module) -> bool:
        """Whether an adapter sits on this module: an nn.Linear that is targeted; never the output head by all-linear.

        Source: peft/tuners/tuners_utils.py `_maybe_include_all_linear_layers` leaves the output embedding out.
        """
        if not self.has_adapters or module.kind != "linear" or module.name in self.saved_modules:
            return False
        if self.targets is None:
            return module.component != "lm_head" and leaf(module) not in self.untargeted
        return leaf(module) in self.targets or module.name in self.targets

    def adapts_parameter(self, module: Module) -> bool:
        """Whether an adapter sits on this bare parameter (`planner.step.adapters`)."""
        return (
            self.has_adapters
            and module.kind in {"experts", "parameter"}
            and any(module.name == name or module.name.endswith(f".{name}") for name in self.target_parameters)
        )

    def quantises(self, module: Module) -> bool:
        """Whether bitsandbytes stores this module in 4 or 8 bit: every nn.Linear but the output head.

        Source: transformers/integrations/bitsandbytes.py `replace_with_bnb_linear`, which takes nn.Linear itself (so
        that Falcon's FalconLinear stays as it is), with the default modules_to_not_convert, which holds the output
        embedding. litgpt leaves nothing out: Lightning's BitsandbytesPrecision converts every nn.Linear
        (lightning/fabric/plugins/precision/bitsandbytes.py).
        """
        left_out = (module.component == "lm_head" or module.subclassed) and self.framework != "litgpt"
        return self.scheme is not None and module.kind == "linear" and not left_out


@lru_cache(maxsize=4096)
def _standing(rules: StepRules) -> StepRules:
    return replace(rules, kernel="fused", checkpointing="none", checkpoint_every=0, loss="full_logits", loss_chunks=8)


@lru_cache(maxsize=4096)
def _of_layer(rules: StepRules, checkpointed: bool) -> StepRules:
    inside = rules.checkpointing == "selective_attention"
    kept = rules.checkpointing if checkpointed or inside else "none"
    return replace(rules, loss="full_logits", loss_chunks=8, checkpointing=kept, checkpoint_every=int(checkpointed))


def leaf(module: Module) -> str:
    """The last part of a module's name, which PEFT's target_modules are compared with."""
    return module.name.rsplit(".", 1)[-1]
