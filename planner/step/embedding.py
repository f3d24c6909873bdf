"""The embedding: what happens before the first layer, what of it lives on, and its gradients at backward's end."""

from __future__ import annotations

from collections import Counter

from planner.architecture.spec import ModelSpec, Module
from planner.step.encoder_decoder import heard
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.rules import StepRules
from planner.step.runs import Run
from planner.step.simulate import BlockProfile, Instant, Live, renamed, simulate, times
from planner.step.sizes import TOKENS, S, constant
from planner.step.tape import StorageClass, Tape, Value
from planner.step.variants import variant_of


def _transformed(spec: ModelSpec) -> bool:
    """Whether the first layer's input is another tensor than the embedding's output."""
    variant = variant_of(spec)
    return variant.embedding_scale or "embedding" in variant.dropouts or bool(spec.position_tables or spec.text.before)


def held_embedding(spec: ModelSpec, rules: StepRules, runs: list[Run]) -> Live:
    """The embedding's output (and that of a position table) keep their names in the model's forward.

    Where the first layer keeps its input for backward anyway, it is the same tensor.
    """
    width = rules.weights_width
    live: Live = Counter()
    kept = bool(runs) and any(kind.what.endswith("layer input") for kind in runs[0].saved)
    if _transformed(spec) or not kept:
        live[StorageClass("embedding output", TOKENS * (spec.hidden * width), "temporaries")] += 1
    if spec.position_tables:
        live[StorageClass("position embeddings", S * (spec.hidden * width), "temporaries")] += 1
    return live


def required_embedding(spec: ModelSpec, rules: StepRules) -> Live:
    """With checkpoints and a frozen table the embedding's output is a leaf that gets a gradient, and so lives on.

    Source: transformers modeling_utils.enable_input_require_grads. It is the first layer's checkpoint where nothing
    stands between the two.
    """
    if not (not rules.trains_base and rules.checkpoint_every > 0 and _transformed(spec)):
        return Counter()
    return Counter({StorageClass("embedding output", TOKENS * (spec.hidden * rules.weights_width), "activations"): 1})


def before_layers(spec: ModelSpec, rules: StepRules) -> BlockProfile:
    """What happens to the embedding before the first layer: scale, a projection (OPT 350M), norms, dropout."""
    tape, variant = Tape(rules.on_processor), variant_of(spec, rules.framework)
    player = Player(tape, rules, rules.trains_base, variant)
    y = heard(player, spec.encoders[0]) if spec.task == "speech_seq2seq_lm" else embedded(player, spec)
    return simulate(tape, (), (y,), accumulate=rules.frees_gradients)


def embedded(player: Player, spec: ModelSpec) -> Value:
    """The first layer's input from the ids. A decoder behind an encoder adds its gradient to a tied table's others."""
    tape, rules, variant = player.tape, player.rules, player.variant
    wants = rules.trains_base or (not rules.trains_base and rules.checkpoint_every > 0)
    x = tape.value("embedding output", TOKENS * spec.embeddings[0].shape[1], rules.weights_width, wants)
    if spec.task in {"seq2seq_lm", "speech_seq2seq_lm"} and trains_tied(spec, rules):
        more = renamed(embedding_gradients(spec.embeddings[:1], rules), "temporaries")
        tape.record("embedding", x, reads=(), backward_temporaries=tuple(more) * 2)
    y = tape.unary("scaled embedding", x) if variant.embedding_scale else x
    for module in spec.text.before:
        if module.kind == "linear":
            y = linear(player, module, y)
    y = tape.unary("with positions", y) if spec.position_tables else y
    for module in spec.text.before:
        if module.kind.endswith("norm"):
            y = norm(player, module, y)
    return player.dropout(y) if "embedding" in variant.dropouts else y


def embedding_gradients(tables: tuple[Module, ...], rules: StepRules) -> Live:
    """A dense gradient of each embedding table that is trained; a tied head's is the same tensor."""
    live: Live = Counter()
    if rules.trains_base:
        for table in tables:
            kind = StorageClass("gradient of embeddings", constant(table.elements * rules.gradient_width), "gradients")
            live[kind] += 1
    return live


def embedding_backward(spec: ModelSpec, rules: StepRules, everything: Live) -> tuple[Instant, ...]:
    """The last node of backward: each table's dense gradient beside all others and the hidden states' gradient.

    A tied table gets two gradients, of the head and of the look-up; both and their sum are alive at once
    (torch/csrc/autograd/input_buffer.cpp adds out of place when the first buffer is shared). Where gradients are freed,
    that of per-layer inputs, whose table was looked up later, goes before.
    """
    apart = spec.embeddings[1:] if spec.text.packed and rules.frees_gradients else ()
    tables = embedding_gradients(spec.embeddings[: len(spec.embeddings) - len(apart)], rules)
    if not tables:
        return ()
    before = _per_layer_backward(spec, rules, apart)
    live = renamed(tables, "temporaries") if rules.frees_gradients else everything.copy()
    if trains_tied(spec, rules):
        sums = {"seq2seq_lm": 1, "speech_seq2seq_lm": 0}.get(spec.task, 2)
        live = live + times(renamed(embedding_gradients(spec.embeddings[:1], rules), "temporaries"), sums)
    else:
        live[StorageClass("gradient of activations", TOKENS * (spec.hidden * rules.weights_width), "temporaries")] += 1
    return (*before, Instant("embedding", live))


def _per_layer_backward(spec: ModelSpec, rules: StepRules, tables: tuple[Module, ...]) -> tuple[Instant, ...]:
    """A per-layer table's dense gradient beside that of its rows and of the hidden states."""
    live = renamed(embedding_gradients(tables, rules), "temporaries")
    for size in (spec.hidden, *(table.shape[1] for table in tables)):
        live[StorageClass("gradient of activations", TOKENS * (size * rules.weights_width), "temporaries")] += 1
    return (Instant("per-layer embedding", live),) if tables else ()


def trains_tied(spec: ModelSpec, rules: StepRules) -> bool:
    """Whether one trained table serves as embedding and as head."""
    return rules.trains_base and spec.tied and spec.lm_head is not None
