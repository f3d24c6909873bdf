"""litgpt's fused query-key-value projection with its own LoRA (litgpt/model.py, litgpt/lora.py LoRAQKVLinear)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from planner.architecture.spec import Attention, Layer, Mlp, ModelSpec, Module, Parallel, Sublayer
from planner.step.linear import base_linear, low_rank
from planner.step.player import FLOAT32, NotModelled, Player
from planner.step.rules import StepRules
from planner.step.simulate import Live
from planner.step.sizes import TOKENS, R, Size
from planner.step.tape import StorageClass, Value


def fused_projection(player: Player, block: Attention, x: Value) -> tuple[Value, Value, Value]:
    """q, k and v as views of one product, [b, s, q + k + v], so that keeping v for backward keeps all three.

    Raises:
        NotModelled: keys or values without a projection of their own (Gemma 4), which litgpt's model has not.
    """
    parts = [module for module in (block.q, block.k, block.v) if module is not None]
    if len(parts) < 3:
        raise NotModelled("attention without projections of its own for q, k and v under litgpt")
    shape = (sum(module.outputs for module in parts), parts[0].inputs)
    fused = Module("attn.qkv", "linear", "attention", shape, sum(module.bias for module in parts))
    out = base_linear(player, fused, x, TOKENS, trained=player.trains_base)
    adapted = [module for module in parts if player.rules.adapts(module)]
    if adapted:
        out = player.tape.add("base + adapter", out, _adapter(player, adapted, x, whole=TOKENS * fused.outputs))
    q, k, v = player.tape.pieces("split", out, tuple(TOKENS * module.outputs for module in parts))
    return q, k, v


def _adapter(player: Player, adapted: list[Module], x: Value, whole: Size) -> Value:
    """One dropout and one A for all adapted parts, a grouped convolution as B, zeros for the others.

    index_copy keeps its source for backward (tools/autograd/derivatives.yaml).
    """
    tape, outputs = player.tape, sum(module.outputs for module in adapted)
    source = player.dropout(x) if player.rules.dropout else x
    low = low_rank(
        player, "lora_A", source, R * TOKENS * len(adapted), Size({("r",): adapted[0].inputs * len(adapted)})
    )
    high = low_rank(player, "lora_B", low, TOKENS * outputs, Size({("r",): outputs}))
    if TOKENS * outputs != whole:
        high = tape.elementwise("zero padding", (high,), elements=whole, saves=(high,))
    return tape.unary("scaled adapter output", high)


def left_over(spec: ModelSpec, rules: StepRules) -> Live:
    """What the micro-batch before leaves until this one's logits take its name: graph, logits and kept inputs.

    bitsandbytes 0.42 keeps the input of a 4-bit product as an attribute of the autograd node (`ctx.tensors`), which
    backward does not release; the training loop's `logits` (litgpt/finetune/lora.py fit) holds the nodes. The
    micro-batch before is taken to be as long as this one.
    """
    live: Live = Counter()
    if rules.framework != "litgpt" or rules.scheme != "nf4" or spec.lm_head is None:
        return live
    for run in spec.text.runs:
        for width in _input_widths(run.layer):
            live[_kept_input(width, rules)] += run.count
    live[_kept_input(spec.lm_head.inputs, rules)] += 1
    logits = TOKENS * (spec.lm_head.outputs * FLOAT32)
    live[StorageClass("logits of the micro-batch before", logits, "logits_and_loss")] += 1
    return live


def _kept_input(width: int, rules: StepRules) -> StorageClass:
    return StorageClass(
        "inputs kept from the micro-batch before", TOKENS * (width * rules.compute_width), "activations"
    )


def _input_widths(layer: Layer) -> Iterator[int]:
    """Widths of the tensors that a layer's products read, each once; parallel branches may read one normed tensor."""
    for sublayer in layer.sublayers:
        branches = sublayer.mixer.branches if isinstance(sublayer.mixer, Parallel) else (sublayer,)
        shared = len(branches) > 1 and all(branch.norm is None for branch in branches)
        for number, branch in enumerate(branches):
            first, last = _outer_widths(branch)
            yield from (last,) if shared and number else (first, last)


def _outer_widths(sublayer: Sublayer) -> tuple[int, int]:
    block = sublayer.mixer
    if isinstance(block, Attention) and block.q is not None:
        return block.q.inputs, block.o.inputs
    if isinstance(block, Mlp) and block.up is not None:
        return block.up.inputs, block.down.inputs
    return 0, 0
