"""Softmax attention: projections, QK norms, RoPE, the kernel, the output projection."""

from __future__ import annotations

from dataclasses import dataclass

from planner.architecture.spec import Attention, Module
from planner.step.encoder_decoder import encoder_decoder_attention
from planner.step.kernels import Heads, attend
from planner.step.linear import linear
from planner.step.litgpt import fused_projection
from planner.step.norms import norm, normalised
from planner.step.per_layer import hand_on, handed
from planner.step.player import FLOAT32, Player
from planner.step.sizes import TOKENS, S, Size
from planner.step.tape import NOTHING, Value, moved


@dataclass(slots=True)
class _Projected:
    query: Value
    key: Value
    value: Value
    gate: Value | None = None
    contiguous: bool = False


def attention(player: Player, block: Attention, x: Value) -> Value:
    """The attention block of LlamaAttention.forward and its variants. x: [b, s, h]."""
    if block.cross or block.position == "relative" or player.variant.head_by_head:
        return encoder_decoder_attention(player, block, x)
    projected = _projections(player, block, x)
    if player.variant.norm_place == "after_projections" or block.qkv is not None:
        _normed_heads(player, block, projected)
    if block.position == "rope":
        _rotated(player, block, projected, x)
    if block.hands_on:
        hand_on(player, projected.key, projected.value)
    if player.variant.norm_place == "after_rope":
        _normed_heads(player, block, projected)
    if block.weightless_qk_norm:
        projected.query, projected.key = (_of_length_one(player, block, v) for v in (projected.query, projected.key))
    projected.query = _tempered(player, block, projected.query)
    heads = Heads(
        block.query_heads, block.key_value_heads, block.head_dim, block.value_head_dim or block.head_dim,
        window=block.window, softcap=block.softcap, causal=block.causal, position=block.position,
        contiguous=projected.contiguous,
    )  # fmt: skip
    mixed = attend(player, projected.query, projected.key, projected.value, heads)
    player.tape.touch(x)
    if projected.gate is not None:
        opened = player.tape.unary("sigmoid", projected.gate, "result")
        mixed = player.tape.multiply("gated attention output", mixed, opened)
    for module in block.extra:
        if module.kind.endswith("norm") and module.name != "v_norm":
            mixed = norm(player, module, mixed)
    return linear(player, block.o, mixed)


def _projections(player: Player, block: Attention, x: Value) -> _Projected:
    if player.variant.litgpt_projection:
        return _Projected(*fused_projection(player, block, x))
    if block.qkv is not None:
        return _cut(player, block, _clamped(player, block, linear(player, block.qkv, x)))
    assert block.q is not None
    tape = player.tape
    q = linear(player, block.q, x)
    gate = None
    if block.output_gate:
        half = TOKENS * (block.query_heads * block.head_dim)
        q, gate = tape.pieces("query, gate", q, (half, half))
        gate = tape.copied("gate", gate)
    at_once = player.variant.norm_place == "projection"
    q = _normed(player, block.q_norm, q) if at_once else q
    if block.k is None:
        return _Projected(q, *handed(player))
    raw = linear(player, block.k, x)
    k = _normed(player, block.k_norm, raw) if at_once else raw
    v = linear(player, block.v, x) if block.v is not None else raw
    for module in block.extra:
        v = norm(player, module, v) if module.name == "v_norm" else v
    q, k, v = _clamped(player, block, q), _clamped(player, block, k), _clamped(player, block, v)
    return _Projected(q, k, v, gate)


def _clamped(player: Player, block: Attention, projected: Value) -> Value:
    """Clamped values, where the config says so; backward asks the input for where it lay (derivatives.yaml, clamp).

    In place or not is the same: an operation in place whose formula needs its input saves a copy of it first.
    """
    return player.tape.unary("clamped", projected, "input") if block.clamped else projected


def _cut(player: Player, block: Attention, fused: Value) -> _Projected:
    """Views of the fused projection, by one split or by slices; Falcon's multi-query k and v are copied out of it."""
    tape, way = player.tape, player.variant.split
    sizes = (
        TOKENS * (block.query_heads * block.head_dim),
        TOKENS * (block.key_value_heads * block.head_dim),
        TOKENS * (block.key_value_heads * block.head_dim),
    )
    if way == "split":
        q, k, v = tape.pieces("split", fused, sizes)
        return _Projected(q, k, v)
    q, k, v = (tape.slice(name, fused, size) for name, size in zip("qkv", sizes, strict=True))
    if way == "index":
        k, v = tape.copied("k", k), tape.copied("v", v)
    return _Projected(q, k, v)


def _normed_heads(player: Player, block: Attention, projected: _Projected) -> None:
    projected.query = _normed(player, block.q_norm, projected.query)
    projected.key = _normed(player, block.k_norm, projected.key)


def _normed(player: Player, module: Module | None, x: Value) -> Value:
    normed = norm(player, module, x)
    if module is not None and len(module.shape) == 2 and player.variant.layer_norm == "fused":
        return player.tape.copied("normed heads", normed)  # each head has its own LayerNorm; torch.cat joins them
    return normed


def _of_length_one(player: Player, block: Attention, x: Value) -> Value:
    """Each head over its root mean square, in float32 (Llama4TextL2Norm)."""
    wide = player.tape.cast(x, FLOAT32, "float32 copy for the norm")
    return player.tape.cast(normalised(player, wide, block.head_dim), x.width, "normed heads")


def _tempered(player: Player, block: Attention, q: Value) -> Value:
    """q times a float32 number for each position, where a layer sees none (Llama4TextAttention.forward)."""
    if not player.variant.tempered or block.position != "none":
        return q
    wide = player.tape.elementwise("tempered q", (q,), width=FLOAT32, casts=True)
    return player.tape.cast(wide, q.width, "tempered q")


# -- RoPE -------------------------------------------------------------------------------------------------------------


def _rotated(player: Player, block: Attention, projected: _Projected, x: Value) -> None:
    """Queries and keys turned by their position; a part of each head, or all of it."""
    tape = player.tape
    width = max(projected.query.width, x.width if player.rules.autocast else projected.query.width)
    q, k, reused = projected.query, projected.key, block.qkv is None and block.k is None
    rotary = block.rotary_dim or block.head_dim
    joined = rotary != block.head_dim or player.variant.joins_rotated
    tables = _own_tables(player, rotary)
    if not joined:
        projected.query = rotate(player, q, width, tables)
        projected.key = k if reused else rotate(player, k, width, tables)
    else:
        projected.query = _partly(player, q, width, rotary, block.head_dim, tables)
        projected.key = _partly(player, k, width, rotary, block.head_dim, tables)
    projected.contiguous = joined or (player.variant.rope in {"halves", "pairs"} or player.variant.litgpt_projection)
    tape.touch(q, k)


def _own_tables(player: Player, rotary: int) -> tuple[Value, ...]:
    """Where neighbouring dimensions turn together, each layer repeats cos and sin for itself and keeps them.

    GPT-J does so for every row and for q and k apart (repeat_interleave in their apply_rotary_pos_emb).
    """
    way = player.variant.rope
    if way == "pairs":
        return (player.tape.constant("cos, sin of pairs", TOKENS * (4 * rotary), player.rules.weights_width),)
    if not player.variant.repeats_tables:
        return ()
    width = FLOAT32 if player.variant.float32_tables else player.rules.weights_width
    return (player.tape.constant("cos, sin of pairs", S * (2 * rotary), width),)


def _partly(player: Player, value: Value, width: int, rotary: int, head_dim: int, tables: tuple[Value, ...]) -> Value:
    """The first `rotary` dimensions of each head turn, the others pass; both are joined in a new tensor."""
    tape = player.tape
    turning = tape.slice("turning part", value, part_of(value, rotary, head_dim))
    passing = tape.slice("passing part", value, part_of(value, head_dim - rotary, head_dim))
    turned = rotate(player, turning, width, tables)
    return tape.concatenate("rotated heads", (turned, passing), value.elements)


def part_of(value: Value, part: int, whole: int) -> Size:
    """The size of `part` dimensions out of every `whole` of a tensor."""
    return Size({monomial: coefficient * part // whole for monomial, coefficient in value.elements.terms})


def rotate(player: Player, value: Value, width: int, tables: tuple[Value, ...] = ()) -> Value:
    """q cos + rotate_half(q) sin: keeps only cos and sin, which the whole model shares (apply_rotary_pos_emb).

    `tables` are those that a layer makes for itself.
    """
    tape, way = player.tape, player.variant.rope
    wide = FLOAT32 if way in {"float32", "complex"} else width
    working = tuple(tape.temporary("RoPE products", value.elements, wide) for _ in range(2))
    out = tape.value("rotated heads", value.elements, wide, value.needs_gradient)
    tape.record(
        "rope", out, reads=(value, *tables), saves=tables, gradients=((value, True),),
        forward_temporaries=working, backward_temporaries=working,
    )  # fmt: skip
    tape.add_work(
        "rope", "elementwise", wide, NOTHING, moved(value, out) * 3, moved(value, out) * 3,
        made=moved(out) * 4, backward_made=moved(out) * 4 if value.needs_gradient else NOTHING,
    )  # fmt: skip
    return tape.cast(out, width, "rotated heads")
