"""Llama 4's experts: each computes every token, most of them times nothing (modeling_llama4.py Llama4TextMoe)."""

from __future__ import annotations

from planner.architecture.spec import Module, Moe
from planner.step.activations import activate
from planner.step.feed_forward import mlp
from planner.step.linear import linear, weight_copies
from planner.step.player import FLOAT32, INDEX, Player
from planner.step.sizes import TOKENS, Size, constant
from planner.step.tape import Value, moved


def every_expert(player: Player, block: Moe, x: Value) -> Value:
    """The tokens once for each expert, times their score or 0; two batched products; summed over the experts.

    x: [b, s, h]; in between [experts, b s, width].
    """
    assert block.shared is not None
    tape = player.tape
    rows = TOKENS * block.expert_count
    scores = _scores(player, block, x)
    repeated = tape.copied("tokens of every expert", x, rows * block.hidden)
    scored = tape.multiply("scored tokens", repeated, tape.copied("scores by expert", scores))
    both = _product(player, block.experts[0], scored, rows, 2 * block.intermediate)
    half = rows * block.intermediate
    gate, up = tape.pieces("chunk", both, (half, half))
    hidden = tape.multiply("gated activations", up, activate(player, block.activation, gate))
    routed = _product(player, block.experts[1], hidden, rows, block.hidden)
    tape.touch(both, gate, hidden)
    shared = mlp(player, block.shared, x)
    total = tape.elementwise("sum over experts", (routed,), elements=TOKENS * block.hidden)
    result = Value(shared.elements, shared.width, shared.storage, shared.needs_gradient or total.needs_gradient)
    tape.record("routed + shared", result, reads=(shared, total), gradients=((shared, False), (total, False)))
    tape.touch(scores, scored, routed)
    return result


def _scores(player: Player, block: Moe, x: Value) -> Value:
    """The sigmoid of the chosen experts' logits and 0 for the others, [b s, experts]."""
    tape = player.tape
    logits = linear(player, block.router, x)
    slots = tape.constant("chosen slots", TOKENS * block.top_k, INDEX)
    scattered = tape.elementwise("logits of the chosen", (logits, slots), width=logits.width, saves=(slots,))
    wide = tape.unary("router scores", tape.cast(scattered, FLOAT32, "float32 logits of the router"), "result")
    tape.touch(logits)
    return tape.cast(wide, logits.width, "router scores")


def _product(player: Player, module: Module, x: Value, rows: Size, outputs: int) -> Value:
    """torch.bmm with the experts' weight, which is stored as it is multiplied, [experts, in, out]."""
    tape, rules, trained = player.tape, player.rules, player.trains_base
    source = tape.cast(x, rules.compute_width, "autocast of tokens by expert") if rules.autocast else x
    copies = weight_copies(player, module, trained=trained, wanted=x.needs_gradient or trained)
    width = rules.compute_width if rules.autocast else source.width
    out = tape.value("expert activations", rows * outputs, width, source.needs_gradient or trained)
    tape.record(
        module.name, out, reads=(source, *copies),
        saves=((source,) if trained else ()) + (copies if source.needs_gradient else ()),
        gradients=((source, True), *((copy, True) for copy in copies)),
        weight_gradient=player.trained_gradient(module) if not copies else (),
        keep_recomputed=True, saves_parameter=source.needs_gradient,
    )  # fmt: skip
    flops = TOKENS * (2 * module.weight_elements)
    products = int(source.needs_gradient) + int(trained)
    through = moved(source, out) + constant(module.weight_elements * width)
    tape.add_work(module.name, "matmul", width, flops, through, through * products, flops * products)
    return out
