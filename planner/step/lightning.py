"""Lightning attention: linear attention in blocks, each head with a decay of its own (arXiv 2501.08313).

Source: transformers models/minimax/modeling_minimax.py MiniMaxLightningAttention.
"""

from __future__ import annotations

from planner.architecture.spec import Module, StateSpace
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.sizes import TOKENS, B, Size, chunks_of
from planner.step.tape import Value, moved

SEVERAL_ROWS = Size({("b>1",): 1})
"""1 where a batch has more than one row: its heads then do not lie in one stride, so that products copy their factors.

Copies of q, k and v for the product inside a block then stand in the place of the tensor that holds all three; v has a
second one for the states.
"""


def lightning(player: Player, block: StateSpace, x: Value) -> Value:
    """Within a block as attention without a softmax, between blocks by a state [key, value] for each head."""
    tape, size = player.tape, TOKENS * block.inner
    modules: dict[str, Module] = {module.name: module for module in block.modules}
    fused = tape.unary("silu", linear(player, modules["qkv_proj"], x), "input")
    q, k, v = tape.pieces("split", fused, (size, size, size))
    pairs = B * chunks_of(block.chunk) * (block.heads * block.chunk**2)
    states = B * chunks_of(block.chunk) * (block.heads * block.state**2)
    weights = tape.unary("weights with decay", _product(player, q, k, pairs, block.state))
    inside = _product(player, weights, v, size, block.chunk)
    q_decayed, k_decayed = tape.unary("decayed q", q), tape.unary("decayed k", k)
    state = _product(player, k_decayed, v, states, block.chunk)
    copy = tape.constant("v of several rows", size * SEVERAL_ROWS, v.width)
    tape.record("copy", state, reads=(copy,), saves=(copy,))
    between = _product(player, q_decayed, state, size, block.state)
    outputs = tape.add("outputs of all blocks", between, inside)
    joined = tape.copied("token by token", tape.concatenate("outputs joined", (outputs,)))
    normed = norm(player, modules["norm"], joined)
    opened = tape.unary("sigmoid", linear(player, modules["output_gate"], x), "result")
    tape.touch(fused)
    return linear(player, modules["out_proj"], tape.multiply("gated output", opened, normed))


def _product(player: Player, left: Value, right: Value, elements: Size, contracted: int) -> Value:
    """A batched product over `contracted` positions or channels, which keeps both factors."""
    tape = player.tape
    out = tape.elementwise("product", (left, right), elements=elements, saves=(left, right))
    flops, through = elements * (2 * contracted), moved(left, right, out)
    tape.add_work("product", "recurrence", out.width, flops, through, through * 2, flops * 2)
    return out
