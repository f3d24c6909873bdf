"""Matrix products with a module's weight, with what a quantised weight, autocast and an adapter add to them."""

from __future__ import annotations

from planner.architecture.spec import Module
from planner.step.player import Player
from planner.step.rules import StepRules
from planner.step.sizes import TOKENS, R, Size, constant
from planner.step.tape import Product, StorageClass, Value, moved

AUTOCAST_COPY = "autocast copy of a weight"
INT8_INPUT = "int8 input"


def linear(player: Player, module: Module, x: Value, rows: Size = TOKENS) -> Value:
    """y = x W^T + b, with a quantised weight and an adapter where the rules say so. x: [rows, in]; y: [rows, out]."""
    rules = player.rules
    trained = player.trains_base or module.name in rules.saved_modules
    base = base_linear(player, module, x, rows, trained=trained and not rules.quantises(module))
    if not rules.adapts(module):
        return base
    result = _adapted(player, module, x, base, rows)
    player.tape.touch(x)
    return result


def base_linear(player: Player, module: Module, x: Value, rows: Size, *, trained: bool) -> Value:
    """The product without adapters.

    litgpt runs on bitsandbytes 0.42, whose MatMul4Bit keeps its input although nothing needs it (bitsandbytes pull
    request 1270 took that out). MatMul8bitLt keeps its input too, as an attribute of its node (bitsandbytes
    autograd/_functions.py, `ctx.tensors`). Under autocast a quantised product still answers in its input's dtype:
    Linear4bit casts its input itself and its result back, Linear8bitLt casts neither (bitsandbytes nn/modules.py).
    """
    rules, tape = player.rules, player.tape
    own_casts = rules.autocast and rules.quantises(module)
    autocast = rules.autocast and not (own_casts and rules.scheme == "int8")
    source = tape.cast(x, rules.compute_width, f"autocast of the input of {module.name}") if autocast else x
    copies = weight_copies(player, module, trained=trained, wanted=x.needs_gradient or trained)
    width = rules.compute_width if autocast else max(source.width, 0 if own_casts else rules.weights_width)
    out = tape.value(f"output of {module.name}", rows * module.outputs, width, source.needs_gradient or trained)
    dequantised = _dequantised(player, module, source.width)
    needless = rules.framework == "litgpt" or (rules.scheme == "int8" and source.needs_gradient)
    keeps_input = trained or (rules.quantises(module) and needless)
    tape.record(
        module.name,
        out,
        reads=(source, *copies),
        saves=((source,) if keeps_input else ()) + (copies if source.needs_gradient else ()),
        gradients=((source, True), *((copy, True) for copy in copies)),
        forward_temporaries=_int8_working(rules, module, rows) or dequantised,
        backward_temporaries=dequantised,
        weight_gradient=player.weight_gradient(module) if trained and not copies else (),
        keep_recomputed=not module.bias,
        saves_parameter=source.needs_gradient,
    )
    linear_work(player, module, rows, out.width, source.needs_gradient, trained)
    return tape.cast(out, x.width, "result in the input's dtype") if own_casts else out


def linear_work(player: Player, module: Module, rows: Size, width: int, input_gradient: bool, trained: bool) -> None:
    """2 FLOPs a weight and row forward; the same again for each gradient (input, weight) that is wanted."""
    flops = rows * (2 * module.weight_elements)
    weight = constant(module.weight_elements * width)
    through = (rows * (module.inputs + module.outputs)) * width + weight
    products = int(input_gradient) + int(trained)
    inputs, outputs = constant(module.inputs), constant(module.outputs)
    player.tape.add_work(
        module.name, "matmul", width, flops, through, through * products, flops * products,
        made=rows * (module.outputs * width),
        product=Product(rows, inputs, outputs, 1, input_gradient, trained),
    )  # fmt: skip


def parameter_product(player: Player, module: Module, x: Value, rows: Size) -> Value:
    """A product with a bare parameter that neither quantisation nor adapters of linear modules reach (a router)."""
    tape = player.tape
    if player.rules.adapts_parameter(module):
        return _adapted_parameter(player, module, x, rows)
    wants = x.needs_gradient or player.trains_base
    out = tape.value(f"output of {module.name}", rows * module.outputs, x.width, wants)
    tape.record(
        module.name, out, reads=(x,), saves=(x,) if player.trains_base else (), gradients=((x, True),),
        weight_gradient=player.trained_gradient(module), saves_parameter=x.needs_gradient,
    )  # fmt: skip
    linear_work(player, module, rows, out.width, x.needs_gradient, player.trains_base)
    return out


def _adapted_parameter(player: Player, module: Module, x: Value, rows: Size) -> Value:
    """A product with W + B A of a two-dimensional parameter (peft/tuners/lora/layer.py ParamWrapper): keeps x."""
    tape, width = player.tape, player.rules.adapter_width
    size = Size({("r",): module.inputs + module.outputs})
    weight = tape.value("weight with adapter", constant(module.weight_elements), player.rules.weights_width, True)
    gradient = StorageClass("gradient of adapters", size * width, "gradients")
    delta = tape.temporary("B A", constant(module.weight_elements), width)
    tape.record("W + B A", weight, reads=(), weight_gradient=(gradient,), forward_temporaries=(delta,) * 2)
    out = tape.value(f"output of {module.name}", rows * module.outputs, x.width, True)
    tape.record(module.name, out, reads=(x, weight), saves=(x, weight), gradients=((x, True), (weight, True)))
    linear_work(player, module, rows, out.width, x.needs_gradient, trained=True)
    return out


def weight_copies(player: Player, module: Module, *, trained: bool, wanted: bool) -> tuple[Value, ...]:
    """Autocast's copy of a weight in the compute dtype; its gradient is cast back by a node of its own.

    Source: aten/src/ATen/autocast_mode.cpp cached_cast, which keeps the copy of a trained weight until the
    autocast context ends.
    """
    rules, tape = player.rules, player.tape
    if not rules.autocast or rules.quantises(module) or not wanted:
        return ()
    copy = tape.value(AUTOCAST_COPY, constant(module.weight_elements), rules.compute_width, trained)
    kind = tape.storages[copy.storage]
    tape.storages[copy.storage] = StorageClass(kind.what, kind.bytes, "temporaries")
    tape.record("autocast", copy, reads=(), weight_gradient=player.weight_gradient(module) if trained else ())
    return (copy,)


def _dequantised(player: Player, module: Module, width: int) -> tuple[StorageClass, ...]:
    """The working tensors of a quantised product, forward and backward.

    bitsandbytes autograd/_functions.py: MatMul4Bit dequantises the whole weight in both passes, into the dtype that was
    quantised and from there into the input's (`width`): Lightning quantises from float16 (lightning/fabric/plugins/
    precision/bitsandbytes.py), so that bfloat16 training holds both. MatMul8bitLt does it in backward only.
    """
    rules = player.rules
    if not rules.quantises(module):
        return ()
    whole = constant(module.weight_elements * width)
    weight = StorageClass("dequantised weight", whole, "temporaries")
    return (weight, weight) if rules.framework == "litgpt" and rules.scheme == "nf4" else (weight,)


def _int8_working(rules: StepRules, module: Module, rows: Size) -> tuple[StorageClass, ...]:
    """What MatMul8bitLt's forward holds: its int8 input with the int32 product and the float16 form of that.

    Before the product there are the input in float16, its absolute value (compared with the threshold of outliers)
    and the int8 rows, 5 bytes an input element; for inputs much wider than outputs that is more. Source:
    bitsandbytes backends/cuda/ops.py, int8_vectorwise_quant and int8_mm_dequant.
    """
    if rules.scheme != "int8" or not rules.quantises(module):
        return ()
    narrow = StorageClass(INT8_INPUT, rows * module.inputs, "temporaries")
    if 5 * module.inputs > module.inputs + 8 * module.outputs:
        return narrow, *(StorageClass("float16 input", rows * (2 * module.inputs), "temporaries"),) * 2
    return (
        narrow,
        StorageClass("int32 product", rows * (4 * module.outputs), "temporaries"),
        StorageClass("float16 product", rows * (2 * module.outputs), "temporaries"),
    )


# -- adapters ---------------------------------------------------------------------------------------------------------


def _adapted(player: Player, module: Module, x: Value, base: Value, rows: Size) -> Value:
    """base + B(A(dropout(x))) * scaling, as peft/tuners/lora/layer.py Linear.forward: x is cast to A's dtype first.

    Under autocast the products run in the compute dtype all the same, so that the cast goes back; over a quantised base
    it is not even made (peft/tuners/lora/bnb.py, `requires_conversion`).
    """
    tape, rules = player.tape, player.rules
    direct = rules.autocasts_adapters and rules.quantises(module)
    copy = x if direct else tape.cast(x, rules.adapter_width, "adapter's copy of its input")
    source = player.dropout(copy) if rules.dropout else copy
    if rules.autocasts_adapters:
        source = tape.cast(source, rules.compute_width, "autocast of the adapter's input")
    if rules.method == "dora":
        _dora_norm(player, module)
    low = low_rank(player, f"{module.name}.lora_A", source, rows * R, Size({("r",): module.inputs}))
    high = low_rank(player, f"{module.name}.lora_B", low, rows * module.outputs, Size({("r",): module.outputs}))
    if rules.method == "dora":
        extra = _dora_result(player, base, high)
    else:
        extra = tape.elementwise("scaling", (high,), what="scaled adapter output")
    total = tape.add("base + adapter", base, extra)
    tape.touch(copy)
    return tape.cast(total, base.width, "result in the base's dtype")


def _dora_norm(player: Player, module: Module) -> None:
    """DoRA forms the norm of W + BA at each forward (peft/tuners/lora/dora.py get_lora_weight, get_weight_norm).

    First an identity [in, in] goes through the adapter, under autocast with its copy, which alone is kept then: two
    products like any other to a policy that keeps every second one. Beside what is kept there are B A and W in the
    adapter's dtype (W itself where it has that), the scaled B A and the sum, each [out, in].
    """
    tape, rules, width = player.tape, player.rules, player.rules.adapter_width
    product = rules.compute_width if rules.autocasts_adapters else width
    weight = constant(module.weight_elements)
    kept = tape.temporary("DoRA identity", constant(module.inputs**2), product)
    identity = tape.temporary("DoRA identity", constant(module.inputs**2), width)
    low = tape.value("identity through A", R * module.inputs, product, False)
    tape.record("lora_A of the identity", low, reads=(), forward_temporaries=(kept,), keep_recomputed=True)
    whole = tape.value("B A", weight, product, False)
    tape.record("lora_B of the identity", whole, reads=(low,), forward_temporaries=(kept,), keep_recomputed=True)
    scaled = tape.temporary("scaled B A", weight, product)
    wide = (tape.temporary("DoRA weight", weight, width),) * (
        1 + int(product < width) + int(rules.weights_width < width)
    )
    at_first = module.inputs**2 * width
    identity_first = product < width and at_first > module.weight_elements * (width * len(wide) + product)
    out = tape.value("DoRA weight norm", constant(module.outputs), width, False)
    beside = (identity,) if identity_first else (scaled, *wide)
    tape.record("dora_norm", out, reads=(whole,), forward_temporaries=(kept, *beside))


def _dora_result(player: Player, base: Value, high: Value) -> Value:
    """(m - 1) base + m (B A x) scaling, m the trained magnitude over the norm: keeps base and B A x."""
    tape, width = player.tape, player.rules.adapter_width
    spread = (tape.temporary("gradient of the magnitude before its sum", high.elements, width),)
    first = tape.elementwise(
        "(m - 1) base", (base,), width=width, saves=(base,), backward_temporaries=spread, extra_gradient=True,
        what="magnitude times base",
    )  # fmt: skip
    second = tape.elementwise(
        "m BAx", (high,), width=width, saves=(high,), backward_temporaries=spread, what="magnitude times adapter"
    )
    scaled = tape.elementwise("scaling", (second,), what="scaled adapter output")
    return tape.add("DoRA result", first, scaled)


def _adapter_copy(player: Player, weight: Size, gradient: StorageClass) -> Value:
    """Autocast's copy of an adapter matrix; its gradient is cast to the adapter's dtype by a node of its own."""
    tape = player.tape
    copy = tape.value("autocast copy of an adapter", weight, player.rules.compute_width, True)
    kind = tape.storages[copy.storage]
    tape.storages[copy.storage] = StorageClass(kind.what, kind.bytes, "temporaries")
    tape.record("autocast", copy, reads=(), weight_gradient=(gradient,))
    return copy


def low_rank(player: Player, name: str, x: Value, elements: Size, weight: Size) -> Value:
    """x times a trained adapter matrix, or autocast's copy of it; `weight` counts its elements."""
    tape, rules = player.tape, player.rules
    width = rules.compute_width if rules.autocasts_adapters else rules.adapter_width
    gradient = StorageClass("gradient of adapters", weight * rules.adapter_width, "gradients")
    copies = (_adapter_copy(player, weight, gradient),) if rules.autocasts_adapters else ()
    out = tape.value("adapter activations", elements, width, True)
    tape.record(
        name,
        out,
        reads=(x, *copies),
        saves=(x, *copies),
        gradients=((x, True), *((copy, True) for copy in copies)),
        weight_gradient=() if copies else (gradient,),
        saves_parameter=True,
        keep_recomputed=True,
    )
    flops = weight * TOKENS * 2
    through = moved(x, out) + weight * width
    products = 1 + int(x.needs_gradient)
    tape.add_work(
        name, "matmul", width, flops, through, through * products, flops * products,
        made=moved(out), product=Product(TOKENS, a_token(x.elements), a_token(elements), 1, x.needs_gradient, True),
    )  # fmt: skip
    return out


def a_token(size: Size) -> Size:
    """What of a size of all tokens falls to one; sizes without tokens stay."""
    return Size({tuple(name for name in monomial if name not in "bs"): number for monomial, number in size.terms})
