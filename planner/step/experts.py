"""Mixture of experts: the router, the routed experts over the chosen slots, shared experts.

Routed experts follow transformers/integrations/moe.py grouped_mm_experts_forward, which the library takes where the
class can. Classes that loop over experts are in `looped_experts`.
"""

from __future__ import annotations

from dataclasses import replace

from planner.architecture.spec import Module, Moe
from planner.step.activations import activate
from planner.step.every_expert import every_expert
from planner.step.feed_forward import gated_halves, mlp
from planner.step.linear import linear, parameter_product, weight_copies
from planner.step.norms import norm_weight, normalised
from planner.step.player import FLOAT32, INDEX, Player
from planner.step.sizes import TOKENS, Size, constant
from planner.step.tape import Product, StorageClass, Value, moved


def moe(player: Player, block: Moe, x: Value) -> Value:
    """The sparse block; shared experts run before or after the routed ones, as the class has it."""
    tape = player.tape
    if player.variant.every_expert:
        result = every_expert(player, block, x)
    elif block.shared is None:
        result = _routed(player, block, x)
    elif player.variant.shared_first:
        shared = mlp(player, block.shared, x)
        routed = _routed(player, block, x)
        result = tape.add("routed + shared", routed, _gated_shared(player, block, x, shared))
    else:
        routed = _routed(player, block, x)
        result = tape.add("routed + shared", routed, _gated_shared(player, block, x, mlp(player, block.shared, x)))
    tape.touch(x)
    return result


def _gated_shared(player: Player, block: Moe, x: Value, shared: Value) -> Value:
    if block.shared_gate is None:
        return shared
    gate = player.tape.unary("sigmoid", linear(player, block.shared_gate, x), "result")
    return player.tape.multiply("gated shared output", gate, shared)


def _routed(player: Player, block: Moe, x: Value) -> Value:
    """The routed experts, between two projections where they work in a narrower space (NemotronHMoE)."""
    weights = _routing_weights(player, block, x)
    projections = [module for module in block.extra if module.kind == "linear"]
    if not projections:
        return _experts(player, block, x, weights)
    narrow, wide = projections
    inner = _experts(player, replace(block, hidden=narrow.outputs), linear(player, narrow, x), weights)
    return linear(player, wide, inner)


# -- router -----------------------------------------------------------------------------------------------------------

WIDE = frozenset({"softmax_divided", "softmax_float32", "sigmoid", "sigmoid_float32"})
"""Routers that hand float32 weights to the experts, whose weighted outputs are then float32."""


def _routing_weights(player: Player, block: Moe, x: Value) -> Value:
    """The weights of the chosen slots [b, s, top_k], and the small tensors behind them."""
    tape, way = player.tape, player.variant.router
    chosen = TOKENS * block.top_k
    x = _scaled_input(player, block, x)
    source = tape.cast(x, FLOAT32, "float32 copy for the router") if way in _FLOAT32_LOGITS else x
    scores = _scores(player, _logits(player, block, source))
    slots = tape.constant("chosen slots", chosen, INDEX)
    weights = tape.elementwise("routing weights", (scores, slots), elements=chosen, width=scores.width, saves=(slots,))
    if way.startswith("topk"):
        weights = tape.unary("routing weights", weights, "result")
    elif way != "softmax":
        total = tape.elementwise("sum", (weights,), elements=TOKENS)
        weights = tape.multiply("routing weights", weights, total)
    return tape.cast(weights, FLOAT32 if way in WIDE else x.width, "routing weights")


def _scaled_input(player: Player, block: Moe, x: Value) -> Value:
    """Gemma 4's router reads what the norms before the experts read, over its root mean square, times a scale."""
    scale = next((module for module in block.extra if module.name == "router.scale"), None)
    if scale is None or player.unnormed is None:
        return x
    tape, source = player.tape, player.unnormed
    wide = tape.cast(source, FLOAT32, "float32 copy for the norm")
    normal = tape.cast(normalised(player, wide, block.hidden), x.width, "normalised input")
    return tape.unary("scaled input", norm_weight(player, scale, normal))


_FLOAT32_LOGITS = frozenset({"sigmoid_float32", "softmax_float32", "ernie"})


def _logits(player: Player, block: Moe, x: Value) -> Value:
    if block.router.kind == "linear":
        return linear(player, block.router, x)
    return parameter_product(player, block.router, x, TOKENS)


def _scores(player: Player, logits: Value) -> Value:
    tape, way = player.tape, player.variant.router
    if way.startswith("topk"):
        return tape.cast(logits, FLOAT32, "float32 logits of the router") if way == "topk_softmax_wide" else logits
    if way == "sigmoid_narrow":
        return tape.unary("router scores", logits, "result")
    wide = tape.cast(logits, FLOAT32, "float32 logits of the router")
    return tape.unary("router scores", wide, "result")


# -- routed experts ---------------------------------------------------------------------------------------------------


def _experts(player: Player, block: Moe, x: Value, weights: Value) -> Value:
    """Tokens sorted by expert, two grouped products, weighted, put back in order and summed over the slots."""
    if player.variant.loops_over_experts:
        return _looped(player, block, x, weights)
    tape = player.tape
    rows = TOKENS * block.top_k
    order, back = tape.constant("expert order", rows * 2, INDEX), tape.constant("inverse order", rows, INDEX)
    chosen = tape.elementwise(
        "tokens by expert", (x, order), elements=rows * block.hidden, width=x.width, saves=(order,)
    )
    sorted_weights = tape.elementwise("sorted weights", (weights, order), width=weights.width, saves=(order,))
    hidden = _inner(player, block, chosen, rows)
    down = _grouped_product(player, block, block.experts[-1], hidden, rows, block.hidden)
    weighted = tape.multiply("weighted expert outputs", down, sorted_weights)
    restored = tape.elementwise("outputs in token order", (weighted, back), width=weighted.width, saves=(back,))
    # torch.nn.utils.parametrize.cached keeps W + B A of all experts until the experts' forward has returned.
    tape.touch(*player.merged, chosen)
    total = tape.value("routed output", TOKENS * block.hidden, restored.width, restored.needs_gradient)
    tape.record("sum over slots", total, reads=(restored,), gradients=((restored, True),))
    return tape.cast(total, x.width, "routed output")


def _looped(player: Player, block: Moe, x: Value, weights: Value) -> Value:
    """One expert after the other (modeling_longcat_flash.py LongcatFlashExperts, modeling_dbrx.py DbrxExperts).

    The result is there first, as zeros, and a mask [experts, top_k, tokens] of indices beside it. Each expert takes its
    rows of x, and adds its weighted results to the whole; its gradient of x is laid in a whole new tensor. Experts that
    compute nothing (LongCat-Flash) take rows and add them too. The busiest has `expert_imbalance` times the mean.
    """
    tape, slots = player.tape, block.expert_count + block.zero_experts
    rows = TOKENS * block.top_k
    mask = tape.constant("expert mask", rows * slots, INDEX)
    made = tape.constant("routed output", TOKENS * block.hidden, x.width)
    whole = (tape.temporary("gradient of one expert's rows in the whole", TOKENS * block.hidden, x.width),)
    with tape.in_pieces(min(1.0, player.rules.expert_imbalance / slots)):
        where = tape.constant("rows of experts", rows * 2, INDEX)
        results: list[Value] = []
        for computes, experts in ((False, block.zero_experts), (True, block.expert_count)):
            part = rows.part(experts / slots)
            taken = tape.elementwise(
                "tokens of experts", (x, where), elements=part * block.hidden, width=x.width, saves=(where,),
                backward_temporaries=whole,
            )  # fmt: skip
            if computes:
                inner = _inner(player, block, taken, part)
                taken = _grouped_product(player, block, block.experts[-1], inner, part, block.hidden)
            own = tape.elementwise("weights of rows", (weights, where), elements=part, width=weights.width)
            results.append(tape.cast(tape.multiply("weighted expert outputs", taken, own), x.width, "expert outputs"))
    needs = any(result.needs_gradient for result in results)
    total = Value(made.elements, x.width, made.storage, needs)
    tape.record("sum over experts", total, reads=(*results, mask), gradients=tuple((r, True) for r in results))
    tape.touch(*player.merged, mask)
    return total


def _inner(player: Player, block: Moe, chosen: Value, rows: Size) -> Value:
    half = rows * block.intermediate
    if not block.gated:
        up = _grouped_product(player, block, block.experts[0], chosen, rows, block.intermediate)
        return activate(player, block.activation, up)
    if len(block.experts) == 3:
        gate = _grouped_product(player, block, block.experts[0], chosen, rows, block.intermediate)
        up = _grouped_product(player, block, block.experts[1], chosen, rows, block.intermediate)
        return player.tape.multiply("gated activations", activate(player, block.activation, gate), up)
    both = _grouped_product(player, block, block.experts[0], chosen, rows, 2 * block.intermediate)
    biases = _slot_biases(player, block, rows * (2 * block.intermediate))
    if player.variant.clamped_gate:
        result = _clamped_gate(player, both, half)
    else:
        result = gated_halves(player, block.activation, both, half)
    player.tape.touch(*biases)
    return result


def _slot_biases(player: Player, block: Moe, elements: Size) -> tuple[Value, ...]:
    """The bias of each slot's expert, gathered into a tensor of all slots where experts have biases."""
    if not any("bias" in module.name or module.bias for module in (*block.experts, *block.extra)):
        return ()
    return (player.tape.constant("biases of all slots", elements, player.rules.weights_width),)


def _clamped_gate(player: Player, both: Value, half: Size) -> Value:
    """gpt-oss: every second column is the gate; both are clamped, gate * sigmoid(alpha gate) times up + 1."""
    tape = player.tape
    gate, up = (tape.slice("every second column", both, half) for _ in range(2))
    gate, up = tape.unary("clamp", gate, "input"), tape.unary("clamp", up, "input")
    opened = tape.unary("sigmoid", tape.unary("alpha gate", gate), "result")
    glu = tape.multiply("gate * sigmoid", gate, opened)
    result = tape.multiply("gated activations", tape.unary("up + 1", up), glu)
    tape.touch(gate, up)
    return result


def _grouped_product(player: Player, block: Moe, module: Module, x: Value, rows: Size, outputs: int) -> Value:
    """Rows times the weight of their expert.

    Autocast doesn't know grouped_mm: transformers casts the rows to the weight's dtype and multiplies in that
    (integrations/moe.py, _grouped_mm). A loop over experts multiplies with F.linear, which autocast does know.
    """
    tape, rules = player.tape, player.rules
    autocast = rules.autocast and player.variant.loops_over_experts
    width = rules.compute_width if autocast else rules.weights_width
    source = tape.cast(x, width, "tokens by expert in the product's dtype") if rules.autocast else x
    wanted = autocast and (x.needs_gradient or player.trains_base)
    with tape.whole():
        copies = weight_copies(player, module, trained=player.trains_base, wanted=wanted)
        adapted = _adapted_weight(player, block, module) if rules.adapts_parameter(module) else ()
    whole = _expert_by_expert(player, block, module) if player.trains_base or adapted else ()
    weights = (*copies, *adapted)
    keeps_input = player.trains_base or bool(adapted)
    out = tape.value("expert activations", rows * outputs, source.width, source.needs_gradient or keeps_input)
    tape.record(
        module.name, out, reads=(source, *weights),
        saves=((source,) if keeps_input else ()) + (weights if source.needs_gradient else ()),
        gradients=((source, True), *((weight, True) for weight in weights)),
        weight_gradient=player.trained_gradient(module) if not copies else (),
        backward_temporaries=whole,
        keep_recomputed=True, saves_parameter=source.needs_gradient,
    )  # fmt: skip
    player.merged += adapted
    _grouped_work(player, block, module, source, out, trained=keeps_input)
    return out


def _expert_by_expert(player: Player, block: Moe, module: Module) -> tuple[StorageClass, ...]:
    """Where a class loops over experts, each one's weight gradient is written into a new tensor of all experts.

    It is then added to what the experts before left (aten select_backward), for all matrices in turn: when the first
    one's is written, the sums of the others are there. Where the class views its matrix by experts (DBRX, of three
    matrices), the sum is a third tensor (torch/csrc/autograd/input_buffer.cpp adds to no view). A class with a grouped
    product needs none.
    """
    if not player.variant.loops_over_experts:
        return ()
    width = player.rules.weights_width
    own = StorageClass("gradient of one expert in the whole", constant(module.weight_elements * width), "temporaries")
    if module is not block.experts[-1]:
        return (own,)
    others = (constant(other.weight_elements * width) for other in block.experts if other is not module)
    sums = [StorageClass("sum over experts", size, "temporaries") for size in others]
    return (own, *sums, *((own,) if len(block.experts) == 3 else ()))


def _adapted_weight(player: Player, block: Moe, module: Module) -> tuple[Value, ...]:
    """W + B A of every expert, a whole new weight for each forward pass (peft/tuners/lora/layer.py ParamWrapper).

    A [E r, in] and B [out, E r] are copied to W's dtype and kept by torch.baddbmm. A fused gate_up has twice the rank.
    """
    tape, rules = player.tape, player.rules
    per_expert = module.weight_elements // module.shape[0]
    rank = 2 if module.name.endswith("gate_up_proj") else 1
    inner = block.hidden if module.name == block.experts[0].name else block.intermediate
    factors: list[Value] = []
    for width in (inner, per_expert // inner):
        size = Size({("r",): rank * module.shape[0] * width})
        factor = tape.value("adapter of experts in the weights' dtype", size, rules.weights_width, True)
        gradient = StorageClass("gradient of adapters", size * rules.adapter_width, "gradients")
        laid_out = tape.temporary("gradient of adapters laid out", size, rules.adapter_width)
        tape.record("cast", factor, reads=(), weight_gradient=(gradient,), backward_temporaries=(laid_out,))
        factors.append(factor)
    whole = tape.value("experts' weight with adapter", constant(module.weight_elements), rules.weights_width, True)
    tape.record(
        "baddbmm", whole, reads=tuple(factors), saves=tuple(factors),
        gradients=tuple((factor, True) for factor in factors),
    )  # fmt: skip
    experts, out_width = module.shape[0], per_expert // inner
    flops = Size({("r",): 2 * rank * module.weight_elements})
    moved_bytes = moved(*factors, whole) + constant(module.weight_elements * rules.weights_width)
    shape = Product(constant(experts * out_width), Size({("r",): rank}), constant(inner), experts, True, True)
    tape.add_work(
        "W + B A", "matmul", rules.weights_width, flops, moved_bytes, moved_bytes * 2, flops * 2,
        made=moved(whole), product=shape,
    )  # fmt: skip
    return (whole,)


def _grouped_work(player: Player, block: Moe, module: Module, x: Value, out: Value, *, trained: bool) -> None:
    """Only the chosen experts compute: 2 FLOPs a weight of one expert and slot that reaches an expert."""
    per_expert = block.hidden * block.intermediate * (2 if module.name.endswith("gate_up_proj") else 1)
    slots = block.expert_count + block.zero_experts
    flops = TOKENS * (2 * per_expert * block.top_k * block.expert_count // slots)
    through = moved(x, out) + constant(module.weight_elements * out.width)
    products = int(x.needs_gradient) + int(trained)
    goes_up = module.name == block.experts[0].name or module.name.endswith("up_proj")
    inner = block.hidden if goes_up else block.intermediate
    rows = Size({m: c * block.expert_count // slots for m, c in (TOKENS * block.top_k).terms})
    shape = Product(rows, constant(inner), constant(per_expert // inner), block.expert_count, x.needs_gradient, trained)
    player.tape.add_work(
        module.name, "matmul", out.width, flops, through, through * products, flops * products,
        made=moved(out), product=shape,
    )  # fmt: skip
