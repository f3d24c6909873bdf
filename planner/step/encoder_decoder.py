"""Attention of models with an encoder and a decoder: relative position bias, and a decoder that reads the encoder.

Source: transformers models/t5/modeling_t5.py T5Attention, models/whisper/modeling_whisper.py WhisperAttention,
integrations/sdpa_attention.py create_position_bias_mask.
"""

from __future__ import annotations

from planner.architecture.spec import Attention, Layer, Module, Stack
from planner.step.kernels import Heads, attend, biased
from planner.step.linear import linear
from planner.step.player import BOOLEAN, INDEX, NotModelled, Player, Shared
from planner.step.sizes import CROSS_SCORES, ENCODED, SCORES, TOKENS, S, Size
from planner.step.tape import Value, moved

PAIRS = S * S
CROSS_PAIRS = Size({("e", "s"): 1})


def encoder_decoder_attention(player: Player, block: Attention, x: Value) -> Value:
    """Self-attention, or cross-attention whose keys and values come from the encoder. x: [b, s, h]."""
    source, rows = (x, TOKENS) if not block.cross else (_encoded(player), ENCODED)
    assert block.q is not None
    assert block.k is not None
    assert block.v is not None
    q = linear(player, block.q, x)
    if player.variant.head_by_head:
        q = player.tape.copied("q head by head", player.tape.unary("scaled q", q))
    k = linear(player, block.k, source, rows)
    k = player.tape.copied("k head by head", k) if player.variant.head_by_head else k
    v = linear(player, block.v, source, rows)
    v = player.tape.copied("v head by head", v) if player.variant.head_by_head else v
    heads = Heads(
        block.query_heads, block.key_value_heads, block.head_dim, block.head_dim, causal=block.causal,
        position=block.position, contiguous=player.variant.head_by_head,
        scores=CROSS_SCORES if block.cross else SCORES,
    )  # fmt: skip
    if player.variant.head_by_head:
        mixed = attend(player, q, k, v, heads)
    else:
        if player.rules.kernel == "flash":
            raise NotModelled("flash_attention with a relative position bias, which transformers refuses")
        mixed = biased(player, (q, k, v), _bias(player, block), heads)
    player.tape.touch(x)
    return linear(player, block.o, mixed)


def _encoded(player: Player) -> Value:
    if player.shared.encoded is None:
        raise NotModelled("cross-attention without an encoder")
    return player.shared.encoded


def _bias(player: Player, block: Attention) -> Value:
    """What is added to the scores, made in the first layer of a stack and handed on; a mask for the causal ones."""
    shared, tape, width = player.shared, player.tape, player.rules.weights_width
    if block.cross:
        if shared.crossing is None:
            # Checkpointing makes the zeros want a gradient (T5Attention.forward).
            wants = player.rules.checkpoint_every > 0
            shared.crossing = tape.value(
                "zero position bias", CROSS_PAIRS * block.query_heads, player.rules.compute_width, wants
            )
            tape.record("zeros", shared.crossing, reads=())
            shared.made.append(shared.crossing)
        return shared.crossing
    if shared.bias is None:
        shared.bias = _relative_bias(player, block)
        shared.made.append(shared.bias)
    if player.rules.kernel == "eager":
        return shared.bias
    seen = shared.bias
    if block.causal:
        condition = tape.constant("causal condition", PAIRS, BOOLEAN)
        seen = tape.elementwise("bias or nothing", (seen, condition), saves=(condition,), width=width)
    laid = tape.value("position bias of a layer", seen.elements, width, seen.needs_gradient)
    tape.record("contiguous", laid, reads=(seen,), gradients=((seen, False),))
    return laid


def _relative_bias(player: Player, block: Attention) -> Value:
    """A look-up for each pair of positions, [s, s, heads], which keeps the numbers of the buckets."""
    tape, trained = player.tape, player.trains_base
    table = block.extra[0]
    elements = PAIRS * block.query_heads
    buckets = tape.constant("buckets", PAIRS, INDEX)
    bias = tape.value("position bias", elements, player.rules.weights_width, trained)
    tape.record(
        "relative_attention_bias", bias, reads=(buckets,), saves=(buckets,),
        weight_gradient=player.trained_gradient(table),
        backward_temporaries=(tape.temporary("gradient laid by pairs", elements, player.rules.weights_width),),
    )  # fmt: skip
    return bias


def shared_by(player: Player, layer: Layer, hidden: int, encoded: bool | None) -> Shared:
    """What a layer reads of others: the encoder's result, and the bias unless its own table makes it."""
    width, shared = player.rules.weights_width, Shared()
    if encoded is not None:
        shared.encoded = player.outside("encoder's result", ENCODED * hidden, width, needs_gradient=encoded)
    mixers = [sublayer.mixer for sublayer in layer.sublayers if isinstance(sublayer.mixer, Attention)]
    relative = next((mixer for mixer in mixers if mixer.position == "relative"), None)
    if relative is None or relative.extra:
        return shared
    shared.bias = player.outside(
        "position bias", PAIRS * relative.query_heads, width, needs_gradient=player.rules.trains_base
    )
    if encoded is not None:
        wants = player.rules.checkpoint_every > 0
        size = CROSS_PAIRS * relative.query_heads
        shared.crossing = player.outside("zero position bias", size, player.rules.compute_width, needs_gradient=wants)
    return shared


def heard(player: Player, encoder: Stack) -> Value:
    """Whisper's spectrogram through two convolutions, the second with stride 2, plus fixed positions.

    A convolution keeps its input where its weight is trained, `gelu` keeps its own.
    """
    tape = player.tape
    assert encoder.positions_per_sample is not None
    first, second = (module for module in encoder.before if module.kind == "conv")
    positions = Size({("b",): encoder.positions_per_sample})
    x = tape.constant("spectrogram", positions * (2 * first.shape[1]), player.rules.weights_width)
    wide = _convolved(player, first, x, positions * (2 * first.shape[0]))
    wide = tape.unary("gelu", wide, "input")
    narrow = tape.unary("gelu", _convolved(player, second, wide, positions * second.shape[0]), "input")
    placed = tape.unary("with positions", narrow)
    return player.dropout(placed) if "embedding" in player.variant.dropouts else placed


def _convolved(player: Player, module: Module, x: Value, elements: Size) -> Value:
    tape = player.tape
    out = tape.value("convolution", elements, x.width, x.needs_gradient or player.trains_base)
    tape.record(
        module.name, out, reads=(x,), saves=(x,), gradients=((x, True),),
        weight_gradient=player.trained_gradient(module), saves_parameter=True,
    )  # fmt: skip
    flops = elements * (2 * module.shape[1] * module.shape[2])
    products = int(x.needs_gradient) + int(player.trains_base)
    tape.add_work(module.name, "matmul", x.width, flops, moved(x, out), moved(x, out) * products, flops * products)
    return out
