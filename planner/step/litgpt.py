"""litgpt's fused query-key-value projection with its own LoRA (litgpt/model.py, litgpt/lora.py LoRAQKVLinear)."""

from __future__ import annotations

from planner.architecture.spec import Attention, Module
from planner.step.linear import base_linear, low_rank
from planner.step.player import Player
from planner.step.sizes import TOKENS, R, Size
from planner.step.tape import Value


def fused_projection(player: Player, block: Attention, x: Value) -> tuple[Value, Value, Value]:
    """q, k and v as views of one product, [b, s, q + k + v], so that keeping v for backward keeps all three."""
    parts = [module for module in (block.q, block.k, block.v) if module is not None]
    shape = (sum(module.outputs for module in parts), parts[0].inputs)
    fused = Module("attn.qkv", "linear", "attention", shape, sum(module.bias for module in parts))
    out = base_linear(player, fused, x, TOKENS, trained=player.trains_base)
    adapted = [module for module in parts if player.rules.adapts(module)]
    if adapted:
        out = player.tape.add("base + adapter", out, _adapter(player, adapted, x, whole=TOKENS * fused.outputs))
    q, k, v = player.tape.pieces("split", out, tuple(TOKENS * module.outputs for module in parts))
    return q, k, v


def _adapter(player: Player, adapted: list[Module], x: Value, whole: Size) -> Value:
    """One dropout and one A for all adapted parts, a grouped convolution as B, zeros for the others.

    index_copy keeps its source for backward (tools/autograd/derivatives.yaml).
    """
    tape, outputs = player.tape, sum(module.outputs for module in adapted)
    source = player.dropout(x) if player.rules.dropout else x
    low = low_rank(
        player, "lora_A", source, R * TOKENS * len(adapted), Size({("r",): adapted[0].inputs * len(adapted)})
    )
    high = low_rank(player, "lora_B", low, TOKENS * outputs, Size({("r",): outputs}))
    if TOKENS * outputs != whole:
        high = tape.elementwise("zero padding", (high,), elements=whole, saves=(high,))
    return tape.unary("scaled adapter output", high)
