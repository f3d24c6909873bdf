"""Recurrent mixers, as the library computes them in PyTorch alone.

transformers 5 calls fused kernels where the packages mamba_ssm, causal_conv1d or flash-linear-attention are installed
on a GPU, and otherwise the reference code that is played here: it needs no package, keeps far more for backward, and is
what runs on a machine without them. A run with the kernels needs less memory than this says.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.architecture.spec import Module, StateSpace
from planner.step.lightning import lightning
from planner.step.linear import linear, linear_work
from planner.step.norms import norm, norm_weight, normalised
from planner.step.player import FLOAT32, NotModelled, Player
from planner.step.sizes import TOKENS, B, Size, chunks_of
from planner.step.tape import NOTHING, Value, moved


def play(player: Player, block: StateSpace, x: Value) -> Value:
    """The mixer of any recurrence. x: [b, s, h].

    Raises:
        NotModelled: Kimi's delta attention has no program.
    """
    players: dict[str, Callable[[Player, StateSpace, Value], Value]] = {
        "mamba": _mamba,
        "mamba2": _mamba2,
        "gated_delta": _gated_delta,
        "short_conv": _short_convolution,
        "lightning": lightning,
        "rg_lru": _rg_lru,
    }
    if block.variant not in players:
        raise NotModelled(f"the recurrence `{block.variant}`")
    result = players[block.variant](player, block, x)
    player.tape.touch(x)
    return result


def _named(block: StateSpace, name: str) -> Module:
    return next(module for module in block.modules if module.name == name)


def _optional(block: StateSpace, name: str) -> Module | None:
    return next((module for module in block.modules if module.name == name), None)


def _convolution(player: Player, module: Module, x: Value) -> Value:
    """A depthwise convolution over time: keeps its input, even for a frozen weight. x: [b, channels, s].

    aten::convolution has one derivative formula for input, weight and bias, which names all of them.

    The result has kernel - 1 more positions, which are cut off; backward lays the gradient into a tensor of all.
    """
    tape = player.tape
    out = tape.value("convolution", x.elements, x.width, x.needs_gradient or player.trains_base)
    whole = tape.temporary("gradient of the uncut convolution", x.elements, x.width)
    tape.record(
        module.name, out, reads=(x,), saves=(x,), gradients=((x, True),),
        backward_temporaries=(whole,), weight_gradient=player.trained_gradient(module),
        saves_parameter=x.needs_gradient,
    )  # fmt: skip
    flops = x.elements * (2 * module.shape[-1])
    tape.add_work(module.name, "recurrence", x.width, flops, moved(x, out), moved(x, out) * 2, flops * 2)
    return out


def _short_convolution(player: Player, block: StateSpace, x: Value) -> Value:
    """Two gates around a convolution: C * conv(B * x) (models/lfm2/modeling_lfm2.py Lfm2ShortConv)."""
    tape, size = player.tape, TOKENS * block.inner
    before, after, inner = tape.pieces("chunk", linear(player, _named(block, "in_proj"), x), (size, size, size))
    mixed = _convolution(player, _conv_of(block), tape.multiply("B * x", before, inner))
    return linear(player, _named(block, "out_proj"), tape.multiply("C * conv", after, mixed))


def _conv_of(block: StateSpace) -> Module:
    return next(module for module in block.modules if module.kind == "conv")


# -- Mamba ------------------------------------------------------------------------------------------------------------


def _mamba(player: Player, block: StateSpace, x: Value) -> Value:
    """Mamba's mixer with the step-by-step scan (models/mamba/modeling_mamba.py MambaMixer.forward)."""
    tape, size = player.tape, TOKENS * block.inner
    inner, gate = tape.pieces("chunk", linear(player, _named(block, "in_proj"), x), (size, size))
    inner = tape.unary("silu", _convolution(player, _conv_of(block), inner), "input")
    low = linear(player, _named(block, "x_proj"), inner)
    step_module = _named(block, "dt_proj")
    sizes = (TOKENS * step_module.inputs, TOKENS * block.state, TOKENS * block.state)
    step, b, c = tape.pieces("split", low, sizes)
    norms = tuple(_optional(block, name) for name in ("dt_layernorm", "b_layernorm", "c_layernorm"))
    step, b, c = (norm(player, module, value) for module, value in zip(norms, (step, b, c), strict=True))
    steps = tape.unary("softplus", tape.unary("dt + bias", _step_product(player, step_module, step)), "input")
    scanned = _selective_scan(player, block, inner, steps, b, c)
    opened = tape.unary("silu", gate, "input")
    result = tape.cast(tape.multiply("scan * gate", scanned, opened), x.width, "scan output")
    tape.touch(scanned)
    return linear(player, _named(block, "out_proj"), result)


def _step_product(player: Player, module: Module, x: Value) -> Value:
    """dt_proj's weight times the low-rank steps, outside the module: adapters on it have no effect."""
    tape = player.tape
    out = tape.value("time steps", TOKENS * module.outputs, x.width, x.needs_gradient or player.trains_base)
    tape.record(
        module.name, out, reads=(x,), saves=(x,) if player.trains_base else (), gradients=((x, True),),
        weight_gradient=player.trained_gradient(module), saves_parameter=x.needs_gradient,
    )  # fmt: skip
    linear_work(player, module, TOKENS, out.width, x.needs_gradient, player.trains_base)
    return out


def _selective_scan(player: Player, block: StateSpace, u: Value, steps: Value, b: Value, c: Value) -> Value:
    """h = exp(A dt) h + dt B u; y = C h + D u, one position after another (mamba_selective_scan).

    Discretised A and B, the states in float32 [b, inner, s, state] and their copies in the model's dtype stay. Each
    position's backward writes its gradient into a tensor of the whole length.
    """
    tape, trained = player.tape, player.trains_base
    full = TOKENS * (block.inner * block.state)
    product = tape.elementwise("A dt", (steps,), elements=full, width=FLOAT32, saves=(steps,) if trained else ())
    decay = tape.unary("exp", product, "result")
    wide_b = tape.cast(b, FLOAT32, "float32 B")
    discrete = tape.multiply("dt B", _spread(player, steps, full), wide_b)
    wide_u = tape.cast(u, FLOAT32, "float32 input of the scan")
    driven = tape.multiply("dt B u", discrete, wide_u)
    scanned = _positions(player, block, (decay, driven, c), full, u.width)
    # u is multiplied by D in float32 and kept for D's gradient.
    skip = tape.elementwise("D u", (u,), width=FLOAT32, saves=(u,) if trained else ())
    return tape.add("scan output", scanned, skip)


def _spread(player: Player, x: Value, elements: Size) -> Value:
    """A small tensor seen in the shape of a product; nothing is copied."""
    seen = Value(elements, x.width, x.storage, x.needs_gradient)
    player.tape.record("expand", seen, reads=(x,), gradients=((x, True),))
    return seen


def _positions(player: Player, block: StateSpace, inputs: tuple[Value, ...], full: Size, width: int) -> Value:
    tape = player.tape
    decay, driven, c = inputs
    states = tape.constant("states", full, FLOAT32)
    narrow = tape.constant("states in the model's dtype", full, width)
    outputs = tape.constant("outputs of all positions", TOKENS * block.inner, width)
    wants = any(value.needs_gradient for value in inputs)
    out = tape.value("scan output", TOKENS * block.inner, width, wants)
    position = tape.temporary("gradient of one position in the whole", full, FLOAT32)
    tape.record(
        "scan", out, reads=(*inputs, states, narrow, outputs), saves=(decay, states, narrow, c),
        gradients=((decay, True), (driven, True), (c, True)), backward_temporaries=(position,),
    )  # fmt: skip
    flops = full * 6
    tape.add_work("scan", "recurrence", FLOAT32, flops, moved(*inputs, out), moved(*inputs, out) * 2, flops * 2)
    return out


# -- Mamba-2 ----------------------------------------------------------------------------------------------------------


def _mamba2(player: Player, block: StateSpace, x: Value) -> Value:
    """Mamba-2's mixer with the scan in chunks (models/mamba2/modeling_mamba2.py Mamba2Mixer.forward)."""
    tape, size = player.tape, TOKENS * block.inner
    states = TOKENS * (block.groups * block.state)
    convolved = TOKENS * (block.inner + 2 * block.groups * block.state)
    projected = linear(player, _named(block, "in_proj"), x)
    gate, inner, step = tape.pieces("split", projected, (size, convolved, TOKENS * block.heads))
    inner = tape.unary("silu", _convolution(player, _conv_of(block), inner), "input")
    u, b, c = tape.pieces("split", inner, (size, states, states))
    scanned = _chunk_scan(player, block, u, step, b, c)
    module = _optional(block, "norm")
    mixed = _gated_norm(player, block, module, scanned, gate)
    tape.touch(inner, projected, scanned)
    return linear(player, _named(block, "out_proj"), tape.cast(mixed, x.width, "scan output"))


def _chunk_scan(player: Player, block: StateSpace, u: Value, step: Value, b: Value, c: Value) -> Value:
    """The chunked scan: within chunks as masked attention [chunks, heads, l, l], between them by states.

    The sequence is padded to whole chunks.

    Every einsum keeps copies of its operands in float32; B and C are repeated for every head. Source:
    models/mamba2/modeling_mamba2.py mamba2_chunk_scan.
    """
    tape, held = player.tape, list[Value]()
    steps = tape.unary("clamp", tape.unary("softplus", tape.unary("dt + bias", step), "input"), "input")
    wide = tape.cast(u, FLOAT32, "float32 input of the scan")
    whole = B * chunks_of(block.chunk) * block.chunk
    b, c = (_repeated_state(player, block, value) for value in (b, c))
    padded = tape.copied("padded input", wide, whole * block.inner)
    spread = (tape.temporary("gradient of D before its sum", padded.elements, FLOAT32),) if player.trains_base else ()
    skip = tape.elementwise(
        "D u", (padded,), saves=(padded,) if player.trains_base else (), backward_temporaries=spread
    )
    driven = tape.multiply("u dt", wide, tape.cast(steps, FLOAT32, "float32 steps"))
    repeated = whole * (block.heads * block.state)
    sizes = ((driven, whole * block.inner), (b, repeated), (c, repeated))
    chunked, b_chunks, c_chunks = (tape.copied("chunks", value, size) for value, size in sizes)
    tape.touch(driven, b, c)
    decay = _segment_decay(player, block, steps)
    scores = _einsum(player, c_chunks, b_chunks, decay.elements)
    weights = tape.multiply("scores with decay", scores, decay)
    diagonal = _einsum(player, weights, chunked, chunked.elements, copies=(False, True))
    small = tape.unary("exp", tape.cast(steps, FLOAT32, "decay of states"), "result")
    b_decayed = tape.multiply("B with decay", b_chunks, small)
    per_chunk = B * chunks_of(block.chunk) * (block.inner * block.state)
    states = _einsum(player, b_decayed, chunked, per_chunk)
    joined = tape.concatenate("states of all chunks", (states,))
    started = tape.elementwise("states at chunk starts", (joined,), saves=(joined,))
    between = _einsum(player, c_chunks, started, chunked.elements)
    off_diagonal = tape.multiply("between chunks", between, small)
    held += [chunked, b_chunks, c_chunks, decay, scores, weights, diagonal, b_decayed, states, joined, between]
    total = tape.add("scan output", diagonal, off_diagonal)
    total = tape.copied("contiguous", total)
    result = tape.add("scan output", total, skip)
    tape.touch(*held, off_diagonal)
    return result


def _repeated_state(player: Player, block: StateSpace, x: Value) -> Value:
    """B or C in float32, once for every head."""
    wide = player.tape.cast(x, FLOAT32, "float32 B or C")
    return player.tape.copied("repeat_interleave", wide, TOKENS * (block.heads * block.state))


def _segment_decay(player: Player, block: StateSpace, steps: Value) -> Value:
    """exp of the sums of A dt between all pairs of positions of a chunk: [b, heads, chunks, l, l], kept."""
    tape = player.tape
    pairs = B * chunks_of(block.chunk) * (block.heads * block.chunk**2)
    masked = tape.elementwise("masked steps", (steps,), elements=pairs, width=FLOAT32)
    sums = tape.elementwise(
        "cumsum", (masked,), backward_temporaries=(tape.temporary("reversed cumsum", pairs, FLOAT32),) * 2
    )
    return tape.unary("exp", tape.unary("masked sums", sums), "result")


def _einsum(
    player: Player, left: Value, right: Value, elements: Size, *, copies: tuple[bool, bool] = (True, True)
) -> Value:
    """A contraction of two tensors: keeps a copy of each operand, laid out for the batched product.

    The gradients are laid back, each in a new tensor. Autocast multiplies narrower copies.
    """
    tape, rules = player.tape, player.rules
    operands = tuple(
        tape.copied("operand", value) if wanted else value for value, wanted in zip((left, right), copies, strict=True)
    )
    if rules.autocast:
        operands = tuple(tape.cast(operand, rules.compute_width, "operand") for operand in operands)
    out = tape.elementwise("einsum", operands, elements=elements, width=operands[0].width, saves=operands)
    flops = NOTHING
    tape.add_work("einsum", "recurrence", out.width, flops, moved(*operands, out), moved(*operands, out) * 2)
    return out


def _gated_norm(player: Player, block: StateSpace, module: Module | None, x: Value, gate: Value) -> Value:
    """RMSNorm of x silu(gate) in float32 (MambaRMSNormGated); without a norm, the product alone (Falcon-H1)."""
    tape = player.tape
    if module is None:
        return tape.multiply("gated scan", x, tape.unary("silu", gate, "input"))
    opened = tape.unary("silu", tape.cast(gate, FLOAT32, "float32 gate"), "input")
    gated = tape.multiply("gated scan", tape.cast(x, FLOAT32, "float32 scan"), opened)
    return norm_weight(player, module, normalised(player, gated, block.inner // max(block.groups, 1)))


# -- RG-LRU -----------------------------------------------------------------------------------------------------------


def _rg_lru(player: Player, block: StateSpace, x: Value) -> Value:
    """Griffin's recurrent block (models/recurrent_gemma/modeling_recurrent_gemma.py RecurrentGemmaRecurrentBlock)."""
    tape = player.tape
    opened = tape.unary("gelu", linear(player, _named(block, "linear_y"), x), "input")
    inner = _convolution(player, _conv_of(block), linear(player, _named(block, "linear_x"), x))
    scanned = _linear_recurrence(player, block, inner)
    result = tape.multiply("scan * gate", scanned, opened)
    tape.touch(opened, scanned)
    return linear(player, _named(block, "linear_out"), result)


def _linear_recurrence(player: Player, block: StateSpace, x: Value) -> Value:
    """h = a h + sqrt(1 - a^2) (i x), the gates a and i from block-diagonal products; one position after another.

    a = exp(-8 softplus(parameter) r); the states are float32 (RecurrentGemmaRglru.forward).
    """
    tape, trained = player.tape, player.trains_base
    input_gate, gate = (_block_gate(player, block, name, x) for name in ("input", "recurrent"))
    scaled = tape.unary("-8 gate", gate)
    spread = (tape.temporary("gradient of the parameter before its sum", x.elements, x.width),) if trained else ()
    power = tape.elementwise(
        "log a", (scaled,), saves=(scaled,) if trained else (), backward_temporaries=spread, extra_gradient=trained
    )
    decay = tape.unary("a", power, "result")
    square = tape.unary("a^2", tape.unary("2 log a", power), "result")
    gated = tape.multiply("i x", x, input_gate)
    root = tape.unary("sqrt(1 - a^2)", tape.unary("1 - a^2", square), "input")
    driven = tape.multiply("driven", gated, tape.unary("or at a reset", tape.unary("unless reset", root)))
    tape.touch(input_gate, gate, power, square, root)
    return _scan_of_states(player, tape.unary("a unless reset", decay), driven)


def _block_gate(player: Player, block: StateSpace, name: str, x: Value) -> Value:
    """sigmoid of a product with one block for each head: keeps x for the weight's gradient, and its result."""
    tape, module = player.tape, _named(block, f"rg_lru.{name}_gate_weight")
    out = tape.value(f"{name} gate", x.elements, x.width, x.needs_gradient or player.trains_base)
    tape.record(
        module.name, out, reads=(x,), saves=(x,) if player.trains_base else (), gradients=((x, True),),
        weight_gradient=player.trained_gradient(module), saves_parameter=x.needs_gradient,
    )  # fmt: skip
    flops = x.elements * (2 * module.shape[-1])
    products = int(x.needs_gradient) + int(player.trains_base)
    tape.add_work(module.name, "matmul", x.width, flops, moved(x, out), moved(x, out) * products, flops * products)
    return tape.unary(f"{name} gate", tape.copied("gate by position", out), "result")


def _scan_of_states(player: Player, decay: Value, driven: Value) -> Value:
    """Keeps each position's decay and state in float32; a position's gradient is written into the whole."""
    tape = player.tape
    kept = tuple(tape.constant(what, driven.elements, FLOAT32) for what in ("states", "float32 decay"))
    out = tape.value("scan output", driven.elements, driven.width, decay.needs_gradient or driven.needs_gradient)
    whole = tape.temporary("gradient of one position in the whole", driven.elements, driven.width)
    tape.record(
        "scan", out, reads=(decay, driven, *kept), saves=kept, gradients=((decay, True), (driven, True)),
        backward_temporaries=(whole, whole),
    )  # fmt: skip
    player.shared.graph = tape.kept_behind(out)  # RecurrentGemmaRglru.recurrent_states holds the last state
    flops = driven.elements * 2
    through = moved(decay, driven, out, *kept)
    tape.add_work("scan", "recurrence", FLOAT32, flops, through, through * 2, flops * 2)
    return out


# -- gated delta net --------------------------------------------------------------------------------------------------


def _gated_delta(player: Player, block: StateSpace, x: Value) -> Value:
    """The gated delta net (models/qwen3_next/modeling_qwen3_next.py Qwen3NextGatedDeltaNet.forward)."""
    tape = player.tape
    keys, values = TOKENS * (block.groups * block.state), TOKENS * block.inner
    mixed, z, small = _delta_projections(player, block, x, keys, values)
    mixed = tape.unary("silu", _convolution(player, _conv_of(block), mixed), "input")
    q, k, v = tape.pieces("split", mixed, (keys, keys, values))
    beta = tape.unary("sigmoid", small, "result")
    decay = tape.unary("softplus", tape.cast(small, FLOAT32, "float32 decay"), "input")
    core = tape.cast(_chunk_delta(player, block, (q, k, v), beta, decay), x.width, "delta output")
    tape.touch(mixed, q, k, v)
    out = _delta_norm(player, block, _named(block, "norm"), core, z)
    tape.touch(z, core)
    return linear(player, _named(block, "out_proj"), out)


def _delta_projections(
    player: Player, block: StateSpace, x: Value, keys: Size, values: Size
) -> tuple[Value, Value, Value]:
    """Mixed q, k, v for the convolution, the gate z and the small projections of beta and decay.

    Qwen3-Next cuts one projection and joins q, k, v anew; Qwen3.5 has them apart.
    """
    tape = player.tape
    heads = TOKENS * block.heads
    fused = _optional(block, "in_proj_qkvz")
    if fused is None:
        mixed = linear(player, _named(block, "in_proj_qkv"), x)
        z = linear(player, _named(block, "in_proj_z"), x)
        b = linear(player, _named(block, "in_proj_b"), x)
        a = linear(player, _named(block, "in_proj_a"), x)
        return mixed, z, tape.add("beta, decay", a, b)
    projected = linear(player, fused, x)
    ba = linear(player, _named(block, "in_proj_ba"), x)
    q, k, v, z = tape.pieces("split", projected, (keys, keys, values, values))
    q, k, v = (tape.copied("reshape", value) for value in (q, k, v))
    mixed = tape.concatenate("q, k, v", (q, k, v))
    z = tape.copied("z", z)
    small, _ = tape.pieces("split", ba, (heads, heads))
    return mixed, z, small


def _chunk_delta(player: Player, block: StateSpace, qkv: tuple[Value, ...], beta: Value, decay: Value) -> Value:
    """The delta rule in chunks of 64: triangular systems within, a state [key, value] per head between chunks.

    Everything is float32 (torch_chunk_gated_delta_rule).
    """
    tape = player.tape
    per_head = block.inner // block.heads
    keys, values = TOKENS * (block.heads * block.state), TOKENS * block.inner
    q, k = (_unit(player, block, tape.copied("repeat_interleave", value, keys)) for value in qkv[:2])
    q = tape.unary("scaled q", q)
    v = tape.cast(qkv[2], FLOAT32, "float32 v")
    q, k, v = (tape.copied("padded", value) for value in (q, k, v))
    rates, sums = tape.cast(beta, FLOAT32, "float32 beta"), tape.unary("cumsum", decay)
    v_beta, k_beta = tape.multiply("v beta", v, rates), tape.multiply("k beta", k, rates)
    pairs = B * chunks_of(block.chunk) * (block.heads * block.chunk**2)
    pairwise = tape.unary("exp", tape.elementwise("pairwise decay", (sums,), elements=pairs), "result")
    system = tape.multiply("system", _product(player, k_beta, k, pairs), pairwise)
    scores = tape.multiply("scores", _product(player, q, k, pairs), pairwise)
    growth = tape.unary("exp", sums, "result")
    decayed = tape.multiply("decayed k beta", k_beta, growth)
    new_values, old_keys = (_solved(player, system, value) for value in (v_beta, decayed))
    core = tape.constant("delta output", values, FLOAT32)
    q_decayed, k_decayed = tape.multiply("q decay", q, growth), tape.multiply("k decay", k, growth)
    state = B * chunks_of(block.chunk) * (block.heads * block.state * per_head)
    out = _chunk_loop(player, (new_values, old_keys, q_decayed, k_decayed, scores), values, state)
    tape.touch(core, v, v_beta, k_beta, pairwise, system, decayed)
    return out


def _unit(player: Player, block: StateSpace, x: Value) -> Value:
    """x / |x| in float32: keeps x and 1/|x|."""
    tape = player.tape
    wide = tape.cast(x, FLOAT32, "float32 q or k")
    length = tape.elementwise("rsqrt(sum)", (tape.multiply("x x", wide, wide),), elements=TOKENS * block.heads,
                              save_output=True)  # fmt: skip
    return tape.multiply("unit q or k", wide, length)


def _product(player: Player, left: Value, right: Value, elements: Size) -> Value:
    """A batched product of two tensors, which keeps both."""
    return player.tape.elementwise("product", (left, right), elements=elements, saves=(left, right))


def _solved(player: Player, system: Value, x: Value) -> Value:
    """aten::linalg_solve_triangular keeps the system and its result."""
    return player.tape.elementwise(
        "solve_triangular", (system, x), elements=x.elements, saves=(system,), save_output=True
    )


def _chunk_loop(player: Player, inputs: tuple[Value, ...], values: Size, state: Size) -> Value:
    """One chunk after another: keeps each chunk's corrected values and each state; q, k and scores are read in parts.

    A part's backward writes its gradient into a tensor of the whole.
    """
    tape = player.tape
    corrected, states = tape.constant("corrected values", values, FLOAT32), tape.constant("states", state, FLOAT32)
    out = tape.value("delta output", values, FLOAT32, any(value.needs_gradient for value in inputs))
    parts = tuple(tape.temporary("gradient of a chunk in the whole", value.elements, FLOAT32) for value in inputs[:1])
    tape.record(
        "chunk loop", out, reads=(*inputs, corrected, states), saves=(*inputs[1:], corrected, states),
        gradients=tuple((value, True) for value in inputs), backward_temporaries=parts,
    )  # fmt: skip
    flops = state * 8
    tape.add_work("chunk loop", "recurrence", FLOAT32, flops, moved(*inputs, out), moved(*inputs, out) * 2, flops * 2)
    return out


def _delta_norm(player: Player, block: StateSpace, module: Module, x: Value, gate: Value) -> Value:
    """RMSNorm of each head, then times silu(gate) in float32 (Qwen3NextRMSNormGated)."""
    tape = player.tape
    wide = tape.cast(x, FLOAT32, "float32 delta output")
    normal = tape.cast(normalised(player, wide, block.inner // block.heads), x.width, "normalised input")
    weighted = norm_weight(player, module, normal)
    opened = tape.unary("silu", tape.cast(gate, FLOAT32, "float32 gate"), "input")
    return tape.cast(tape.multiply("gated delta output", weighted, opened), x.width, "gated delta output")
