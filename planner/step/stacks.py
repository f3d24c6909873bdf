"""An encoder and a decoder as one row of runs, each with the lengths of its own stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from planner.architecture.spec import LayerRun, ModelSpec, Stack
from planner.step.checkpoints import checkpoint_parts
from planner.step.embedding import embedded
from planner.step.norms import norm
from planner.step.player import Player
from planner.step.rules import StepRules
from planner.step.runs import Run, gradients_of, layer_run, roles
from planner.step.simulate import Instant, Live, renamed, simulate
from planner.step.sizes import ENCODED, S, Size, constant
from planner.step.tape import StorageClass, Tape, Work
from planner.step.variants import variant_of

WORK_SIZES = ("flops", "bytes", "backward_flops", "backward_bytes", "model_backward_flops")


def joined_stacks(spec: ModelSpec, rules: StepRules) -> Iterator[Run]:
    """Encoder, what lies between, decoder. The encoder is as long as its table of positions, or as the run's sequence.

    Source: transformers models/t5/modeling_t5.py, models/whisper/modeling_whisper.py.
    """
    encoder, decoder = spec.encoders[0], spec.text
    lengths = {"e": S if encoder.positions_per_sample is None else constant(encoder.positions_per_sample)}
    wanted = rules.trains_base or rules.has_adapters or rules.checkpoint_every > 0
    yield from _stack_runs(spec, encoder, rules, 0, {"s": lengths["e"]}, None)
    yield _measured(_between(spec, rules, wanted), lengths)
    yield from _stack_runs(spec, decoder, rules, encoder.layer_count, lengths, wanted)


def _stack_runs(
    spec: ModelSpec, stack: Stack, rules: StepRules, before: int, lengths: dict[str, Size], encoded: bool | None
) -> Iterator[Run]:
    total = spec.encoders[0].layer_count + spec.text.layer_count
    first_trained = max(0, total - rules.trainable_layers) if rules.method == "freeze" else 0
    position, variant, offset = 0, variant_of(spec, rules.framework), before if rules.method == "freeze" else 0
    for run in _last_apart(stack):
        for role, count in roles(position + offset, run.count, first_trained, rules):
            for checkpointed, part in checkpoint_parts(position, count, rules):
                ends = position + part == stack.layer_count
                own = replace(role, encoded=encoded, ends=ends)
                made = layer_run(stack, run.layer, rules, own, part, variant, checkpointed=checkpointed)
                made = _measured(made, lengths)
                yield made
                if made.handed:
                    yield _held(made.handed)
                position += part


def _held(live: Live) -> Run:
    """A run that computes nothing and keeps something until backward comes by."""
    empty: Live = Counter()
    return Run(1, (), (), live, empty, (), False, True, empty)


def _last_apart(stack: Stack) -> Iterator[LayerRun]:
    """The runs with the stack's last layer in a run of its own."""
    *others, last = stack.runs
    yield from others
    if last.count > 1:
        yield LayerRun(last.layer, last.count - 1)
    yield LayerRun(last.layer, 1)


def _measured(run: Run, lengths: dict[str, Size]) -> Run:
    """The run with the lengths of its stack in place of `s` and `e`."""

    def sized(live: Live) -> Live:
        measured: Live = Counter()
        for kind, count in live.items():
            measured[StorageClass(kind.what, kind.bytes.substituted(lengths), kind.term)] += count
        return measured

    def instants(found: tuple[Instant, ...]) -> tuple[Instant, ...]:
        return tuple(Instant(instant.operation, sized(instant.live)) for instant in found)

    def work(item: Work) -> Work:
        sizes = {name: getattr(item, name).substituted(lengths) for name in WORK_SIZES}
        return replace(item, **sizes)

    return replace(
        run, forward=instants(run.forward), backward=instants(run.backward), saved=sized(run.saved),
        gradients=sized(run.gradients), work=tuple(work(item) for item in run.work), cached=sized(run.cached),
        dropped=sized(run.dropped), left=sized(run.left), taken=sized(run.taken), handed=sized(run.handed),
        own=sized(run.own),
    )  # fmt: skip


def _between(spec: ModelSpec, rules: StepRules, wanted: bool) -> Run:
    """The end of the encoder, whose result lives as long as the decoder reads it, and the decoder's embedding."""
    tape, variant = Tape(rules.on_processor), variant_of(spec, rules.framework)
    player = Player(tape, rules, rules.trains_base, variant)
    hidden, width = spec.encoders[0].hidden, rules.weights_width
    x = tape.value("last encoder states", ENCODED * hidden, width, wanted)
    encoded = x
    for module in spec.encoders[0].after:
        encoded = norm(player, module, encoded)
    encoded = player.dropout(encoded) if variant.final_dropout and "embedding" in variant.dropouts else encoded
    decoded = embedded(player, spec)
    profile = simulate(tape, (x,), (encoded, decoded), accumulate=rules.frees_gradients)
    result: Live = Counter({StorageClass("encoder's result", ENCODED * (hidden * width), "activations"): 1})
    kept = rules.trains_base or rules.checkpoint_every > 0 or (rules.has_adapters and rules.adapter_width == width)
    return Run(
        1, profile.forward, profile.backward, profile.saved + (result if kept else Counter()), profile.gradients,
        tuple(tape.work), False, bool(profile.backward), Counter() if kept else renamed(result, "temporaries"),
        taken=gradients_of((encoded,)),
    )  # fmt: skip
