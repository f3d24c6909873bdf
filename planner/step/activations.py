"""Pointwise activations, by their names in the library's table (transformers/activations.py)."""

from __future__ import annotations

from planner.step.norms import square
from planner.step.player import BOOLEAN, FLOAT32, NotModelled, Player
from planner.step.tape import StorageClass, Value

FUSED = frozenset({"silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_python_tanh", "sigmoid", "mish"})
"""One aten operation (or one autograd function) whose backward needs the input alone."""


def activate(player: Player, name: str, x: Value) -> Value:
    """An activation's result, with what its backward keeps.

    Raises:
        NotModelled: the name is none that the library's table has and this file knows.
    """
    tape = player.tape
    if name in FUSED:
        return tape.unary("activations", x, "input")
    if name in {"relu", "tanh"}:
        return tape.unary("activations", x, "result")
    if name in {"relu2", "relu_squared"}:
        return square(player, tape.unary("activations", x, "result"))
    written_out = {
        "gelu_new": _gelu_new,
        "gelu_fast": _gelu_fast,
        "quick_gelu": _quick_gelu,
        "xielu": _xielu,
        "bloom_gelu": _bloom_gelu,
    }
    if name == "gegelu":
        raise NotModelled("the activation `gegelu` of Phi-3-small, whose class no release of transformers has,")
    if name not in written_out:
        raise NotModelled(f"the activation `{name}`")
    return written_out[name](player, x)


def _cube(player: Player, x: Value) -> Value:
    working: tuple[StorageClass, ...] = tuple(
        player.tape.temporary("x ** 2 and 3 x ** 2", x.elements, x.width) for _ in range(2)
    )
    return player.tape.elementwise("pow", (x,), saves=(x,), backward_temporaries=working)


def _gelu_new(player: Player, x: Value) -> Value:
    """0.5 x (1 + tanh(c (x + 0.044715 x ** 3))), each operation a tensor (NewGELUActivation)."""
    tape = player.tape
    half = tape.unary("0.5 x", x)
    # Autocast takes powers in float32 (autocast_mode.h, AT_FORALL_FP32), which everything after inherits.
    base = tape.cast(x, FLOAT32, "float32 copy for the power") if player.rules.autocast else x
    inner = tape.add("x + x ** 3", x, tape.unary("scaled cube", _cube(player, base)))
    bent = tape.unary("tanh", tape.unary("scaled", inner), "result")
    return tape.multiply("activations", half, tape.unary("1 + tanh", bent))


def _gelu_fast(player: Player, x: Value) -> Value:
    """0.5 x (1 + tanh(c x (1 + 0.044715 x x))), each operation a tensor (FastGELUActivation)."""
    tape = player.tape
    half, scaled = tape.unary("0.5 x", x), tape.unary("c x", x)
    inner = tape.unary("1 + x x", tape.multiply("x x", tape.unary("0.044715 x", x), x))
    bent = tape.unary("tanh", tape.multiply("c x (1 + x x)", scaled, inner), "result")
    return tape.multiply("activations", half, tape.unary("1 + tanh", bent))


def _bloom_gelu(player: Player, x: Value) -> Value:
    """An autograd function written in Python: keeps x, and forms the tanh and its factors anew in backward.

    Source: models/bloom/modeling_bloom.py GeLUFunction, bloom_gelu_forward, bloom_gelu_back.
    """
    tape = player.tape
    working = tuple(tape.temporary("factors of GELU", x.elements, x.width) for _ in range(4))
    out = tape.value("activations", x.elements, x.width, x.needs_gradient)
    tape.record(
        "activations", out, reads=(x,), saves=(x,), gradients=((x, True),), forward_temporaries=working[:3],
        backward_temporaries=working,
    )  # fmt: skip
    return out


def _quick_gelu(player: Player, x: Value) -> Value:
    """x sigmoid(1.702 x) (QuickGELUActivation)."""
    opened = player.tape.unary("sigmoid", player.tape.unary("1.702 x", x), "result")
    return player.tape.multiply("activations", x, opened)


def _xielu(player: Player, x: Value) -> Value:
    """The Python form of xIELU, which runs without the CUDA package (XIELUActivation._xielu_python, arXiv 2411.13010).

    where(x > 0, alpha_p x x + beta x, (expm1(min(x, eps)) - x) alpha_n + beta x).
    """
    tape = player.tape
    positive = tape.constant("x > 0", x.elements, BOOLEAN)
    squared = tape.multiply("alpha_p x x", _alpha(player, x), x)
    first = tape.add("alpha_p x x + beta x", squared, tape.unary("beta x", x))
    ties = (tape.temporary("x == eps", x.elements, BOOLEAN), tape.temporary("half the gradient", x.elements, x.width))
    least = tape.elementwise("min(x, eps)", (x,), saves=(x,), backward_temporaries=ties)
    difference = tape.add("expm1 - x", tape.unary("expm1", least, "result"), x)
    second = tape.add("negative side", _alpha(player, difference), tape.unary("beta x", x))
    return tape.elementwise("activations", (first, second, positive), width=first.width, saves=(positive,))


def _alpha(player: Player, x: Value) -> Value:
    """x times a trained number: keeps x and spreads the number's gradient where the number is trained.

    Autocast takes softplus, which the number comes from, in float32 (autocast_mode.h), and the product is as wide.
    """
    trained, width = player.trains_base, FLOAT32 if player.rules.autocast else x.width
    spread = (player.tape.temporary("gradient of alpha before its sum", x.elements, width),) if trained else ()
    return player.tape.elementwise(
        "alpha x", (x,), width=width, saves=(x,) if trained else (), backward_temporaries=spread, extra_gradient=trained
    )
