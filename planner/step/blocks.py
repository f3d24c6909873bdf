"""The forward pass of a layer, played on a tape.

Blocks are played in the order of the library's own code (transformers 5, models/llama/modeling_llama.py unless a file
names another), so that a reader can lay both side by side. Every value is shaped [b, s, width] unless its comment says
otherwise; widths are per token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.architecture.spec import (
    Attention,
    LatentAttention,
    Layer,
    Mixer,
    Mlp,
    Moe,
    Opaque,
    Parallel,
    PerLayerInput,
    StateSpace,
    Sublayer,
)
from planner.step.attention import attention
from planner.step.experts import moe
from planner.step.feed_forward import mlp
from planner.step.latent import latent_attention
from planner.step.norms import norm, scaled_by_number
from planner.step.per_layer import per_layer_input
from planner.step.player import NotModelled, Player
from planner.step.recurrent import play
from planner.step.tape import Value


def layer(player: Player, block: Layer, x: Value) -> Value:
    """A whole layer. Its input has a name in the loop over layers, and so lives as long as the layer runs."""
    y = x
    for index, part in enumerate(block.sublayers):
        y = sublayer(player, part, y, first=index == 0)
    player.tape.touch(x, *player.held)
    return y


def mixer(player: Player, block: Mixer, x: Value) -> Value:
    """A block of any kind.

    Raises:
        NotModelled: the block's forward pass is not described.
    """
    if isinstance(block, Opaque):
        raise NotModelled(block.what)
    players: dict[type[Mixer], Callable[[Player, Any, Value], Value]] = {
        Attention: attention,
        LatentAttention: latent_attention,
        Mlp: mlp,
        Moe: moe,
        PerLayerInput: per_layer_input,
        Parallel: _parallel,
        StateSpace: play,
    }
    return players[type(block)](player, block, x)


def _parallel(player: Player, block: Parallel, x: Value) -> Value:
    scaled = player.variant.branch_scale
    player.unnormed = x
    results = [
        norm(
            player,
            branch.post_norm,
            mixer(player, branch.mixer, scaled_by_number(player, norm(player, branch.norm, x), scaled)),
        )
        for branch in block.branches
    ]
    total = results[0]
    for result in results[1:]:
        total = player.tape.add("sum of branches", total, result)
    return total


def sublayer(player: Player, block: Sublayer, x: Value, *, first: bool) -> Value:
    """x + post_norm(mixer(norm(x))), or norm(x + mixer(x)) in BERT's order."""
    tape = player.tape
    read = tape.cast(x, player.rules.weights_width, "stream in the weights' dtype") if _wide(player) else x
    inside = read if block.norm_after_residual else norm(player, block.norm, read)
    result = norm(player, block.post_norm, mixer(player, block.mixer, inside))
    if "residual" in player.variant.dropouts:
        result = player.dropout(result)
    if first and player.variant.holds_branch != "nothing":
        player.held += [result] if player.variant.holds_branch == "result" else [inside, result]
    if player.variant.residual_scale:
        result = scaled_by_number(player, result, wanted=True)
    if player.variant.normed_residual:
        x, result = tape.unary("scaled residual", inside), tape.unary("scaled branch", result)
    total = tape.add("residual", x, result)
    return norm(player, block.norm, total) if block.norm_after_residual else total


def _wide(player: Player) -> bool:
    return player.variant.float32_stream


__all__ = ["NotModelled", "Player", "layer", "mixer"]
