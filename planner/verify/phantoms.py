"""What a class allocates although no checkpoint has it: rows of expert tensors for slots without an expert.

transformers 5.23 gives LongCat-Flash's `gate_up_proj` rows for its zero experts too (modeling_longcat_flash.py,
`LongcatFlashExperts`). Adapters on it, gradients, states and copies inherit them; they are known by their shapes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from torch import nn

Shape = tuple[int, ...]


def phantom_shares(model: nn.Module) -> dict[Shape, Fraction]:
    """Shapes of tensors that hold phantoms, and the share of each that is one."""
    found: dict[Shape, Fraction] = {}
    for module in model.modules():
        routed: int | None = getattr(module, "num_routed_experts", None)
        for parameter in () if routed is None else module.parameters(recurse=False):
            if parameter.shape[0] > (routed or 0):
                found[tuple(parameter.shape)] = Fraction(parameter.shape[0] - (routed or 0), parameter.shape[0])
    return found | adapters_of(model, found)


def adapters_of(model: nn.Module, found: dict[Shape, Fraction]) -> dict[Shape, Fraction]:
    """PEFT's adapters of such a tensor, A [E r, in] and B [out, E r], and each laid out by expert for its product."""
    shapes: dict[Shape, Fraction] = {}
    for module in model.modules():
        wrapper: Any = module
        adapted: Shape = tuple(wrapper.get_param().shape) if hasattr(wrapper, "get_param") else ()
        share = found.get(adapted)
        if share is None:
            continue
        experts: int = wrapper.get_param().shape[0]
        for (rows, width), (out, _) in zip(*(_shapes(wrapper, name) for name in ("lora_A", "lora_B")), strict=True):
            rank = rows // experts
            laid = ((rows, width), (experts, rank, width), (out, rows), (experts, out, rank), (out, experts, rank))
            shapes |= dict.fromkeys(laid, share)
    return shapes


def _shapes(wrapper: Any, name: str) -> list[Shape]:
    return [tuple(adapter.weight.shape) for adapter in getattr(wrapper, name).values()]
