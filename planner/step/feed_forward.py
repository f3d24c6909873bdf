"""The dense feed-forward block: down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate."""

from __future__ import annotations

from planner.architecture.spec import Mlp
from planner.step.activations import activate
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.sizes import TOKENS, Size
from planner.step.tape import Value


def mlp(player: Player, block: Mlp, x: Value) -> Value:
    """LlamaMLP, Phi3MLP (fused gate and up) and GPT2MLP (no gate)."""
    tape = player.tape
    hidden = _hidden(player, block, x)
    if "activation" in player.variant.dropouts:
        hidden = player.dropout(hidden)
    for module in block.extra:
        if module.kind.endswith("norm"):
            hidden = norm(player, module, hidden)
    out = linear(player, block.down, hidden)
    tape.touch(x)
    return out


def _hidden(player: Player, block: Mlp, x: Value) -> Value:
    if block.gate_up is not None:
        both = linear(player, block.gate_up, x)
        return gated_halves(player, block.activation, both, TOKENS * block.intermediate)
    assert block.up is not None
    if block.gate is None:
        return activate(player, block.activation, linear(player, block.up, x))
    gate = activate(player, block.activation, linear(player, block.gate, x))
    return player.tape.multiply("gated activations", gate, linear(player, block.up, x))


def gated_halves(player: Player, activation: str, both: Value, half: Size) -> Value:
    """act(first half) * second half of a fused projection; the halves are views of it."""
    gate, up = player.tape.pieces("chunk", both, (half, half))
    return player.tape.multiply("gated activations", activate(player, activation, gate), up)
