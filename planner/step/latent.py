"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434; transformers models/deepseek_v3)."""

from __future__ import annotations

from planner.architecture.spec import LatentAttention
from planner.step.attention import rotate
from planner.step.kernels import Heads, attend
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.sizes import TOKENS
from planner.step.tape import Value


def latent_attention(player: Player, block: LatentAttention, x: Value) -> Value:
    """Low-rank q and kv; the RoPE part of the key is one head that every query head shares. x: [b, s, h].

    Query and key are new tensors of all heads (torch.cat); the values stay a view of kv_b's output, whose gradient is
    laid together with the keys' in one new tensor.
    """
    tape, heads = player.tape, block.heads
    q = _query(player, block, x)
    nope, rope = TOKENS * (heads * block.query_nope_dim), TOKENS * (heads * block.rope_dim)
    q_pass, q_rot = tape.pieces("split", q, (nope, rope))
    compressed = linear(player, block.kv_a, x)
    latent, k_rot = tape.pieces("split", compressed, (TOKENS * block.kv_rank, TOKENS * block.rope_dim))
    latent = norm(player, block.kv_a_norm, latent)
    q_rot, k_rot = rotate(player, q_rot, q.width), rotate(player, k_rot, q.width)
    query = tape.concatenate("query with RoPE part", (q_pass, q_rot))
    key, value = _expanded(player, block, latent, k_rot)
    tape.touch(q, compressed, latent, k_rot, q_rot)
    shapes = Heads(heads, heads, block.query_nope_dim + block.rope_dim, block.value_head_dim, contiguous=True)
    mixed = attend(player, query, key, value, shapes)
    tape.touch(x)
    return linear(player, block.o, mixed)


def _query(player: Player, block: LatentAttention, x: Value) -> Value:
    if block.q is not None:
        return linear(player, block.q, x)
    assert block.q_a is not None
    assert block.q_b is not None
    return linear(player, block.q_b, norm(player, block.q_a_norm, linear(player, block.q_a, x)))


def _expanded(player: Player, block: LatentAttention, latent: Value, k_rot: Value) -> tuple[Value, Value]:
    tape, heads = player.tape, block.heads
    keys_values = linear(player, block.kv_b, latent)
    nope, values = TOKENS * (heads * block.query_nope_dim), TOKENS * (heads * block.value_head_dim)
    k_pass, value = tape.pieces("split", keys_values, (nope, values))
    shared = tape.reshaped(k_rot, TOKENS * (heads * block.rope_dim))
    return tape.concatenate("key with RoPE part", (k_pass, shared)), value
