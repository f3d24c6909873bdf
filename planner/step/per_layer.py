"""What the layers of Gemma 3n and 4 read of one another: per-layer inputs, and keys and values of earlier layers.

Source: transformers models/gemma4/modeling_gemma4.py Gemma4TextDecoderLayer, Gemma4TextAttention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.architecture.spec import PerLayerInput
from planner.step.activations import activate
from planner.step.linear import linear
from planner.step.player import NotModelled, Player, Shared
from planner.step.sizes import TOKENS
from planner.step.tape import Value

Passed = Literal["packed", "keys"]


@dataclass(frozen=True, slots=True)
class Shares:
    """What a layer reads that others made.

    `packed` is the width of all layers' inputs together, `keys` that of the keys and of the values of an earlier layer,
    0 where it reads none; `wanted` those of the two that want a gradient, `first` those of which it makes the first.
    """

    packed: int = 0
    keys: int = 0
    wanted: frozenset[Passed] = frozenset()
    first: frozenset[Passed] = frozenset()

    def read_by(self, player: Player) -> Shared:
        """The tensors as the layer sees them, without bytes of their own."""
        shared, width = Shared(), player.rules.weights_width
        if self.packed:
            wants = "packed" in self.wanted
            shared.packed = player.outside("per-layer inputs", TOKENS * self.packed, width, needs_gradient=wants)
        if self.keys:
            wants = "keys" in self.wanted
            shared.keys = player.outside("keys of an earlier layer", TOKENS * self.keys, width, needs_gradient=wants)
            shared.values = player.outside("its values", TOKENS * self.keys, width, needs_gradient=wants)
        return shared

    def absorbed(self, shared: Shared) -> tuple[Value, ...]:
        """What of it gets its gradient added to one that later layers have left."""
        later = () if "packed" in self.first else (shared.packed,)
        later += () if "keys" in self.first or not self.keys else (shared.keys, shared.values)
        return tuple(value for value in later if value is not None)


def per_layer_input(player: Player, block: PerLayerInput, x: Value) -> Value:
    """back(act(gate(x)) * slice): the slice keeps the tensor of all layers; its gradient is laid into a whole one."""
    packed = player.shared.packed
    if packed is None:
        raise NotModelled("a layer with an input of its own and no tensor of all inputs")
    opened = activate(player, block.activation, linear(player, block.gate, x))
    own = player.tape.slice("per-layer input", packed, TOKENS * block.width)
    return linear(player, block.back, player.tape.multiply("gated per-layer input", opened, own))


def hand_on(player: Player, keys: Value, values: Value) -> None:
    """Leave keys and values for later layers, in a table that also holds those that a checkpoint's layer makes anew."""
    shared = player.shared
    shared.keys, shared.values = keys, values
    shared.made += [keys, values]
    shared.graph |= player.tape.kept_behind(keys) | player.tape.kept_behind(values)


def handed(player: Player) -> tuple[Value, Value]:
    """Keys and values that an earlier layer has left."""
    keys, values = player.shared.keys, player.shared.values
    if keys is None or values is None:
        raise NotModelled("a layer without keys where no earlier one has left its own")
    return keys, values
