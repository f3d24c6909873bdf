"""One training step of a whole model as a program, compiled once for a model and its rules.

It is then evaluated for any batch, sequence length and rank.

A step is embedding, layers, head and loss, then the same backwards. Layers of a run are equal, so only its first and
last layer can hold the highest instant: what is alive at layer i is linear in i (saved activations grow by a constant
a layer, gradients shrink by a constant a layer), and a linear function is largest at an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import mul
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import (
    Attention,
    LatentAttention,
    Layer,
    LayerRun,
    Mixer,
    ModelSpec,
    Module,
    Parallel,
    Stack,
    reads_encoder,
)
from planner.step.activations import activate
from planner.step.adapters import with_targets
from planner.step.blocks import layer as play_layer
from planner.step.encoder_decoder import heard, shared_by
from planner.step.linear import AUTOCAST_COPY, INT8_INPUT, linear
from planner.step.litgpt import left_over
from planner.step.loss import CONVERTED_OUTPUT, play_head
from planner.step.norms import norm
from planner.step.player import FLOAT32, INDEX, Player, Shared
from planner.step.rules import StepRules
from planner.step.simulate import BlockProfile, Instant, Live, forward_only, prune, simulate, storages_kept
from planner.step.sizes import (
    ENCODED,
    TOKENS,
    Monomial,
    Quantity,
    S,
    Size,
    above,
    constant,
    product_of,
    rounded,
    values_for,
)
from planner.step.tape import Operation, StorageClass, Tape, Term, Value, Work
from planner.step.variants import Variant, variant_of

OVERFLOW: Final = 2**61
EXACT: Final = 2**52
"""Below it float64 holds every integer and every quotient by an allocator's rounding, and multiplies far quicker."""
EVALUATION = "evaluation"
CHECKPOINT = "checkpoint: "
"""How the names of what checkpoints keep begin."""


@dataclass(frozen=True, slots=True)
class StepInstant:
    """What is alive at one instant of the step, as (index of the storage class, how many)."""

    moment: str
    operation: str
    live: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class StepProgram:
    """A compiled step: the instants that can be the highest, and the work with how often it is done.

    The sizes of the K storage classes are the product of `coefficients` [K, monomials] with the monomials' values, the
    bytes of the I instants the product of `counts` [I, K] with the sizes, exactly in each kind of number. Instants of
    one moment stand together; `moments` gives where each begins and ends. `gradients` and `checkpoints` [K] mark the
    classes of those terms.
    """

    kinds: tuple[StorageClass, ...]
    instants: tuple[StepInstant, ...]
    work: tuple[tuple[Work, int, int], ...]
    variables: frozenset[str]
    monomials: tuple[Monomial, ...]
    coefficients: NDArray[Any]
    float_coefficients: NDArray[np.float64]
    largest_coefficients: tuple[float, ...]
    counts: NDArray[Any]
    float_counts: NDArray[np.float64]
    moments: tuple[tuple[str, int, int], ...]
    first_instants: NDArray[np.intp]
    formulas: tuple[str, ...]
    gradients: NDArray[np.bool_]
    checkpoints: NDArray[np.bool_]

    def storage_bytes(self, batch: Quantity, sequence: Quantity, rank: Quantity, rounding_bytes: int) -> NDArray[Any]:
        """Bytes of one storage of each class, rounded as the allocator rounds: [K], or [K, N] for arrays of N plans.

        Raises:
            OverflowError: arrays of which some plan may need more than 4 PiB.
        """
        values = values_for(self.variables, batch, sequence, rank)
        products = [product_of(monomial, values) for monomial in self.monomials]
        if any(isinstance(product, np.ndarray) for product in products):
            if not np.all(self._exact(values)):
                raise OverflowError("the sizes are beyond 4 PiB")
            table: NDArray[Any] = np.array(np.broadcast_arrays(*products), dtype=np.float64)
        else:
            table = np.array(products, dtype=self._exact_dtype(products))
        if table.dtype == np.float64:
            return np.ceil(self.float_coefficients @ table / rounding_bytes) * rounding_bytes
        return rounded(self.coefficients.astype(table.dtype, copy=False) @ table, rounding_bytes)

    def _exact_dtype(self, products: list[Any]) -> Any:
        """The quickest kind of number that holds every instant's bytes of one plan exactly."""
        most = sum(map(mul, products, self.largest_coefficients))
        return np.float64 if most <= EXACT else np.int64 if most <= OVERFLOW else object

    def exact_at(self, batch: Quantity, sequence: Quantity, rank: Quantity) -> NDArray[np.bool_]:
        """Which of many plans `storage_bytes` takes: those that need up to 4 PiB."""
        exact = self._exact(values_for(self.variables, batch, sequence, rank))
        return np.broadcast_to(exact, np.broadcast(batch, sequence, rank).shape)

    def _exact(self, values: Mapping[str, Quantity]) -> Any:
        """Several plans are calculated in float64, exactly as far as they are taken."""
        in_floats = {name: value * 1.0 for name, value in values.items()}
        products = [product_of(monomial, in_floats) for monomial in self.monomials]
        return sum(map(mul, products, self.largest_coefficients)) <= EXACT

    def instant_bytes(self, sizes: NDArray[Any]) -> NDArray[Any]:
        """Bytes alive at each instant: [I], or [I, N]."""
        counts = self.float_counts if sizes.dtype == np.float64 else self.counts.astype(sizes.dtype, copy=False)
        return counts @ sizes

    def highest_bytes(self, instants: NDArray[Any]) -> dict[str, Quantity]:
        """The most bytes of each moment, of instants [I] or [I, N]: Python integers, or int64 arrays."""
        highest = in_integers(np.maximum.reduceat(instants, self.first_instants, axis=0))
        rows = highest.tolist() if highest.ndim == 1 else highest
        return {name: row for (name, _, _), row in zip(self.moments, rows, strict=True)}


def in_integers(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers that were calculated in float64 as int64; others as they are."""
    return values.astype(np.int64) if values.dtype == np.float64 else values


@dataclass(slots=True)
class _Assembly:
    """Instants collected so far, by moment, with what outlives the blocks."""

    always: Live
    instants: list[tuple[str, Instant]] = field(default_factory=list[tuple[str, Instant]])

    def add(self, moment: str, instants: tuple[Instant, ...], *around: Live) -> None:
        base = sum(around, self.always.copy())
        self.instants += [(moment, Instant(instant.operation, base + instant.live)) for instant in instants]


@dataclass(frozen=True, slots=True)
class _Run:
    """Equal layers with equal roles: their profile, what each keeps, and whether backward reaches them.

    `cached` is what a layer leaves until the end of the forward pass only, or until a later run has `dropped` it.
    `left` is what backward holds, gradients of what other runs made too, until the run that has `taken` it; `handed` is
    what the checkpoints of later layers keep. `own` is what a checkpoint holds while its layer runs.
    """

    count: int
    forward: tuple[Instant, ...]
    backward: tuple[Instant, ...]
    saved: Live
    gradients: Live
    work: tuple[Work, ...]
    recomputed: bool
    reached: bool
    cached: Live
    dropped: Live = field(default_factory=Counter[StorageClass])
    left: Live = field(default_factory=Counter[StorageClass])
    taken: Live = field(default_factory=Counter[StorageClass])
    handed: Live = field(default_factory=Counter[StorageClass])
    own: Live = field(default_factory=Counter[StorageClass])


def times(live: Live, count: int) -> Live:
    """The multiset `count` times."""
    return Counter({kind: number * count for kind, number in live.items()}) if count else Counter()


MANY_RUNS = 24


def _grow(live: Live, part: Live, count: int) -> None:
    """Add `count` times a part in place: thousands of runs must not copy what came before them."""
    for kind, number in part.items():
        live[kind] += number * count


@lru_cache(maxsize=512)
def compile_step(spec: ModelSpec, rules: StepRules) -> StepProgram:
    """The program of one training step in the steady state (the second optimizer step).

    Raises:
        NotModelled: a block of the model has no program.
    """
    return _compiled(*_step(spec, rules))


@lru_cache(maxsize=1024)
def compile_run(spec: ModelSpec, rules: StepRules) -> StepProgram:
    """The step's program and, as one more moment at its end, evaluation: a forward pass and loss without gradients.

    Raises:
        NotModelled: a block of the model has no program.
    """
    assembly, work = _step(spec, rules)
    assembly.instants += [(EVALUATION, instant) for _, instant in _evaluation(spec, rules).instants]
    return _compiled(assembly, work)


def _step(spec: ModelSpec, rules: StepRules) -> tuple[_Assembly, list[tuple[Work, int, int]]]:
    rules = with_targets(rules, spec)
    runs = list(_runs(spec, rules))
    head_tape, head = _head(spec, rules, reached=_reaches_head(rules, spec))
    prelude = _prelude(spec, rules)
    everything = _all_gradients(spec, rules, runs, head.gradients + prelude.gradients)
    kept_gradients: Live = everything if rules.accumulate and not rules.optimizer_in_backward else Counter()
    assembly = _Assembly(_always(spec, rules) + kept_gradients)
    held = _held_embedding(spec, rules, runs)
    masks = _masks(spec, rules)
    outer = prelude.saved + _required_embedding(spec, rules)
    # A checkpoint keeps its layer's arguments, and so the masks; without one they go when the last layer has run.
    held, outer = (held, outer + masks) if rules.checkpoint_every > 0 else (held + masks, outer)
    assembly.add("forward", prelude.forward, held)
    stale, always = left_over(spec, rules), assembly.always
    assembly.always = always + stale
    saved, cached = _forward_pass(assembly, runs, outer, held)
    assembly.add("loss", tuple(i for i in head.forward if stale and _is_head(spec, i)), saved, cached)
    assembly.always = always
    assembly.add("loss", head.forward, saved, cached)
    assembly.add("loss", head.backward, saved)
    later = _after_head(spec, rules, head)
    later = _backward_pass(assembly, runs, saved, later, keep=not _frees_gradients(rules))
    assembly.add("backward", prelude.backward, later)
    _embedding_backward(assembly, spec, rules, everything, _left_over_by(runs))
    work = [(item, count, passes) for items, count, passes in _joined_work(runs) for item in items]
    work += [(item, 1, 1) for item in head_tape.work]
    return assembly, work


def _evaluation(spec: ModelSpec, rules: StepRules) -> _Assembly:
    """A forward pass and loss without gradients, the same whatever is checkpointed."""
    kept = {"checkpointing": "none", "checkpoint_every": 0, "accumulate": False}
    return _frozen_pass(spec, replace(rules, method="freeze", trainable_layers=0, **kept))


@lru_cache(maxsize=512)
def _frozen_pass(spec: ModelSpec, frozen: StepRules) -> _Assembly:
    runs = list(_runs(spec, frozen))
    _, head = _head(spec, frozen, reached=False)
    assembly = _Assembly(_always(spec, frozen))
    held = _held_embedding(spec, frozen, runs) + _masks(spec, frozen)
    _forward_pass(assembly, runs, Counter(), held)
    assembly.add("loss", head.forward)
    return assembly


def _joined_work(runs: list[_Run]) -> list[tuple[tuple[Work, ...], int, int]]:
    """(work of one layer, how many layers, forward passes), equal runs joined."""
    counts: dict[tuple[int, int], int] = {}
    works: dict[tuple[int, int], tuple[Work, ...]] = {}
    for run in runs:
        key = (id(run.forward), 2 if run.recomputed else 1)
        works.setdefault(key, run.work)
        counts[key] = counts.get(key, 0) + run.count
    return [(works[key], count, key[1]) for key, count in counts.items()]


def _is_head(spec: ModelSpec, instant: Instant) -> bool:
    """Whether the head's logits have no name yet: the product, and the copy of it that litgpt's model gives back."""
    return spec.lm_head is not None and instant.operation in {spec.lm_head.name, CONVERTED_OUTPUT}


def _frees_gradients(rules: StepRules) -> bool:
    """Whether backward leaves no gradient behind that was not there before."""
    return rules.accumulate or rules.optimizer_in_backward


def _all_gradients(spec: ModelSpec, rules: StepRules, runs: list[_Run], around: Live) -> Live:
    """One gradient for each trained parameter; a tied table's counts as the head's. `around`: outside the layers."""
    own = _embedding_gradients(spec.embeddings[int(_trains_tied(spec, rules)) :], rules)
    return sum((times(run.gradients, run.count) for run in runs), around + own)


def _after_head(spec: ModelSpec, rules: StepRules, head: BlockProfile) -> Live:
    """Gradients that the head leaves for the rest of backward; a tied table's waits for the look-up's."""
    if not _frees_gradients(rules):
        return head.gradients
    tied = spec.embeddings[: int(_trains_tied(spec, rules))]
    return _renamed(_embedding_gradients(tied, rules), "temporaries")


def _reaches_head(rules: StepRules, spec: ModelSpec) -> bool:
    return spec.text.layer_count > 0 or rules.trains_base


def _always(spec: ModelSpec, rules: StepRules) -> Live:
    """Alive during the whole step: the batch (ids, labels, mask) and, with RoPE, the model's cos and sin tables."""
    live: Live = Counter({StorageClass("input ids, labels, mask", TOKENS * INDEX, "temporaries"): 3})
    rotary = max((_rotary_width(run.layer) for run in spec.text.runs), default=0)
    variant = variant_of(spec, rules.framework)
    if rotary:
        width = 4 if variant.float32_tables or variant.rope == "complex" else rules.weights_width
        table = StorageClass("cos, sin", S * (rotary * width), "activations")
        live[table] = 1 if variant.rope == "complex" else 2 * variant.rope_kinds
    return live


def _masks(spec: ModelSpec, rules: StepRules) -> Live:
    """The masks [1, 1, s, s] that the model makes for its layers: one for each kind of layer.

    Eager attention adds numbers in the weights' dtype. sdpa takes none for causal attention and, for a window, a
    boolean one as soon as the sequence is as long as the window (transformers/masking_utils.py).
    """
    windows = {window for run in spec.text.runs for window in _windows(run.layer)}
    live: Live = Counter()
    square = S * S
    if rules.kernel == "eager" or not variant_of(spec, rules.framework).sdpa:
        kinds = 1 if variant_of(spec, rules.framework).scores == "float32" else len(windows)
        return Counter({StorageClass("mask", square * rules.weights_width, "temporaries"): kinds})
    if rules.kernel == "fused":
        for window in windows:
            if window is not None:
                live[StorageClass("boolean mask", square * above(window - 1), "temporaries")] += 1
    return live


def _windows(layer: Layer) -> set[int | None]:
    return {mixer.window for mixer in _mixers(layer) if isinstance(mixer, Attention)}


def _mixers(layer: Layer) -> Iterator[Mixer]:
    for sublayer in layer.sublayers:
        if isinstance(sublayer.mixer, Parallel):
            yield from (branch.mixer for branch in sublayer.mixer.branches)
        else:
            yield sublayer.mixer


def _rotary_width(layer: Layer) -> int:
    for mixer in _mixers(layer):
        if isinstance(mixer, Attention) and mixer.position == "rope":
            return mixer.rotary_dim or mixer.head_dim
        if isinstance(mixer, LatentAttention):
            return mixer.rope_dim
    return 0


def _forward_pass(assembly: _Assembly, runs: list[_Run], saved: Live, held: Live) -> tuple[Live, Live]:
    """Add the forward instants; returns what is kept for backward and what is kept until the end of forward.

    `saved` is what the embedding keeps, `held` what the model's own code holds until the last layer has run.
    """
    saved, cached = saved.copy(), Counter[StorageClass]()
    decisive = _decisive(runs)
    for position, run in enumerate(runs):
        before = times(run.saved, run.count - 1) + run.own
        if position in decisive:
            assembly.add("forward", run.forward, saved, before, cached, times(run.cached, run.count - 1), held)
        _grow(saved, run.saved, run.count)
        _grow(cached, run.cached, run.count)
        _grow(cached, run.dropped, -run.count)
    return saved, cached


def _decisive(runs: list[_Run]) -> set[int]:
    """Which runs can hold the highest instant: with many runs, the first and the last of each kind.

    In a periodic pattern (every n-th layer checkpointed, one full-attention layer in six) what is alive at the k-th
    period is linear in k, as inside a run, so that the ends decide. Short patterns are looked at whole.
    """
    if len(runs) <= MANY_RUNS:
        return set(range(len(runs)))
    first: dict[tuple[int, int], int] = {}
    last: dict[tuple[int, int], int] = {}
    for position, run in enumerate(runs):
        kind = (id(run.forward), id(run.backward))
        first.setdefault(kind, position)
        last[kind] = position
    return {*first.values(), *last.values()}


def _backward_pass(assembly: _Assembly, runs: list[_Run], saved: Live, later: Live, *, keep: bool) -> Live:
    """Add the backward instants; returns `later` with the gradients that they leave."""
    decisive = _decisive(runs)
    saved, later = saved.copy(), later.copy()
    for position, run in reversed(list(enumerate(runs))):
        _grow(saved, run.saved, -run.count)
        if not run.reached:
            continue
        _grow(later, run.taken, -run.count)
        last, first = run.count - 1, 0
        for index in {last, first} if position in decisive else ():
            done = times(run.gradients, last - index) if keep else Counter[StorageClass]()
            done = done + times(run.left, last - index)
            assembly.add("backward", run.backward, saved, times(run.saved, index) + run.own, later, done)
        if keep:
            _grow(later, run.gradients, run.count)
        _grow(later, run.left, run.count)
    return later


def _transformed(spec: ModelSpec) -> bool:
    """Whether the first layer's input is another tensor than the embedding's output."""
    variant = variant_of(spec)
    return (
        variant.embedding_scale or "embedding" in variant.dropouts or len(spec.embeddings) > 1 or bool(spec.text.before)
    )


def _held_embedding(spec: ModelSpec, rules: StepRules, runs: list[_Run]) -> Live:
    """The embedding's output (and that of a position table) keep their names in the model's forward.

    Where the first layer keeps its input for backward anyway, it is the same tensor.
    """
    width = rules.weights_width
    live: Live = Counter()
    kept = bool(runs) and any(kind.what.endswith("layer input") for kind in runs[0].saved)
    if _transformed(spec) or not kept:
        live[StorageClass("embedding output", TOKENS * (spec.hidden * width), "temporaries")] += 1
    if len(spec.embeddings) > 1:
        live[StorageClass("position embeddings", S * (spec.hidden * width), "temporaries")] += 1
    return live


def _required_embedding(spec: ModelSpec, rules: StepRules) -> Live:
    """With checkpoints and a frozen table the embedding's output is a leaf that gets a gradient, and so lives on.

    Source: transformers modeling_utils.enable_input_require_grads. It is the first layer's checkpoint where nothing
    stands between the two.
    """
    if not (not rules.trains_base and rules.checkpoint_every > 0 and _transformed(spec)):
        return Counter()
    return Counter({StorageClass("embedding output", TOKENS * (spec.hidden * rules.weights_width), "activations"): 1})


def _prelude(spec: ModelSpec, rules: StepRules) -> BlockProfile:
    """What happens to the embedding before the first layer: scale, a projection (OPT 350M), norms, dropout."""
    tape, variant = Tape(rules.on_processor), variant_of(spec, rules.framework)
    player = Player(tape, rules, rules.trains_base, variant)
    y = heard(player, spec.encoders[0]) if spec.task == "speech_seq2seq_lm" else _embedded(player, spec)
    return simulate(tape, (), (y,), accumulate=_frees_gradients(rules))


def _embedded(player: Player, spec: ModelSpec) -> Value:
    """The first layer's input from the ids. A decoder behind an encoder adds its gradient to a tied table's others."""
    tape, rules, variant = player.tape, player.rules, player.variant
    wants = rules.trains_base or (not rules.trains_base and rules.checkpoint_every > 0)
    x = tape.value("embedding output", TOKENS * spec.embeddings[0].shape[1], rules.weights_width, wants)
    if spec.task in {"seq2seq_lm", "speech_seq2seq_lm"} and _trains_tied(spec, rules):
        more = _renamed(_embedding_gradients(spec.embeddings[:1], rules), "temporaries")
        tape.record("embedding", x, reads=(), backward_temporaries=tuple(more) * 2)
    y = tape.unary("scaled embedding", x) if variant.embedding_scale else x
    for module in spec.text.before:
        if module.kind == "linear":
            y = linear(player, module, y)
    y = tape.unary("with positions", y) if len(spec.embeddings) > 1 else y
    for module in spec.text.before:
        if module.kind.endswith("norm"):
            y = norm(player, module, y)
    return player.dropout(y) if "embedding" in variant.dropouts else y


def _embedding_gradients(tables: tuple[Module, ...], rules: StepRules) -> Live:
    """A dense gradient of each embedding table that is trained; a tied head's is the same tensor."""
    live: Live = Counter()
    if rules.trains_base:
        for table in tables:
            kind = StorageClass("gradient of embeddings", constant(table.elements * rules.gradient_width), "gradients")
            live[kind] += 1
    return live


def _left_over_by(runs: list[_Run]) -> Live:
    """What backward leaves to its end besides gradients of parameters."""
    left: Live = Counter()
    for run in runs:
        _grow(left, run.left, run.count)
        _grow(left, run.taken, -run.count)
    return +left


def _embedding_backward(assembly: _Assembly, spec: ModelSpec, rules: StepRules, everything: Live, left: Live) -> None:
    """The last node of backward: each table's dense gradient beside all others and the hidden states' gradient.

    A tied table gets two gradients, of the head and of the look-up; both and their sum are alive at once
    (torch/csrc/autograd/input_buffer.cpp adds out of place when the first buffer is shared).
    """
    tables = _embedding_gradients(spec.embeddings, rules)
    if not tables:
        return
    live = _renamed(tables, "temporaries") if _frees_gradients(rules) else everything.copy()
    if _trains_tied(spec, rules):
        sums = {"seq2seq_lm": 1, "speech_seq2seq_lm": 0}.get(spec.task, 2)
        live = live + times(_renamed(_embedding_gradients(spec.embeddings[:1], rules), "temporaries"), sums)
    else:
        live[StorageClass("gradient of activations", TOKENS * (spec.hidden * rules.weights_width), "temporaries")] += 1
    assembly.add("backward", (Instant("embedding", live),), left)


def _trains_tied(spec: ModelSpec, rules: StepRules) -> bool:
    return rules.trains_base and spec.tied and spec.lm_head is not None


def _renamed(live: Live, term: Term) -> Live:
    return Counter({StorageClass(kind.what, kind.bytes, term): count for kind, count in live.items()})


# -- blocks ---------------------------------------------------------------------------------------------------------


def _runs(spec: ModelSpec, rules: StepRules) -> Iterator[_Run]:
    """Runs of equal layers, split where the role changes: frozen and unreached, first trained one, the rest."""
    if spec.task in {"seq2seq_lm", "speech_seq2seq_lm"}:
        yield from _joined_stacks(spec, rules)
        return
    played = [run for run in spec.text.runs if not reads_encoder(run.layer)]
    total = sum(run.count for run in played)
    first_trained = max(0, total - rules.trainable_layers) if rules.method == "freeze" else 0
    position, variant = 0, variant_of(spec, rules.framework)
    made: dict[tuple[int, _Role, int, bool], _Run] = {}
    for run in played:
        for role, count in _roles(position, run.count, first_trained, rules):
            for checkpointed, part in _checkpoint_parts(position, count, rules):
                key = (id(run.layer), role, part, checkpointed)
                if key not in made:
                    made[key] = _layer_run(spec.text, run.layer, rules, role, part, variant, checkpointed=checkpointed)
                yield made[key]
            position += count


@dataclass(frozen=True, slots=True)
class _Role:
    """What is wanted of a layer.

    `encoded` says whether the encoder's result wants a gradient, and is None where the layer reads none. The last layer
    of a stack (`ends`) makes the first gradients of what its layers share; the others add to them.
    """

    trained: bool
    input_gradient: bool
    encoded: bool | None = None
    ends: bool = True


def _joined_stacks(spec: ModelSpec, rules: StepRules) -> Iterator[_Run]:
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
) -> Iterator[_Run]:
    total = spec.encoders[0].layer_count + spec.text.layer_count
    first_trained = max(0, total - rules.trainable_layers) if rules.method == "freeze" else 0
    position, variant, offset = 0, variant_of(spec, rules.framework), before if rules.method == "freeze" else 0
    for run in _last_apart(stack):
        for role, count in _roles(position + offset, run.count, first_trained, rules):
            for checkpointed, part in _checkpoint_parts(position, count, rules):
                ends = position + part == stack.layer_count
                own = replace(role, encoded=encoded, ends=ends)
                made = _layer_run(stack, run.layer, rules, own, part, variant, checkpointed=checkpointed)
                made = _measured(made, lengths)
                yield made
                if made.handed:
                    yield _held(made.handed)
                position += part


def _held(live: Live) -> _Run:
    """A run that computes nothing and keeps something until backward comes by."""
    empty: Live = Counter()
    return _Run(1, (), (), live, empty, (), False, True, empty)


def _last_apart(stack: Stack) -> Iterator[LayerRun]:
    """The runs with the stack's last layer in a run of its own."""
    *others, last = stack.runs
    yield from others
    if last.count > 1:
        yield LayerRun(last.layer, last.count - 1)
    yield LayerRun(last.layer, 1)


def _measured(run: _Run, lengths: dict[str, Size]) -> _Run:
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


WORK_SIZES = ("flops", "bytes", "backward_flops", "backward_bytes", "model_backward_flops")


def _between(spec: ModelSpec, rules: StepRules, wanted: bool) -> _Run:
    """The end of the encoder, whose result lives as long as the decoder reads it, and the decoder's embedding."""
    tape, variant = Tape(rules.on_processor), variant_of(spec, rules.framework)
    player = Player(tape, rules, rules.trains_base, variant)
    hidden, width = spec.encoders[0].hidden, rules.weights_width
    x = tape.value("last encoder states", ENCODED * hidden, width, wanted)
    encoded = x
    for module in spec.encoders[0].after:
        encoded = norm(player, module, encoded)
    encoded = player.dropout(encoded) if variant.final_dropout and "embedding" in variant.dropouts else encoded
    decoded = _embedded(player, spec)
    profile = simulate(tape, (x,), (encoded, decoded), accumulate=_frees_gradients(rules))
    result: Live = Counter({StorageClass("encoder's result", ENCODED * (hidden * width), "activations"): 1})
    kept = rules.trains_base or rules.checkpoint_every > 0 or (rules.has_adapters and rules.adapter_width == width)
    return _Run(
        1, profile.forward, profile.backward, profile.saved + (result if kept else Counter()), profile.gradients,
        tuple(tape.work), False, bool(profile.backward), Counter() if kept else _renamed(result, "temporaries"),
        taken=_gradients_of_values((encoded,)),
    )  # fmt: skip


def _gradients_of_values(values: tuple[Value, ...]) -> Live:
    """A gradient under way of each value that wants one."""
    live: Live = Counter()
    for value in values:
        if value.needs_gradient:
            live[StorageClass("gradient of activations", value.elements * value.width, "temporaries")] += 1
    return live


def _roles(start: int, count: int, first_trained: int, rules: StepRules) -> Iterator[tuple[_Role, int]]:
    """Which layers of start .. start+count-1 are trained and whether their input wants a gradient."""
    checkpointed = rules.checkpoint_every > 0
    if rules.trains_base:
        yield _Role(trained=True, input_gradient=True), count
        return
    if rules.has_adapters:
        # Without checkpointing the first layer's input wants no gradient; with it, the library makes it want one
        # (transformers modeling_utils.enable_input_require_grads, called by peft for checkpointed models).
        if start == 0 and not checkpointed:
            yield _Role(trained=False, input_gradient=False), 1
            count -= 1
        if count:
            yield _Role(trained=False, input_gradient=True), count
        return
    # With checkpoints the library makes every layer's input want a gradient, frozen layers' too.
    frozen = min(count, max(0, first_trained - start))
    if frozen:
        yield _Role(trained=False, input_gradient=checkpointed), frozen
    trained = count - frozen
    if trained and start + frozen == first_trained and not checkpointed:
        yield _Role(trained=True, input_gradient=False), 1
        trained -= 1
    if trained:
        yield _Role(trained=True, input_gradient=True), trained


@lru_cache(maxsize=2048)
def _layer_profile(
    layer: Layer, hidden: int, rules: StepRules, role: _Role, checkpointed: bool, variant: Variant
) -> tuple[Tape, BlockProfile, tuple[Instant, ...], Live, Shared]:
    tape = Tape(rules.on_processor)
    player = Player(tape, rules, role.trained, variant)
    player.shared = shared_by(player, layer, hidden, role.encoded)
    x = tape.value("layer input", TOKENS * hidden, _stream_width(rules, variant), role.input_gradient)
    y = play_layer(player, layer, x)
    kept: Live = Counter()
    operations: list[Operation] = []
    if checkpointed:
        operations = _selected(tape, rules)
        kept = _as_activations(storages_kept(tape, (x,), operations, _kept_by_int8(tape)))
    inputs, outputs = () if checkpointed else (x,), (y, *player.shared.made)
    profile = simulate(
        tape, inputs, outputs, accumulate=_frees_gradients(rules), stop_early=checkpointed,
        absorbed=() if role.ends else player.shared.read,
        waiting=[(tape.operations.index(operation), _kept_class(tape, operation)) for operation in operations],
    )  # fmt: skip
    plain = forward_only(tape, inputs, outputs, {operation.results[0].storage for operation in operations})
    if checkpointed:
        plain = tuple(Instant(i.operation, i.live + _returned_weights(layer, rules, variant)) for i in plain)
    return tape, profile, plain, kept, player.shared


def _returned_weights(layer: Layer, rules: StepRules, variant: Variant) -> Live:
    """The attention weights of the layer before, which layers that return a tuple leave in the model's loop."""
    if variant.scores not in {"alibi", "bias", "float32"}:
        return Counter()
    heads = max((mixer.query_heads for mixer in _mixers(layer) if isinstance(mixer, Attention)), default=0)
    scores = Size({("b", "s", "s"): heads * rules.weights_width})
    return Counter({StorageClass("attention weights of the layer before", scores, "temporaries"): 1})


def _kept_operations(tape: Tape) -> list[Operation]:
    """What torchtitan's per-operation policy keeps: attention and every second matrix product.

    Source: torchtitan distributed/activation_checkpoint.py, _get_custom_policy.
    """
    marked = [operation for operation in tape.operations if operation.keep_recomputed]
    products = [operation for operation in marked if not operation.name.endswith("attention")]
    return [operation for operation in marked if operation.name.endswith("attention")] + products[::2]


def _selected(tape: Tape, rules: StepRules) -> list[Operation]:
    """The operations whose results a checkpoint of this kind keeps."""
    return _kept_operations(tape) if rules.checkpointing != "full" else []


def _kept_class(tape: Tape, operation: Operation) -> StorageClass:
    """The operation's result as a checkpoint keeps it."""
    kind = tape.storages[operation.results[0].storage]
    return StorageClass(CHECKPOINT + kind.what, kind.bytes, "activations")


def _kept_by_int8(tape: Tape) -> set[int]:
    """Inputs that MatMul8bitLt keeps as attributes of its nodes, where a checkpoint doesn't see them.

    Source: bitsandbytes autograd/_functions.py. They even outlive their block's backward, until the loss goes; what a
    block recomputes is smaller than what the later ones have kept, so that the peak is at backward's begin.
    """
    return {
        operation.reads[0]
        for operation in tape.operations
        if any(kind.what == INT8_INPUT for kind in operation.forward_temporaries)
    }


SCORES = frozenset({"scores", "scaled scores", "masked scores", "float32 scores", "attention weights"})


def _attention_recomputed(tape: Tape, profile: BlockProfile, plain: tuple[Instant, ...], count: int) -> _Run:
    """Megatron's selective recomputation: the score matrices are made again in backward (arXiv 2205.05198, section 5).

    With a fused kernel there are none, so that it saves nothing.
    """
    if not profile.backward:
        return _Run(count, plain, (), Counter(), Counter(), tuple(tape.work), False, False, Counter())
    kept = Counter({kind: number for kind, number in profile.saved.items() if kind.what not in SCORES})
    return _Run(
        count, profile.forward, profile.backward, kept, profile.gradients, tuple(tape.work), False, True, Counter()
    )


def _cached_copies(tape: Tape, role: _Role) -> Live:
    """Autocast's copies of trained weights outlive a checkpointed forward pass: the cache keeps them until its end."""
    if not role.trained:
        return Counter()
    return Counter(kind for kind in tape.storages if kind.what == AUTOCAST_COPY)


def _as_activations(live: Live) -> Live:
    return Counter({StorageClass(CHECKPOINT + kind.what, kind.bytes, "activations"): n for kind, n in live.items()})


def _stream_width(rules: StepRules, variant: Variant) -> int:
    """Bytes of an element of the residual stream between layers."""
    if variant.float32_stream:
        return FLOAT32
    return rules.weights_width


def _checkpoint_parts(start: int, count: int, rules: StepRules) -> Iterator[tuple[bool, int]]:
    """Layers start .. start+count-1 as (checkpointed, how many): all, none, or every n-th from layer 0."""
    every = rules.checkpoint_every if rules.checkpointing != "none" else 0
    if every <= 1:
        yield every == 1, count
        return
    for position in range(start, start + count):
        yield position % every == 0, 1


def _layer_run(
    stack: Stack, layer: Layer, rules: StepRules, role: _Role, count: int, variant: Variant, *, checkpointed: bool
) -> _Run:
    recomputes_blocks = checkpointed and rules.checkpointing != "selective_attention"
    own = rules.of_layer(checkpointed=recomputes_blocks)
    tape, profile, plain, kept, shared = _layer_profile(layer, stack.hidden, own, role, recomputes_blocks, variant)
    run = _played(tape, profile, plain, kept, rules, role, count, checkpointed=checkpointed)
    if run.recomputed and shared.graph:
        graph: Live = Counter(tape.storages[storage] for storage in shared.graph)
        run = replace(run, left=_renamed(graph, "temporaries"))
    return _with_shared(run, shared, role) if role.encoded is not None or shared.bias is not None else run


def _with_shared(run: _Run, shared: Shared, role: _Role) -> _Run:
    """The run with what its layer makes for the others, which is alive until the stack ends.

    Where layers are checkpointed, the later ones hold it as an argument. The zeros are then a leaf with a gradient,
    which the graph holds until it goes itself.
    """
    bias: Live = Counter()
    if shared.bias is not None:
        size = shared.bias.elements * shared.bias.width
        bias[StorageClass("position bias", size, "activations" if run.recomputed else "temporaries")] += 1
    made: Live = bias if shared.bias in shared.made else Counter()
    zeros: Live = Counter()
    if shared.crossing in shared.made and (run.recomputed or not run.reached):
        assert shared.crossing is not None
        size = shared.crossing.elements * shared.crossing.width
        zeros[StorageClass("zero position bias", size, "activations")] += 1
    left = _gradients_of_values(shared.read) if role.ends else Counter[StorageClass]()
    taken = _gradients_of_values(tuple(value for value in shared.made if value is not shared.crossing or not zeros))
    if run.recomputed:
        return replace(run, handed=made + zeros, left=left + zeros, taken=taken)
    dropped = bias if role.ends else Counter[StorageClass]()
    return replace(run, cached=run.cached + made, dropped=dropped, handed=zeros, left=left, taken=taken)


def _played(
    tape: Tape, profile: BlockProfile, plain: tuple[Instant, ...], kept: Live, rules: StepRules, role: _Role,
    count: int, *, checkpointed: bool,
) -> _Run:  # fmt: skip
    recomputes_blocks = checkpointed and rules.checkpointing != "selective_attention"
    if checkpointed and not recomputes_blocks:
        return _attention_recomputed(tape, profile, plain, count)
    work = tuple(tape.work)
    reached = bool(profile.backward)
    if not reached:
        return _Run(count, plain, (), Counter(), Counter(), work, False, False, Counter())
    if not recomputes_blocks:
        return _Run(
            count, profile.forward, profile.backward, profile.saved, profile.gradients, work, False, True, Counter()
        )
    recomputation = tuple(Instant("recomputed " + i.operation, i.live + profile.resume) for i in profile.forward)
    backward = prune((*recomputation, *profile.backward))
    selected = {_kept_class(tape, operation) for operation in _selected(tape, rules)}
    own = Counter({kind: number for kind, number in kept.items() if kind not in selected})
    return _Run(count, plain, backward, kept, profile.gradients, work, True, True, _cached_copies(tape, role), own=own)


def _head(spec: ModelSpec, rules: StepRules, *, reached: bool) -> tuple[Tape, BlockProfile]:
    return _played_head(spec, replace(rules, checkpointing="none", checkpoint_every=0), reached)


@lru_cache(maxsize=512)
def _played_head(spec: ModelSpec, rules: StepRules, reached: bool) -> tuple[Tape, BlockProfile]:
    tape = Tape(rules.on_processor)
    trained = rules.trains_base
    player = Player(tape, rules, trained, variant_of(spec, rules.framework))
    reached = reached and not (rules.method == "freeze" and rules.trainable_layers == 0)
    x = tape.value("last hidden states", TOKENS * spec.hidden, _stream_width(rules, player.variant), reached)
    hidden = x
    for module in spec.text.after:
        hidden = norm(player, module, hidden) if module.kind.endswith("norm") else linear(player, module, hidden)
    if player.variant.final_dropout and "embedding" in player.variant.dropouts:
        hidden = player.dropout(hidden)
    if player.variant.float32_stream:
        hidden = tape.cast(hidden, rules.weights_width, "last hidden states in the weights' dtype")
    hidden = _transform(player, spec, hidden)
    loss = play_head(player, spec, hidden)
    return tape, simulate(tape, (x,), (loss,), accumulate=_frees_gradients(rules))


def _transform(player: Player, spec: ModelSpec, hidden: Value) -> Value:
    """What a masked-language-model head has before its product: dense, GELU, norm (BertPredictionHeadTransform)."""
    if player.rules.objective == "sequence_classification":
        return hidden
    for module in spec.head_extra:
        if module.kind == "linear":
            hidden = activate(player, "gelu", linear(player, module, hidden))
        elif module.kind.endswith("norm"):
            hidden = norm(player, module, hidden)
    return hidden


# -- compiling ------------------------------------------------------------------------------------------------------


def _compiled(assembly: _Assembly, work: list[tuple[Work, int, int]]) -> StepProgram:
    by_moment: dict[str, list[Instant]] = {}
    for moment, instant in assembly.instants:
        by_moment.setdefault(moment, []).append(instant)
    pruned = [(moment, instant) for moment, instants in by_moment.items() for instant in prune(instants)]
    kinds = tuple(dict.fromkeys(kind for _, instant in pruned for kind in instant.live))
    index = {kind: number for number, kind in enumerate(kinds)}
    instants = tuple(
        StepInstant(moment, instant.operation, tuple((index[kind], count) for kind, count in instant.live.items()))
        for moment, instant in pruned
    )
    sizes = [kind.bytes for kind in kinds] + [size for item, _, _ in work for size in _work_sizes(item)]
    variables = frozenset(variable for size in sizes for variable in size.variables)
    monomials = tuple(sorted({monomial for kind in kinds for monomial, _ in kind.bytes.terms}))
    coefficients, counts = _coefficients(kinds, monomials), _counts(instants, len(kinds))
    moments = _moment_ranges(instants)
    return StepProgram(
        kinds=kinds,
        instants=instants,
        work=tuple(work),
        variables=variables,
        monomials=monomials,
        coefficients=coefficients,
        float_coefficients=coefficients.astype(np.float64),
        largest_coefficients=tuple((counts @ coefficients.astype(np.float64)).max(axis=0, initial=0.0).tolist()),
        counts=counts,
        float_counts=counts.astype(np.float64),
        moments=moments,
        first_instants=np.array([first for _, first, _ in moments], dtype=np.intp),
        formulas=tuple(repr(kind.bytes) for kind in kinds),
        gradients=np.array([kind.term == "gradients" for kind in kinds], dtype=np.bool_),
        checkpoints=np.array([kind.what.startswith(CHECKPOINT) for kind in kinds], dtype=np.bool_),
    )


def _coefficients(kinds: tuple[StorageClass, ...], monomials: tuple[Monomial, ...]) -> NDArray[Any]:
    """[storage classes, monomials] of the sizes; Python integers where 64 bits do not hold one."""
    rows = [[dict(kind.bytes.terms).get(monomial, 0) for monomial in monomials] for kind in kinds]
    largest = max((value for row in rows for value in row), default=0)
    shape = (len(kinds), len(monomials))
    return np.array(rows, dtype=object if largest > OVERFLOW else np.int64).reshape(shape)


def _counts(instants: tuple[StepInstant, ...], kinds: int) -> NDArray[Any]:
    """[instants, storage classes]: how many of each are alive."""
    counts = np.zeros((len(instants), kinds), dtype=np.int64)
    for row, instant in enumerate(instants):
        for index, count in instant.live:
            counts[row, index] = count
    return counts


def _moment_ranges(instants: tuple[StepInstant, ...]) -> tuple[tuple[str, int, int], ...]:
    """(moment, first instant, one past the last) of instants that stand together by moment."""
    ranges: dict[str, tuple[int, int]] = {}
    for position, instant in enumerate(instants):
        first, _ = ranges.get(instant.moment, (position, position))
        ranges[instant.moment] = (first, position + 1)
    return tuple((name, first, end) for name, (first, end) in ranges.items())


def _work_sizes(item: Work) -> tuple[Size, ...]:
    return (item.flops, item.bytes, item.backward_flops, item.backward_bytes)
