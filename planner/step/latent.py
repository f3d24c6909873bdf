"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434; transformers models/deepseek_v3)."""

from __future__ import annotations

from planner.architecture.spec import LatentAttention
from planner.step.attention import rotate
from planner.step.kernels import Heads, attend
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.player import BOOLEAN, FLOAT32, Player
from planner.step.sizes import SCORES, TOKENS
from planner.step.tape import NOTHING, Value


def latent_attention(player: Player, block: LatentAttention, x: Value) -> Value:
    """Low-rank q and kv; the RoPE part of the key is one head that every query head shares. x: [b, s, h].

    Query and key are new tensors of all heads (torch.cat); the values stay a view of kv_b's output, whose gradient is
    laid together with the keys' in one new tensor.
    """
    tape, heads, sparse = player.tape, block.heads, player.variant.sparse_keys
    low = _low_query(player, block, x)
    up = block.q_b if block.q is None else block.q
    assert up is not None
    q = linear(player, up, low)
    nope, rope = TOKENS * (heads * block.query_nope_dim), TOKENS * (heads * block.rope_dim)
    q_pass, q_rot = tape.pieces("split", q, (nope, rope))
    compressed = linear(player, block.kv_a, x)
    latent, k_rot = tape.pieces("split", compressed, (TOKENS * block.kv_rank, TOKENS * block.rope_dim))
    latent = norm(player, block.kv_a_norm, latent)
    q_rot, k_rot = rotate(player, q_rot, q.width), rotate(player, k_rot, q.width)
    query = tape.concatenate("query with RoPE part", (q_pass, q_rot))
    key, value = _expanded(player, block, latent, k_rot)
    tape.touch(q, compressed, latent, k_rot, q_rot)
    if sparse:
        _choose_keys(player, block, x, low)
    shapes = Heads(
        heads, heads, block.query_nope_dim + block.rope_dim, block.value_head_dim, contiguous=True, masked=sparse
    )
    mixed = attend(player, query, key, value, shapes)
    tape.touch(x)
    if sparse:
        tape.touch(q, compressed, latent, k_rot, q_rot)  # DeepseekV32Attention.forward names them to its end
    return linear(player, block.o, mixed)


def _low_query(player: Player, block: LatentAttention, x: Value) -> Value:
    """What the query is projected from: x, or its compressed and normed form."""
    if block.q_a is None:
        return x
    return norm(player, block.q_a_norm, linear(player, block.q_a, x))


def _choose_keys(player: Player, block: LatentAttention, x: Value, low: Value) -> None:
    """The indexer scores every key for every query, [b, s, index heads, s] in float32, without gradients.

    While it does, the scores exist twice, and q in float32 beside its own form. What is chosen becomes a boolean mask.
    Source: models/deepseek_v32/modeling_deepseek_v32.py DeepseekV32Indexer; a layer without an indexer takes the choice
    of an earlier one (models/glm_moe_dsa).
    """
    tape = player.tape
    mask = tape.constant("chosen keys", SCORES, BOOLEAN)
    sizes = {module.name: module.outputs for module in block.extra if module.kind == "linear"}
    if not sizes:
        tape.record("choice of an earlier layer", mask, reads=(x,))
        return
    scores = tape.temporary("scores of the indexer", SCORES * sizes["indexer.weights_proj"], FLOAT32)
    query = tape.temporary("float32 queries of the indexer", TOKENS * sizes["indexer.wq_b"], FLOAT32)
    narrow = tape.temporary("queries of the indexer", TOKENS * sizes["indexer.wq_b"], x.width)
    tape.record("indexer", mask, reads=(x, low), forward_temporaries=(scores, scores, query, narrow))
    flops = SCORES * (2 * sizes["indexer.wq_b"])
    tape.add_work("indexer", "matmul", FLOAT32, flops, SCORES * (12 * sizes["indexer.weights_proj"]), NOTHING)


def _expanded(player: Player, block: LatentAttention, latent: Value, k_rot: Value) -> tuple[Value, Value]:
    tape, heads = player.tape, block.heads
    keys_values = linear(player, block.kv_b, latent)
    nope, values = TOKENS * (heads * block.query_nope_dim), TOKENS * (heads * block.value_head_dim)
    k_pass, value = tape.pieces("split", keys_values, (nope, values))
    shared = tape.reshaped(k_rot, TOKENS * (heads * block.rope_dim))
    return tape.concatenate("key with RoPE part", (k_pass, shared)), value
