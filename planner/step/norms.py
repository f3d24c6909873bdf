"""Norms: RMSNorm in the ways that the model classes write it, and LayerNorm."""

from __future__ import annotations

from planner.architecture.spec import Module
from planner.step.player import FLOAT32, Player, rows_of
from planner.step.tape import NOTHING, Value, moved


def norm(player: Player, module: Module | None, x: Value) -> Value:
    """RMSNorm computed in float32 (LlamaRMSNorm and its variants) or LayerNorm."""
    if module is None:
        return x
    if module.kind == "layer_norm":
        return _layer_norm(player, module, x)
    tape = player.tape
    wide = tape.cast(x, FLOAT32, "float32 copy for the norm")
    narrow = player.variant.rms == "narrow_input"
    normal = normalised(player, wide, module.shape[-1], x if narrow else wide)
    return _weighted(player, module, normal, x.width)


def normalised(player: Player, wide: Value, width: int, divided: Value | None = None) -> Value:
    """x / sqrt(mean(x^2)) over the last dimension, in x's own dtype: keeps x and 1/rms, and what is divided."""
    tape = player.tape
    squares = square(player, wide)
    inverse = tape.elementwise("rsqrt(mean)", (squares,), elements=rows_of(wide, width), save_output=True, what="1/rms")
    return tape.multiply("normalise", wide if divided is None else divided, inverse, what="normalised input")


def square(player: Player, x: Value) -> Value:
    """x ** 2. Backward forms grad * (2 * x ** 1): the power and the product live beside the result.

    Source: torch/csrc/autograd/FunctionsManual.cpp pow_backward.
    """
    tape = player.tape
    working = tuple(tape.temporary("x ** 1 and 2 x", x.elements, x.width) for _ in range(2))
    return tape.elementwise("pow", (x,), saves=(x,), backward_temporaries=working, what="squares")


def _weighted(player: Player, module: Module, normal: Value, width: int) -> Value:
    tape, way = player.tape, player.variant.rms
    if not module.weight_elements:
        return tape.cast(normal, width, "normed input")
    if way in {"narrow", "narrow_input"}:
        return norm_weight(player, module, tape.cast(normal, width, "normalised input"))
    if way in {"unit_offset", "float32_weight"}:
        # 1 + weight in float32, or its float32 copy, is a small tensor that the product keeps.
        copy = tape.elementwise("float32 weight", (player.parameter(module),), width=FLOAT32)
        return tape.cast(tape.multiply("norm weight", normal, copy, what="normed input"), width, "normed input")
    return tape.cast(norm_weight(player, module, normal), width, "normed input")


def norm_weight(player: Player, module: Module, x: Value) -> Value:
    """x * weight: keeps x when the weight is trained, whose gradient is spread before it is summed."""
    tape, rules = player.tape, player.rules
    width = max(x.width, rules.weights_width)
    spread = (tape.temporary("gradient of the norm's weight before its sum", x.elements, width),)
    out = tape.value("normed input", x.elements, width, x.needs_gradient or player.trains_base)
    tape.record(
        "norm weight",
        out,
        reads=(x,),
        saves=(x,) if player.trains_base else (),
        gradients=((x, True),),
        backward_temporaries=spread if player.trains_base else (),
        weight_gradient=player.trained_gradient(module),
        saves_parameter=x.needs_gradient,
    )
    tape.add_work(
        "norm", "elementwise", width, NOTHING, moved(x, out), moved(x, out) * 2,
        made=moved(out), backward_made=moved(out) * (int(x.needs_gradient) + int(player.trains_base)),
    )  # fmt: skip
    return out


# -- LayerNorm --------------------------------------------------------------------------------------------------------


def _layer_norm(player: Player, module: Module, x: Value) -> Value:
    """aten::native_layer_norm keeps its input and two float32 numbers a row; autocast runs it in float32."""
    tape, way = player.tape, player.variant.layer_norm
    if way == "steps":
        return _layer_norm_in_steps(player, module, x)
    widened = player.rules.autocast or way == "float32"
    source = tape.cast(x, FLOAT32, "float32 copy for the norm") if widened else x
    statistics = tape.constant("mean and 1/std", rows_of(x, module.shape[-1]) * 2, FLOAT32)
    out = tape.value("normed input", source.elements, source.width, source.needs_gradient or player.trains_base)
    tape.record(
        "layer_norm",
        out,
        reads=(source,),
        saves=(source, statistics),
        gradients=((source, True),),
        weight_gradient=player.trained_gradient(module) if module.elements else (),
    )
    tape.add_work(
        "norm", "elementwise", out.width, NOTHING, moved(source, out), moved(source, out) * 2,
        made=moved(out), backward_made=moved(source) if source.needs_gradient else NOTHING,
    )  # fmt: skip
    return tape.cast(out, x.width, "normed input") if way == "float32" else out


def _layer_norm_in_steps(player: Player, module: Module, x: Value) -> Value:
    """CohereLayerNorm: (x - mean) is formed twice, once to be squared and once to be scaled, all in float32."""
    tape = player.tape
    rows = rows_of(x, module.shape[-1])
    wide = tape.cast(x, FLOAT32, "float32 copy for the norm")
    mean = tape.elementwise("mean", (wide,), elements=rows)
    squares = square(player, tape.add("x - mean", wide, mean))
    inverse = tape.elementwise("rsqrt(mean)", (squares,), elements=rows, save_output=True, what="1/std")
    normal = tape.multiply("normalise", tape.add("x - mean", wide, mean), inverse, what="normalised input")
    weight = tape.cast(player.parameter(module), FLOAT32, "float32 weight")
    tape.touch(wide)
    return tape.cast(tape.multiply("norm weight", normal, weight, what="normed input"), x.width, "normed input")


def scaled_by_number(player: Player, x: Value, wanted: bool) -> Value:
    """x times a Python number, where the class does that: keeps nothing."""
    return player.tape.unary("scale", x) if wanted else x
