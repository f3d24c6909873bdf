"""softmax(q k^T) v by the kernel that the device runs, and by the model classes' own eager code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.step.player import BOOLEAN, FLOAT32, Player
from planner.step.sizes import SCORES, TOKENS, Size, above, at_most, constant, windowed
from planner.step.tape import NOTHING, StorageClass, Value, moved

FLASH_WIDTH = 256
"""FlashAttention's largest head width (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp)."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The shapes of one attention. `contiguous` is True when q lies head by head in memory, as torch.cat leaves it.

    `scores` counts the pairs of positions of one head, [b, s, s] or [b, s, e] with an encoder's. `masked` heads have a
    boolean mask of their own, [b, 1, s, s].
    """

    count: int
    groups: int
    width: int
    value_width: int
    window: int | None = None
    softcap: bool = False
    causal: bool = True
    position: str = "rope"
    contiguous: bool = False
    scores: Size = SCORES
    masked: bool = False

    @property
    def queries(self) -> Size:
        """Elements of q."""
        return TOKENS * (self.count * self.width)

    @property
    def result(self) -> Size:
        """Elements of the attention's output."""
        return TOKENS * (self.count * self.value_width)


def attend(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """softmax(q k^T) v. Result: [b, s, heads * value_width].

    FlashAttention takes 16-bit inputs only and the memory-efficient kernel no grouped heads, so that float32 with
    grouped heads falls back to the score matrix (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).
    """
    kernel = player.rules.kernel if player.variant.sdpa or player.rules.kernel == "flash" else "eager"
    if player.rules.autocast and kernel != "eager":
        narrow = player.rules.compute_width
        q, k, v = (player.tape.cast(value, narrow, "autocast of q, k, v") for value in (q, k, v))
    _work(player, q, heads)
    if player.variant.copies_groups and heads.groups != heads.count:
        k = player.tape.copied("repeat_kv", k, TOKENS * (heads.count * heads.width))
        v = player.tape.copied("repeat_kv", v, TOKENS * (heads.count * heads.value_width))
        heads = replace(heads, groups=heads.count)
    if kernel == "eager":
        return _perhaps_again(player, lambda: _eager(player, q, k, v, heads))
    if kernel == "flash":
        return _padded_flash(player, q, k, v, heads)
    if player.rules.on_processor and kernel == "fused":
        return _on_processor(player, q, k, v, heads)
    grouped = heads.groups != heads.count
    if kernel == "math" or (grouped and (q.width == FLOAT32 or not player.variant.repeats_heads)):
        return _perhaps_again(player, lambda: _math(player, q, k, v, heads))
    return _fused(player, q, k, v, heads)


def _perhaps_again(player: Player, act: Callable[[], Value]) -> Value:
    """Attention with score matrices; `selective_attention` keeps what it reads and makes the rest again in backward.

    Source: Megatron-LM core/transformer/attention.py `_checkpointed_attention_forward` (arXiv 2205.05198, section 5).
    A fused kernel keeps no score matrix, so that nothing is made again.
    """
    start = len(player.tape.operations)
    result = act()
    if player.rules.checkpointing == "selective_attention":
        player.tape.again.append(range(start, len(player.tape.operations)))
    return result


def _fused(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """The kernel that sdpa picks on CUDA: FlashAttention where it can, else the memory-efficient one."""
    if heads.masked or heads.width != heads.value_width or heads.width > FLASH_WIDTH or q.width == FLOAT32:
        return _efficient(player, q, k, v, heads)
    if heads.window is not None:
        return _windowed(player, q, k, v, heads)
    return _flash(player, q, k, v, heads, constant(1))


def _work(player: Player, q: Value, heads: Heads) -> None:
    """2 FLOPs an element of both products over the visible half of the scores; backward 2.5 times.

    Source: arXiv 2205.14135.
    """
    visible = TOKENS * windowed(heads.window) if heads.scores is SCORES else heads.scores
    full = visible * (heads.count * (heads.width + heads.value_width))
    through = moved(q) * 4
    player.tape.add_work(
        "attention", "attention", q.width, full, through, through * 2, _scaled(full, 5, 2), full * 2,
        made=moved(q), backward_made=moved(q) * 3 if q.needs_gradient else NOTHING,
    )  # fmt: skip


def _scaled(size: Size, numerator: int, denominator: int) -> Size:
    return Size({monomial: coefficient * numerator // denominator for monomial, coefficient in size.terms})


def _times(kind: StorageClass, factor: Size) -> StorageClass:
    return StorageClass(kind.what, kind.bytes * factor, kind.term)


def _flash_scratch(player: Player, heads: Heads, width: int) -> list[StorageClass]:
    """FlashAttention-2's backward allocates a float32 accumulator of dq and row sums.

    With grouped heads also dk and dv at the width of the query heads, before they are summed (aten/src/ATen/native/
    transformers/cuda/flash_attn/flash_api.cpp, mha_bwd).
    """
    tape = player.tape
    rounded = -(-heads.width // 32) * 32
    working = [
        tape.temporary("float32 gradient of q", TOKENS * (heads.count * rounded), FLOAT32),
        tape.temporary("row sums", TOKENS * heads.count, FLOAT32),
    ]
    if heads.groups != heads.count:
        working += [tape.temporary("gradient of k, v per query head", heads.queries, width)] * 2
    return working


def _flash(player: Player, q: Value, k: Value, v: Value, heads: Heads, factor: Size) -> Value:
    """FlashAttention-2 in PyTorch: keeps q, k, v, the output and float32 log-sum-exp [b, heads, s]."""
    tape = player.tape
    scratch = tuple(_times(kind, factor) for kind in _flash_scratch(player, heads, q.width))
    return _kernel(
        player,
        "flash attention",
        (q, k, v),
        heads,
        scratch,
        tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32),
    )


def _padded_flash(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """The flash-attn package, which knows windows; unequal head widths are padded to the query's and cut afterwards."""
    if heads.width == heads.value_width:
        return _flash(player, q, k, v, heads, constant(1))
    padded = player.tape.copied("padded values", v, TOKENS * (heads.groups * heads.width))
    out = _flash(player, q, k, padded, replace(heads, value_width=heads.width), constant(1))
    return player.tape.copied("attention output", player.tape.slice("unpadded", out, heads.result))


def _kernel(
    player: Player, name: str, inputs: tuple[Value, ...], heads: Heads, scratch: tuple[StorageClass, ...], *kept: Value
) -> Value:
    """A fused kernel; its result takes q's layout, so that a q laid head by head makes the output a copy.

    at::empty_like(q) keeps q's strides (flash_api.cpp mha_fwd), and the model reshapes to [b, s, heads * width].
    """
    tape = player.tape
    q = inputs[0]
    out = tape.value("attention output", heads.result, q.width, any(value.needs_gradient for value in inputs))
    tape.record(
        name, out, reads=(*inputs, *kept), saves=(*inputs, out, *kept),
        gradients=tuple((value, True) for value in inputs), backward_temporaries=scratch, keep_recomputed=True,
    )  # fmt: skip
    return tape.copied("attention output", out) if heads.contiguous and name != "efficient attention" else out


def _repeated(player: Player, value: Value, heads: Heads, width: int, factor: Size) -> Value:
    """repeat_kv: each key and value head once for every query head; backward sums over the group.

    A single head is only seen several times (expand), which a fused kernel takes as it is.
    """
    if heads.groups == heads.count:
        return value
    if heads.groups == 1 and player.variant.sdpa and player.rules.kernel in {"fused", "flash"}:
        return player.tape.reshaped(value, TOKENS * (heads.count * width) * factor)
    return player.tape.copied("repeat_kv", value, TOKENS * (heads.count * width) * factor)


def _efficient_scratch(player: Player, heads: Heads, width: int) -> list[StorageClass]:
    """The memory-efficient backward: row sums, and for 16-bit inputs a float32 accumulator of dq.

    Source: aten/src/ATen/native/transformers/cuda/attention_backward.cu, mem_eff_attention/kernel_backward.h.
    """
    tape = player.tape
    rounded = -(-heads.width // 64) * 64
    sums = tape.temporary("row sums", TOKENS * heads.count, FLOAT32)
    accumulator = tape.temporary("float32 gradient of q", TOKENS * (heads.count * rounded), FLOAT32)
    return [sums] if width == FLOAT32 else [sums, accumulator]


def _efficient(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """The memory-efficient kernel: for unequal head widths, widths above 256 and float32."""
    k = _repeated(player, k, heads, heads.width, constant(1))
    v = _repeated(player, v, heads, heads.value_width, constant(1))
    if heads.window is not None or heads.masked:
        seen = above(heads.window - 1) if heads.window is not None else constant(1)
        return _kernel(
            player, "efficient attention", (q, k, v), heads, tuple(_efficient_scratch(player, heads, q.width)),
            player.tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32),
            additive_mask(player, q.width, seen),
        )  # fmt: skip
    return _kernel(
        player, "efficient attention", (q, k, v), heads, tuple(_efficient_scratch(player, heads, q.width)),
        player.tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32),
    )  # fmt: skip


def additive_mask(player: Player, width: int, factor: Size) -> Value:
    """The boolean mask of the model as numbers in q's dtype, [b, 1, s, s], made for every layer and kept.

    Source: aten/src/ATen/native/transformers/attention.cpp convert_boolean_attn_mask.
    """
    tape = player.tape
    mask = tape.value("additive mask", SCORES * factor, width, False)
    inverse = tape.temporary("inverted mask", SCORES * factor, BOOLEAN)
    tape.record("additive mask", mask, reads=(), forward_temporaries=(inverse,))
    return mask


def _windowed(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """A sliding window under sdpa: FlashAttention while the sequence is shorter, the memory-efficient kernel beyond.

    Longer sequences need a mask (transformers/masking_utils.py _ignore_causal_mask_sdpa), which neither FlashAttention
    nor grouped heads take (integrations/sdpa_attention.py use_gqa_in_sdpa), so that k and v are repeated. Sizes carry
    which of the two holds. Other frameworks' flash_attention knows windows and needs none of this.
    """
    assert heads.window is not None
    long, short = above(heads.window - 1), at_most(heads.window - 1)
    tape = player.tape
    inputs = (q, k, v)
    if heads.groups not in {1, heads.count}:
        inputs = (q, *_repeated_while_masked(player, k, v, heads))
    scratch = [_times(kind, short) for kind in _flash_scratch(player, heads, q.width)]
    scratch += [_times(kind, long) for kind in _efficient_scratch(player, heads, q.width)]
    kept = (tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32), additive_mask(player, q.width, long))
    return _kernel(player, "flash attention", inputs, heads, tuple(scratch), *kept)


def _on_processor(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """The CPU's fused kernel takes every dtype and width, and grouped heads as they are.

    It takes neither unequal head widths nor dropout. Its scratch is a tile of scores a thread. A window's mask is kept
    as numbers, and with it transformers repeats grouped heads (aten/src/ATen/native/transformers/sdp_utils_cpp.cpp,
    attention.cpp; native/cpu/FlashAttentionKernel.cpp; integrations/sdpa_attention.py use_gqa_in_sdpa).
    """
    ungrouped = heads.groups != heads.count and not player.variant.repeats_heads
    if heads.width != heads.value_width or ungrouped or "attention" in player.variant.dropouts:
        return _perhaps_again(player, lambda: _math(player, q, k, v, heads))
    inputs = (q, k, v)
    kept = (player.tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32),)
    if heads.window is not None:
        if heads.groups not in {1, heads.count}:
            inputs = (q, *_repeated_while_masked(player, k, v, heads))
        kept = (*kept, additive_mask(player, q.width, above(heads.window - 1)))
    return _kernel(player, "processor attention", inputs, heads, (), *kept)


def _repeated_while_masked(player: Player, k: Value, v: Value, heads: Heads) -> tuple[Value, ...]:
    """k and v as they are while no mask is needed, repeated for every query head beyond the window."""
    assert heads.window is not None
    long, short = above(heads.window - 1), at_most(heads.window - 1)
    near = tuple(_kept_while(player, value, short) for value in (k, v))
    return (*near, _repeated(player, k, heads, heads.width, long), _repeated(player, v, heads, heads.value_width, long))


def _kept_while(player: Player, value: Value, factor: Size) -> Value:
    """The same tensor where the factor is 1, nothing where it is 0."""
    out = player.tape.value("keys or values", value.elements * factor, value.width, value.needs_gradient)
    player.tape.record("alias", out, reads=(value,), gradients=((value, False),))
    return out


# -- score matrices ---------------------------------------------------------------------------------------------------


def _math(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """PyTorch's math fallback computes 16-bit inputs in float32 throughout.

    Source: aten/src/ATen/native/transformers/attention.cpp, _scaled_dot_product_attention_math.
    """
    tape, dtype = player.tape, q.width
    q, k, v = (tape.cast(value, FLOAT32, "float32 copy for the math kernel") for value in (q, k, v))
    if player.variant.repeats_heads:
        k = _repeated(player, k, heads, heads.width, constant(1))
        v = _repeated(player, v, heads, heads.value_width, constant(1))
    scores = _scores(player, q, k, heads)
    weights = tape.unary("softmax", tape.unary("masked scores", tape.unary("scaled scores", scores)), "result")
    if "attention" in player.variant.dropouts:
        weights = player.dropout(weights, "dropped attention weights")
    return tape.cast(_mixed(player, weights, v, heads), dtype, "attention output")


def _scores(player: Player, q: Value, k: Value, heads: Heads, width: int | None = None) -> Value:
    """q k^T, [b, heads, s, s]."""
    return player.tape.elementwise(
        "scores", (q, k), elements=heads.scores * heads.count, width=q.width if width is None else width, saves=(q, k)
    )


def _mixed(player: Player, weights: Value, v: Value, heads: Heads) -> Value:
    """weights v, then laid out token by token."""
    return player.tape.elementwise(
        "attention output", (weights, v), elements=heads.result, width=v.width, saves=(weights, v)
    )


def _eager(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """The class's own code. Its weights are returned, so that the layer's code holds them until it ends."""
    way = player.variant.scores
    if way == "sinks":
        return _eager_with_sinks(player, q, k, v, heads)
    if way == "flat":
        return _eager_flat(player, q, k, v, heads)
    dtype = q.width
    if way == "float32":
        q, k = (player.tape.cast(value, FLOAT32, "float32 copy of q or k") for value in (q, k))
    else:
        k = _repeated(player, k, heads, heads.width, constant(1))
        v = _repeated(player, v, heads, heads.value_width, constant(1))
    q, k, v = (_in_product(player, value) for value in (q, k, v))
    masked = _masked_scores(player, q, k, heads)
    # GPT-2 and BERT leave the softmax in the model's dtype; autocast takes it up all the same.
    narrow = way == "narrow" and not player.rules.autocast
    wide = masked if narrow else player.tape.cast(masked, FLOAT32, "float32 scores")
    weights = player.tape.unary("attention weights", wide, "result")
    weights = player.tape.cast(weights, dtype, "attention weights")
    player.tape.touch(masked)
    mixed = _mixed(player, _in_product(player, _dropped(player, weights)), v, heads)
    if way in {"alibi", "bias"}:
        player.tape.touch(masked)
    return mixed


def _in_product(player: Player, x: Value) -> Value:
    """An operand of a product: autocast's copy in the compute dtype."""
    rules = player.rules
    return player.tape.cast(x, rules.compute_width, "autocast of q, k, v") if rules.autocast else x


def _masked_scores(player: Player, q: Value, k: Value, heads: Heads) -> Value:
    """q k^T scaled, capped where the class does, biased by ALiBi, masked (eager_attention_forward)."""
    tape, way = player.tape, player.variant.scores
    scores = _scores(player, q, k, heads)
    if way == "alibi":
        masked = tape.unary("masked scores", scores)
        player.held.append(scores)
        return masked
    scores = tape.unary("scaled scores", scores)
    if heads.softcap:
        bent = tape.unary("tanh", tape.unary("scores / cap", scores), "result")
        scores = tape.unary("capped scores", bent)
    if way == "bias":
        scores = tape.unary("biased scores", scores)
    return tape.unary("masked scores", scores)


def _dropped(player: Player, weights: Value) -> Value:
    """Attention dropout, and the name that keeps the weights, which an attention that is made again doesn't return."""
    if "attention" in player.variant.dropouts:
        weights = player.dropout(weights, "dropped attention weights")
    _hold(player, weights)
    return weights


def _hold(player: Player, weights: Value) -> None:
    if player.rules.checkpointing != "selective_attention":
        player.held.append(weights)


def _eager_flat(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """XGLM: the softmax stays in the model's dtype; torch.max keeps the masked scores and compares them again."""
    tape = player.tape
    masked = tape.unary("masked scores", _scores(player, q, k, heads))
    ties = (
        *(tape.temporary("masked score is the limit", masked.elements, BOOLEAN) for _ in range(2)),
        tape.temporary("half the gradient", masked.elements, masked.width),
    )
    limited = tape.elementwise("scaled scores", (masked,), saves=(masked,), backward_temporaries=ties)
    weights = tape.unary("attention weights", limited, "result")
    _hold(player, weights)
    if "attention" in player.variant.dropouts:
        weights = player.dropout(weights, "dropped attention weights")
    return _mixed(player, weights, v, heads)


def _eager_with_sinks(player: Player, q: Value, k: Value, v: Value, heads: Heads) -> Value:
    """gpt-oss: a learned logit per head stands beside the scores in the softmax and is dropped from its result.

    The scores are joined with it in a new tensor, their maximum is subtracted, the softmax stays in the model's dtype.
    """
    tape, dtype = player.tape, q.width
    k = _repeated(player, k, heads, heads.width, constant(1))
    v = _repeated(player, v, heads, heads.value_width, constant(1))
    q, k, v = (_in_product(player, value) for value in (q, k, v))
    masked = tape.cast(_masked_scores(player, q, k, heads), dtype, "masked scores")
    joined = tape.concatenate("scores with sinks", (masked, tape.constant("sinks", TOKENS * heads.count, masked.width)))
    shifted = tape.elementwise("scores - maximum", (joined,))
    weights = tape.unary("attention weights", shifted, "result")
    kept = tape.slice("weights without sinks", weights, SCORES * heads.count)
    tape.touch(masked)
    mixed = _mixed(player, _in_product(player, _dropped(player, kept)), v, heads)
    tape.touch(shifted)
    return mixed


# -- a bias of its own for every pair of positions --------------------------------------------------------------------


def biased(player: Player, inputs: tuple[Value, Value, Value], bias: Value, heads: Heads) -> Value:
    """Attention whose scores get a bias [1, heads, s, keys] (T5): no FlashAttention takes one.

    The CPU's fused kernel takes no bias that wants a gradient (aten/src/ATen/native/transformers/sdp_utils_cpp.cpp).
    """
    kernel, rules = player.rules.kernel, player.rules
    if rules.autocast and kernel != "eager":
        q, k, v = (player.tape.cast(value, rules.compute_width, "autocast of q, k, v") for value in inputs)
        bias = player.tape.cast(bias, rules.compute_width, "autocast of the bias")
        inputs = (q, k, v)
    _work(player, inputs[0], heads)
    if kernel == "eager":
        return _perhaps_again(player, lambda: _eager_biased(player, inputs, bias, heads))
    unfused = bias.needs_gradient or "attention" in player.variant.dropouts
    if kernel == "math" or (rules.on_processor and unfused):
        return _perhaps_again(player, lambda: _math_biased(player, inputs, bias, heads))
    rows = Value(heads.scores * heads.count, bias.width, bias.storage, bias.needs_gradient)
    player.tape.record("expand", rows, reads=(bias,), gradients=((bias, False),))
    scratch = () if rules.on_processor else tuple(_efficient_scratch(player, heads, inputs[0].width))
    kept = player.tape.constant("log-sum-exp", TOKENS * heads.count, FLOAT32)
    return _kernel(player, "efficient attention", (*inputs, rows), heads, scratch, kept)


def _eager_biased(player: Player, inputs: tuple[Value, Value, Value], bias: Value, heads: Heads) -> Value:
    """T5's own code: the softmax stays in the model's dtype, and its weights are returned."""
    tape, (q, k, v) = player.tape, inputs
    scores = tape.add("biased scores", tape.unary("scaled scores", _scores(player, q, k, heads)), bias)
    if heads.causal:
        scores = tape.unary("masked scores", scores)
    weights = tape.unary("attention weights", scores, "result")
    tape.touch(scores)
    return _mixed(player, _dropped(player, weights), v, heads)


def _math_biased(player: Player, inputs: tuple[Value, Value, Value], bias: Value, heads: Heads) -> Value:
    tape, dtype = player.tape, inputs[0].width
    q, k, v = (tape.cast(value, FLOAT32, "float32 copy for the math kernel") for value in inputs)
    scores = tape.add("biased scores", _scores(player, q, k, heads), tape.cast(bias, FLOAT32, "float32 bias"))
    weights = tape.unary("softmax", scores, "result")
    if "attention" in player.variant.dropouts:
        weights = player.dropout(weights, "dropped attention weights")
    return tape.cast(_mixed(player, weights, v, heads), dtype, "attention output")
