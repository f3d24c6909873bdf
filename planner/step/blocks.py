"""The forward pass of each block, played on a tape.

One function a block, in the order of the library's own code (transformers 5, models/llama/modeling_llama.py unless
another file is named), so that a reader can lay both side by side. Every value is shaped [b, s, width] unless its
comment says otherwise; widths are per token.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.architecture.spec import Attention, LatentAttention, Mixer, Mlp, Module, Moe, Parallel, StateSpace, Sublayer
from planner.step.rules import StepRules
from planner.step.sizes import SCORES, TOKENS, B, R, S, Size, constant, windowed
from planner.step.tape import NOTHING, StorageClass, Tape, Value, moved

FLOAT32 = 4
INDEX = 8
AUTOCAST_COPY = "autocast copy of a weight"


class NotModelled(ValueError):
    """A block whose training step has no program. `what` names it."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the training step of {what} is not modelled")


@dataclass(slots=True)
class Player:
    """A tape with the rules of the run; `trains_base` says whether this block's own weights are trained."""

    tape: Tape
    rules: StepRules
    trains_base: bool

    # -- matrix products ----------------------------------------------------------------------------------------

    def linear(self, module: Module, x: Value, rows: Size = TOKENS) -> Value:
        """y = x W^T + b, with a quantised weight and an adapter where the rules say so. x: [rows, in]; y: [rows, out]."""
        trained = self.trains_base or module.name in self.rules.saved_modules
        base = self._base_linear(module, x, rows, trained=trained and not self.rules.quantises(module))
        return self._adapted(module, x, base, rows) if self.rules.adapts(module) else base

    def _base_linear(self, module: Module, x: Value, rows: Size, *, trained: bool) -> Value:
        rules, tape = self.rules, self.tape
        source = tape.cast(x, rules.compute_width, f"autocast of the input of {module.name}") if rules.autocast else x
        copies = self._weight_copies(module, trained=trained, wanted=x.needs_gradient or trained)
        width = rules.compute_width if rules.autocast else max(source.width, rules.weights_width)
        out = tape.value(f"output of {module.name}", rows * module.outputs, width, source.needs_gradient or trained)
        dequantised = self._dequantised(module, rows)
        tape.record(
            module.name,
            out,
            reads=(source, *copies),
            saves=((source,) if trained else ()) + (copies if source.needs_gradient else ()),
            gradients=((source, True), *((copy, True) for copy in copies)),
            forward_temporaries=dequantised,
            backward_temporaries=dequantised[:1],
            weight_gradient=self.weight_gradient(module) if trained and not copies else (),
            keep_recomputed=True,
        )
        self._linear_work(module, rows, out.width, source.needs_gradient, trained)
        return out

    def _linear_work(self, module: Module, rows: Size, width: int, input_gradient: bool, trained: bool) -> None:
        """2 FLOPs a weight and row forward; the same again for each gradient (input, weight) that is wanted."""
        flops = rows * (2 * module.weight_elements)
        weight = constant(module.weight_elements * width)
        through = (rows * (module.inputs + module.outputs)) * width + weight
        products = int(input_gradient) + int(trained)
        self.tape.add_work(module.name, "matmul", width, flops, through, through * products, flops * products)

    def _weight_copies(self, module: Module, *, trained: bool, wanted: bool) -> tuple[Value, ...]:
        """Autocast's copy of a weight in the compute dtype; its gradient is cast back by a node of its own.

        Source: aten/src/ATen/autocast_mode.cpp cached_cast, which keeps the copy of a trained weight until the
        autocast context ends.
        """
        if not self.rules.autocast or self.rules.quantises(module) or not wanted:
            return ()
        tape = self.tape
        copy = tape.value(AUTOCAST_COPY, constant(module.weight_elements), self.rules.compute_width, trained)
        kind = tape.storages[copy.storage]
        tape.storages[copy.storage] = StorageClass(kind.what, kind.bytes, "temporaries")
        tape.record("autocast", copy, reads=(), weight_gradient=self.weight_gradient(module) if trained else ())
        return (copy,)

    def _dequantised(self, module: Module, rows: Size) -> tuple[StorageClass, ...]:
        """The working tensors of a quantised product, forward and backward.

        bitsandbytes autograd/_functions.py: MatMul4Bit dequantises the whole weight in both passes; MatMul8bitLt
        holds a float16 copy and an int8 copy of the input and the int32 product.
        """
        if not self.rules.quantises(module):
            return ()
        weight = StorageClass("dequantised weight", constant(module.weight_elements * self.rules.compute_width), "temporaries")
        if self.rules.scheme == "nf4":
            return (weight,)
        return (
            weight,
            StorageClass("int8 input", rows * module.inputs, "temporaries"),
            StorageClass("int32 product", rows * (4 * module.outputs), "temporaries"),
        )

    def weight_gradient(self, module: Module) -> tuple[StorageClass, ...]:
        """The gradients that backward leaves for a module's weight and bias."""
        width = self.rules.gradient_width
        weight = StorageClass("gradient of weights", constant(module.weight_elements * width), "gradients")
        if not module.bias:
            return (weight,)
        return (weight, StorageClass("gradient of biases", constant(module.bias * width), "gradients"))

    def _adapted(self, module: Module, x: Value, base: Value, rows: Size) -> Value:
        """base + B(A(dropout(x))) * scaling, as peft/tuners/lora/layer.py Linear.forward: x is cast to A's dtype first."""
        tape, width = self.tape, self.rules.adapter_width
        source = tape.cast(x, width, "adapter's copy of its input")
        if self.rules.dropout:
            mask = tape.value("dropout mask", source.elements, 1, False)
            tape.record("dropout mask", mask, reads=())
            source = tape.elementwise("dropout", (source, mask), width=width, saves=(mask,), extra_gradient=False)
        low = self._low_rank(f"{module.name}.lora_A", source, rows * R, Size({("r",): module.inputs}))
        if self.rules.method == "dora":
            self._dora_norm(module)
        high = self._low_rank(f"{module.name}.lora_B", low, rows * module.outputs, Size({("r",): module.outputs}))
        if self.rules.method == "dora":
            extra = self._dora_result(base, high)
        else:
            extra = tape.elementwise("scaling", (high,), what="scaled adapter output")
        total = tape.add("base + adapter", base, extra)
        return tape.cast(total, base.width, "result in the base's dtype")

    def _dora_norm(self, module: Module) -> None:
        """DoRA forms the norm of W + BA at each forward (peft/tuners/lora/dora.py get_lora_weight, get_weight_norm).

        Freed afterwards: the identity [in, in] that is sent through the adapter, BA, W in the adapter's dtype, the
        scaled BA and the sum, each [out, in].
        """
        width = self.rules.adapter_width
        identity = self.tape.temporary("DoRA identity", constant(module.inputs**2), width)
        copies = [self.tape.temporary("DoRA weight", constant(module.weight_elements), width) for _ in range(4)]
        out = self.tape.value("DoRA weight norm", constant(module.outputs), width, False)
        self.tape.record("dora_norm", out, reads=(), forward_temporaries=(identity, *copies))

    def _dora_result(self, base: Value, high: Value) -> Value:
        """(m - 1) base + m (B A x) scaling, m the trained magnitude over the norm: keeps base and B A x."""
        tape, width = self.tape, self.rules.adapter_width
        spread = (tape.temporary("gradient of the magnitude before its sum", high.elements, width),)
        first = tape.elementwise(
            "(m - 1) base", (base,), width=width, saves=(base,), backward_temporaries=spread, extra_gradient=True,
            what="magnitude times base",
        )  # fmt: skip
        second = tape.elementwise("m BAx", (high,), saves=(high,), backward_temporaries=spread, what="magnitude times adapter")
        scaled = tape.elementwise("scaling", (second,), what="scaled adapter output")
        return tape.add("DoRA result", first, scaled)

    def _low_rank(self, name: str, x: Value, elements: Size, weight: Size) -> Value:
        tape, width = self.tape, self.rules.adapter_width
        out = tape.value("adapter activations", elements, width, True)
        gradient = StorageClass("gradient of adapters", weight * width, "gradients")
        tape.record(name, out, reads=(x,), saves=(x,), gradients=((x, True),), weight_gradient=(gradient,))
        flops = weight * TOKENS * 2
        through = moved(x, out) + weight * width
        products = 1 + int(x.needs_gradient)
        tape.add_work(name, "matmul", width, flops, through, through * products, flops * products)
        return out

    # -- norms --------------------------------------------------------------------------------------------------

    def norm(self, module: Module | None, x: Value) -> Value:
        """RMSNorm computed in float32 (LlamaRMSNorm) or LayerNorm (one fused operation)."""
        if module is None:
            return x
        if module.kind == "layer_norm":
            return self._layer_norm(module, x)
        tape = self.tape
        rows = _rows(x, module.shape[-1])
        wide = tape.cast(x, FLOAT32, "float32 copy for the norm")
        squares = tape.elementwise("pow", (wide,), saves=(wide,), what="squares")
        inverse = tape.elementwise("rsqrt(mean)", (squares,), elements=rows, save_output=True, what="1/rms")
        spread = (tape.temporary("gradient of 1/rms before its sum", x.elements, FLOAT32),)
        kept = (wide, inverse)
        normal = tape.elementwise(
            "normalise", (wide, inverse), saves=kept, backward_temporaries=spread, what="normalised input"
        )
        narrow = tape.cast(normal, x.width, "normalised input")
        return self._norm_weight(module, narrow)

    def _norm_weight(self, module: Module, x: Value) -> Value:
        tape, rules = self.tape, self.rules
        width = max(x.width, rules.weights_width)
        spread = (tape.temporary("gradient of the norm's weight before its sum", x.elements, width),)
        out = tape.value("normed input", x.elements, width, x.needs_gradient or self.trains_base)
        tape.record(
            "norm weight",
            out,
            reads=(x,),
            saves=(x,) if self.trains_base else (),
            gradients=((x, True),),
            backward_temporaries=spread if self.trains_base else (),
            weight_gradient=self.weight_gradient(module) if self.trains_base else (),
        )
        tape.add_work("norm", "elementwise", width, NOTHING, moved(x, out), moved(x, out) * 2)
        return out

    def _layer_norm(self, module: Module, x: Value) -> Value:
        """aten::native_layer_norm keeps its input and two float32 numbers a row; autocast runs it in float32."""
        tape = self.tape
        source = tape.cast(x, FLOAT32, "float32 copy for the norm") if self.rules.autocast else x
        rows = _rows(x, module.shape[-1])
        statistics = tape.value("mean and 1/std", rows * 2, FLOAT32, False)
        tape.record("statistics", statistics, reads=())
        out = tape.value("normed input", source.elements, source.width, source.needs_gradient or self.trains_base)
        tape.record(
            "layer_norm",
            out,
            reads=(source,),
            saves=(source, statistics),
            gradients=((source, True),),
            weight_gradient=self.weight_gradient(module) if self.trains_base else (),
        )
        tape.add_work("norm", "elementwise", out.width, NOTHING, moved(source, out), moved(source, out) * 2)
        return out

    # -- attention ----------------------------------------------------------------------------------------------

    def attention(self, block: Attention, x: Value) -> Value:
        """Projections, QK norms, RoPE, the kernel, the output projection (LlamaAttention.forward)."""
        q, k, v, gate = self._projections(block, x)
        q, k = self._normed_heads(block, q, k)
        if block.position == "rope":
            q, k = self._rotated(x, q, k)
        width = block.value_head_dim or block.head_dim
        mixed = self.kernel(q, k, v, block.query_heads, block.key_value_heads, block.head_dim, width, block.window)
        self.tape.touch(x)
        if gate is not None:
            opened = self.tape.elementwise("sigmoid", (gate,), save_output=True, what="output gate")
            mixed = self.tape.elementwise("gated", (mixed, opened), saves=(mixed, opened), what="gated attention output")
        return self.linear(block.o, mixed)

    def _projections(self, block: Attention, x: Value) -> tuple[Value, Value, Value, Value | None]:
        if block.qkv is not None:
            return (*self._split(block, self.linear(block.qkv, x)), None)
        assert block.q is not None
        assert block.k is not None
        q = self.linear(block.q, x)
        k = self.linear(block.k, x)
        v = self.linear(block.v, x) if block.v is not None else k
        if not block.output_gate:
            return q, k, v, None
        half = self.tape.view(q)
        return half, k, v, self.tape.view(q)

    def _split(self, block: Attention, fused: Value) -> tuple[Value, Value, Value]:
        """Views of the fused projection; their gradients are laid together in one new tensor by backward."""
        tape = self.tape
        whole = tape.value("q, k, v", fused.elements, fused.width, fused.needs_gradient)
        whole.storage = fused.storage
        tape.record("split", whole, reads=(fused,), gradients=((fused, True),))
        del block
        return whole, tape.view(whole), tape.view(whole)

    def _normed_heads(self, block: Attention, q: Value, k: Value) -> tuple[Value, Value]:
        return self.norm(block.q_norm, q), self.norm(block.k_norm, k)

    def _rotated(self, x: Value, q: Value, k: Value) -> tuple[Value, Value]:
        """q cos + rotate_half(q) sin: keeps only cos and sin, which the whole model shares (apply_rotary_pos_emb)."""
        width = max(q.width, x.width if self.rules.autocast else q.width)
        rotated_q, rotated_k = self._rope(q, width), self._rope(k, width)
        self.tape.touch(q, k)
        return rotated_q, rotated_k

    def _rope(self, value: Value, width: int) -> Value:
        tape = self.tape
        working = tuple(tape.temporary("RoPE products", value.elements, width) for _ in range(2))
        out = tape.value("rotated heads", value.elements, width, value.needs_gradient)
        tape.record(
            "rope", out, reads=(value,), gradients=((value, True),),
            forward_temporaries=working, backward_temporaries=working,
        )  # fmt: skip
        tape.add_work("rope", "elementwise", width, NOTHING, moved(value, out) * 3, moved(value, out) * 3)
        return out

    def kernel(
        self, q: Value, k: Value, v: Value, heads: int, kv_heads: int, head_dim: int, value_dim: int, window: int | None
    ) -> Value:
        """softmax(q k^T) v by the kernel that the device runs. Result: [b, s, heads * value_dim].

        FlashAttention takes 16-bit inputs only and the memory-efficient kernel no grouped heads, so that float32 with
        grouped heads falls back to the score matrix (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).
        """
        if self.rules.autocast and self.rules.kernel != "eager":
            narrow = self.rules.compute_width
            q, k, v = (self.tape.cast(value, narrow, "autocast of q, k, v") for value in (q, k, v))
        self._attention_work(q, heads, head_dim, value_dim, window)
        if self.rules.kernel == "fused" and not (q.width == FLOAT32 and kv_heads != heads):
            return self._fused_kernel(q, k, v, heads, kv_heads, head_dim, value_dim)
        return self._scores_kernel(q, k, v, heads, kv_heads, head_dim, value_dim)

    def _attention_work(self, q: Value, heads: int, head_dim: int, value_dim: int, window: int | None) -> None:
        """2 FLOPs an element of both products over the visible half of the score matrix; backward 2.5 times (arXiv 2205.14135)."""
        visible = TOKENS * windowed(window)
        full = visible * (heads * (head_dim + value_dim))
        through = moved(q) * 4
        self.tape.add_work("attention", "attention", q.width, full, through, through * 2, _scaled(full, 5, 2), full * 2)

    def _fused_kernel(
        self, q: Value, k: Value, v: Value, heads: int, kv_heads: int, head_dim: int, value_dim: int
    ) -> Value:
        """FlashAttention-2 in PyTorch: keeps q, k, v, the output and float32 log-sum-exp [b, heads, s].

        Backward allocates dq, dk, dv, a float32 accumulator of dq, row sums, and, with grouped heads, dk and dv at
        the width of the query heads before they are summed (aten/src/ATen/native/transformers/cuda/flash_attn/
        flash_api.cpp, mha_bwd).
        """
        tape = self.tape
        if head_dim != value_dim:
            v = self._padded(v, heads, head_dim)
        out = tape.value("attention output", TOKENS * (heads * head_dim), q.width, q.needs_gradient or v.needs_gradient)
        lse = tape.value("log-sum-exp", TOKENS * heads, FLOAT32, False)
        tape.record("log-sum-exp", lse, reads=())
        expanded = kv_heads != heads
        working = [
            tape.temporary("float32 gradient of q", TOKENS * (heads * head_dim), FLOAT32),
            tape.temporary("row sums", TOKENS * heads, FLOAT32),
        ]
        if expanded:
            working += [tape.temporary("gradient of k, v per query head", TOKENS * (heads * head_dim), q.width)] * 2
        tape.record(
            "flash attention", out, reads=(q, k, v), saves=(q, k, v, out, lse),
            gradients=((q, True), (k, True), (v, True)), backward_temporaries=tuple(working), keep_recomputed=True,
        )  # fmt: skip
        return out if head_dim == value_dim else self._sliced(out, heads, value_dim)

    def _padded(self, v: Value, heads: int, head_dim: int) -> Value:
        """Unequal head dims: v is padded to the query's width (PyTorch sdp_utils pads for flash; MLA)."""
        return self.tape.elementwise("pad", (v,), elements=TOKENS * (heads * head_dim), what="padded values")

    def _sliced(self, out: Value, heads: int, value_dim: int) -> Value:
        return self.tape.elementwise("slice", (out,), elements=TOKENS * (heads * value_dim), what="attention output")

    def _scores_kernel(
        self, q: Value, k: Value, v: Value, heads: int, kv_heads: int, head_dim: int, value_dim: int
    ) -> Value:
        """The full score matrix [b, heads, s, s]: eager_attention_forward, or PyTorch's math fallback.

        Eager takes the softmax in float32 and casts it back; the math fallback computes 16-bit inputs in float32
        throughout (aten/src/ATen/native/transformers/attention.cpp, _scaled_dot_product_attention_math).
        """
        tape, eager = self.tape, self.rules.kernel == "eager"
        width = q.width if eager else FLOAT32
        if not eager:
            q, k, v = (tape.cast(value, width, "float32 copy for the math kernel") for value in (q, k, v))
        if kv_heads != heads:
            k = tape.elementwise("repeat_kv", (k,), elements=TOKENS * (heads * head_dim), what="repeated keys")
            v = tape.elementwise("repeat_kv", (v,), elements=TOKENS * (heads * value_dim), what="repeated values")
        matrix = SCORES * heads
        scores = tape.elementwise("q k^T", (q, k), elements=matrix, width=width, saves=(q, k), what="scores")
        scaled = tape.elementwise("scaling", (scores,), what="scaled scores")
        masked = tape.elementwise("mask", (scaled,), what="masked scores")
        wide = tape.cast(masked, FLOAT32, "float32 scores")
        weights = tape.elementwise("softmax", (wide,), save_output=True, what="attention weights")
        weights = tape.cast(weights, width, "attention weights")
        tape.touch(masked)
        return tape.elementwise(
            "weights v", (weights, v), elements=TOKENS * (heads * value_dim), width=width, saves=(weights, v),
            what="attention output",
        )  # fmt: skip

    def latent_attention(self, block: LatentAttention, x: Value) -> Value:
        """Multi-head latent attention (transformers models/deepseek_v3/modeling_deepseek_v3.py)."""
        tape = self.tape
        q = self._latent_query(block, x)
        compressed = self.linear(block.kv_a, x)
        latent = tape.elementwise("split", (compressed,), elements=TOKENS * block.kv_rank, what="latent")
        keys_values = self.linear(block.kv_b, self.norm(block.kv_a_norm, latent))
        head_dim = block.query_nope_dim + block.rope_dim
        query = tape.elementwise("cat", (q,), what="query with RoPE part")
        key = tape.elementwise("cat", (keys_values,), elements=TOKENS * (block.heads * head_dim), what="key with RoPE part")
        value = tape.elementwise("split", (keys_values,), elements=TOKENS * (block.heads * block.value_head_dim), what="values")
        mixed = self.kernel(query, key, value, block.heads, block.heads, head_dim, block.value_head_dim, None)
        tape.touch(x)
        return self.linear(block.o, mixed)

    def _latent_query(self, block: LatentAttention, x: Value) -> Value:
        if block.q is not None:
            return self.linear(block.q, x)
        assert block.q_a is not None
        assert block.q_b is not None
        return self.linear(block.q_b, self.norm(block.q_a_norm, self.linear(block.q_a, x)))

    # -- feed-forward -------------------------------------------------------------------------------------------

    def mlp(self, block: Mlp, x: Value) -> Value:
        """down(act(gate) * up), or down(act(up)) without a gate."""
        tape = self.tape
        if block.gate_up is not None:
            both = self.linear(block.gate_up, x)
            hidden = self.activated_halves(block.activation, both, block.intermediate, TOKENS)
        elif block.gate is not None and block.up is not None:
            gate = self.activation(block.activation, self.linear(block.gate, x))
            up = self.linear(block.up, x)
            hidden = tape.elementwise("act * up", (gate, up), saves=(gate, up), what="gated activations")
        else:
            assert block.up is not None
            hidden = self.activation(block.activation, self.linear(block.up, x))
        out = self.linear(block.down, hidden)
        tape.touch(x)
        return out

    def activated_halves(self, activation: str, both: Value, intermediate: int, rows: Size) -> Value:
        """act(first half) * second half of a fused projection; the halves are views and share its storage."""
        tape = self.tape
        half = Value(rows * intermediate, both.width, both.storage, both.needs_gradient)
        tape.record("chunk", half, reads=(both,), gradients=((both, True),))
        gate = self.activation(activation, half)
        return tape.elementwise("act * up", (gate, half), saves=(gate, half), what="gated activations")

    def activation(self, name: str, x: Value) -> Value:
        """A pointwise activation: relu keeps its result, relu2 both, the others (silu, gelu) their input."""
        tape = self.tape
        if name == "relu":
            return tape.elementwise("relu", (x,), save_output=True, what="activations")
        if name in {"relu2", "relu_squared"}:
            positive = tape.elementwise("relu", (x,), save_output=True, what="activations")
            return tape.elementwise("square", (positive,), saves=(positive,), what="squared activations")
        return tape.elementwise(name, (x,), saves=(x,), what="activations")

    def moe(self, block: Moe, x: Value) -> Value:
        """Router, grouped experts over the b*s*top_k chosen slots, shared experts.

        Routed experts follow transformers/integrations/moe.py grouped_mm_experts_forward, the default on devices with
        a grouped matrix product. Under uniform routing top_k * experts / slots of the slots reach an expert.
        """
        tape = self.tape
        weights = self._routing_weights(block, x)
        routed = self._experts(block, x, weights)
        if block.shared is not None:
            shared = self.mlp(block.shared, x)
            if block.shared_gate is not None:
                gate = tape.elementwise("sigmoid", (self.linear(block.shared_gate, x),), save_output=True, what="shared gate")
                shared = tape.elementwise("gate * shared", (shared, gate), saves=(shared, gate), what="gated shared output")
            routed = tape.add("routed + shared", routed, shared)
        tape.touch(x)
        return routed

    def _routing_weights(self, block: Moe, x: Value) -> Value:
        tape = self.tape
        logits = self._parameter_product(block.router, x, TOKENS)
        scores = tape.elementwise("router softmax", (logits,), width=FLOAT32, save_output=True, what="router scores")
        chosen = tape.elementwise("top-k", (scores,), elements=TOKENS * block.top_k, what="routing weights")
        return tape.cast(chosen, x.width, "routing weights")

    def _parameter_product(self, module: Module, x: Value, rows: Size) -> Value:
        """A product with a bare parameter that neither adapters nor quantisation reach (router)."""
        out = self.tape.value(f"output of {module.name}", rows * module.outputs, x.width, x.needs_gradient or self.trains_base)
        self.tape.record(
            module.name, out, reads=(x,), saves=(x,) if self.trains_base else (), gradients=((x, True),),
            weight_gradient=self.weight_gradient(module) if self.trains_base else (),
        )  # fmt: skip
        self._linear_work(module, rows, out.width, x.needs_gradient, self.trains_base)
        return out

    def _experts(self, block: Moe, x: Value, weights: Value) -> Value:
        tape = self.tape
        rows = TOKENS * block.top_k
        order = tape.value("expert order", rows * 2, INDEX, False)
        tape.record("sort", order, reads=(weights,))
        chosen = tape.elementwise("gather", (x, order), elements=rows * block.hidden, width=x.width, saves=(order,), what="tokens by expert")
        up = block.experts[0]
        width = block.intermediate * (2 if block.gated else 1)
        projected = self._grouped_product(block, up, chosen, rows, width)
        if block.gated:
            hidden = self.activated_halves(block.activation, projected, block.intermediate, rows)
        else:
            hidden = self.activation(block.activation, projected)
        down = self._grouped_product(block, block.experts[1], hidden, rows, block.hidden)
        weighted = tape.elementwise("weighting", (down, weights), elements=rows * block.hidden, width=down.width, saves=(down, weights), what="weighted expert outputs")
        restored = tape.elementwise("restore order", (weighted, order), width=down.width, saves=(order,), what="expert outputs in token order")
        return tape.elementwise("sum over experts", (restored,), elements=TOKENS * block.hidden, what="routed output")

    def _grouped_product(self, block: Moe, module: Module, x: Value, rows: Size, outputs: int) -> Value:
        tape, rules = self.tape, self.rules
        source = tape.cast(x, rules.compute_width, "autocast of tokens by expert") if rules.autocast else x
        copies = self._weight_copies(module, trained=self.trains_base, wanted=x.needs_gradient or self.trains_base)
        width = rules.compute_width if rules.autocast else source.width
        out = tape.value("expert activations", rows * outputs, width, source.needs_gradient or self.trains_base)
        tape.record(
            module.name, out, reads=(source, *copies),
            saves=((source,) if self.trains_base else ()) + (copies if source.needs_gradient else ()),
            gradients=((source, True), *((copy, True) for copy in copies)),
            weight_gradient=self.weight_gradient(module) if self.trains_base and not copies else (),
            keep_recomputed=True,
        )  # fmt: skip
        self._grouped_work(block, module, source, out)
        return out

    def _grouped_work(self, block: Moe, module: Module, x: Value, out: Value) -> None:
        """Only the chosen experts compute: 2 FLOPs a weight of one expert and slot that reaches an expert."""
        per_expert = module.weight_elements // block.expert_count
        slots = block.expert_count + block.zero_experts
        flops = TOKENS * (2 * per_expert * block.top_k * block.expert_count // slots)
        through = moved(x, out) + constant(module.weight_elements * out.width)
        products = int(x.needs_gradient) + int(self.trains_base)
        self.tape.add_work(module.name, "matmul", out.width, flops, through, through * products, flops * products)

    # -- layers -------------------------------------------------------------------------------------------------

    def mixer(self, block: Mixer, x: Value) -> Value:
        """The block of any kind."""
        if isinstance(block, Attention):
            return self.attention(block, x)
        if isinstance(block, LatentAttention):
            return self.latent_attention(block, x)
        if isinstance(block, Mlp):
            return self.mlp(block, x)
        if isinstance(block, Moe):
            return self.moe(block, x)
        if isinstance(block, Parallel):
            return self._parallel(block, x)
        return self.state_space(block, x)

    def state_space(self, block: StateSpace, x: Value) -> Value:
        """Recurrent mixers live in `planner.step.recurrent`."""
        from planner.step.recurrent import play  # noqa: PLC0415  (the two files call each other)

        return play(self, block, x)

    def _parallel(self, block: Parallel, x: Value) -> Value:
        results = [self.mixer(branch.mixer, self.norm(branch.norm, x)) for branch in block.branches]
        total = results[0]
        for result in results[1:]:
            total = self.tape.add("sum of branches", total, result)
        return total

    def sublayer(self, sublayer: Sublayer, x: Value) -> Value:
        """x + post_norm(mixer(norm(x))), or norm(x + mixer(x)) in BERT's order."""
        inside = x if sublayer.norm_after_residual else self.norm(sublayer.norm, x)
        result = self.norm(sublayer.post_norm, self.mixer(sublayer.mixer, inside))
        total = self.tape.add("residual", x, result)
        return self.norm(sublayer.norm, total) if sublayer.norm_after_residual else total


def _rows(x: Value, width: int) -> Size:
    """Rows of a tensor whose last dimension is `width`; a width that does not divide counts one row a token."""
    divided: dict[tuple[str, ...], int] = {}
    for monomial, coefficient in x.elements.terms:
        divided[monomial] = max(1, coefficient // width)
    return Size(divided)


def _scaled(size: Size, numerator: int, denominator: int) -> Size:
    return Size({monomial: coefficient * numerator // denominator for monomial, coefficient in size.terms})


__all__ = ["NotModelled", "Player", "B", "S"]
