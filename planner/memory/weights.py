"""Bytes of the base weights as stored, of quantisation state and of adapters."""

from __future__ import annotations

from planner.architecture.spec import ModelSpec, Module
from planner.memory.tensors import Tensors, adapters, base_modules
from planner.step.rules import StepRules
from planner.step.sizes import ceiling_division, rounded

NF4_BLOCK = 64
NESTED_BLOCK = 256
FLOAT32 = 4


def sum_rounded(tensors: list[Tensors], width: int, rounding: int, shards: int = 1) -> int:
    """Bytes of tensors of `width` bytes an element, each storage rounded, each split over `shards` devices."""
    return sum(t.count * rounded(ceiling_division(t.elements, shards) * width, rounding) for t in tensors)


def base_weight_bytes(spec: ModelSpec, rules: StepRules, rounding: int, shards: int = 1) -> int:
    """The base model on one device: 16- or 32-bit tensors, the packed ones of a quantised base, and large buffers."""
    total = 0
    for module, times in base_modules(spec, rules):
        weight = packed_bytes(module, rules) if rules.quantises(module) else module.weight_elements * rules.stored_width
        total += times * rounded(ceiling_division(weight, shards), rounding)
        if module.bias:
            total += times * rounded(ceiling_division(module.bias * rules.stored_width, shards), rounding)
    total += sum(b.count * rounded(b.elements * (b.width or rules.stored_width), rounding) for b in spec.buffers)
    if rules.objective == "sequence_classification":
        total += rounded(rules.num_labels * spec.hidden * rules.stored_width, rounding)
    return total


def packed_bytes(module: Module, rules: StepRules) -> int:
    """NF4 packs two weights in a byte; int8 takes one byte a weight (bitsandbytes functional.quantize_4bit, int8)."""
    return ceiling_division(module.weight_elements, 2) if rules.scheme == "nf4" else module.weight_elements


def quantization_state_bytes(spec: ModelSpec, rules: StepRules, double_quant: bool, rounding: int) -> int:
    """Scales beside the packed weights, each tensor rounded.

    nf4: one float32 per 64 weights (arXiv 2305.14314, section 3), or with double quantisation one byte per 64 and one
    float32 per 256 of those with an offset; the 16-entry code book and the 256-entry nested one are tensors of each
    module (bitsandbytes functional.QuantState). int8: one float32 per output row (SCB).
    """
    total = 0
    for module, times in base_modules(spec, rules):
        if rules.quantises(module):
            total += times * sum(rounded(size, rounding) for size in _state_sizes(module, rules, double_quant))
    return total


def _state_sizes(module: Module, rules: StepRules, double_quant: bool) -> tuple[int, ...]:
    if rules.scheme == "int8":
        return (module.outputs * FLOAT32,)
    blocks = ceiling_division(module.weight_elements, NF4_BLOCK)
    code_book = 16 * FLOAT32
    if not double_quant:
        return (blocks * FLOAT32, code_book)
    nested = ceiling_division(blocks, NESTED_BLOCK) * FLOAT32
    return (blocks, nested, code_book, 256 * FLOAT32, FLOAT32)


def adapter_bytes(spec: ModelSpec, rules: StepRules, rank: int, rounding: int, shards: int = 1) -> int:
    """Adapters and modules_to_save on one device."""
    return sum_rounded(list(adapters(spec, rules, rank)), rules.adapter_width, rounding, shards)
