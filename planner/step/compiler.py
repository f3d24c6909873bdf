"""One training step of a whole model as a program, compiled once for a model and its rules.

It is then evaluated for any batch, sequence length and rank.

A step is embedding, layers, head and loss, then the same backwards. Layers of a run are equal, so only its first and
last layer can hold the highest instant: what is alive at layer i is linear in i (saved activations grow by a constant
a layer, gradients shrink by a constant a layer), and a linear function is largest at an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from planner.architecture.spec import ModelSpec, reads_encoder
from planner.step.adapters import with_targets
from planner.step.checkpoints import checkpoint_parts
from planner.step.embedding import (
    before_layers,
    embedding_backward,
    embedding_gradients,
    held_embedding,
    required_embedding,
    trains_tied,
)
from planner.step.head import head_profile
from planner.step.litgpt import left_over
from planner.step.loss import CONVERTED_OUTPUT
from planner.step.passing import passing_runs
from planner.step.program import StepProgram, compiled
from planner.step.rules import StepRules
from planner.step.runs import Role, Run, layer_run, roles
from planner.step.simulate import BlockProfile, Instant, Live, grow, renamed, times
from planner.step.stacks import joined_stacks
from planner.step.standing import always_alive, mask_storages
from planner.step.tape import StorageClass, Work
from planner.step.variants import variant_of

EVALUATION = "evaluation"
MANY_RUNS = 24


@dataclass(slots=True)
class _Assembly:
    """Instants collected so far, by moment, with what outlives the blocks."""

    always: Live
    instants: list[tuple[str, Instant]] = field(default_factory=list[tuple[str, Instant]])

    def add(self, moment: str, instants: tuple[Instant, ...], *around: Live) -> None:
        base = sum(around, self.always.copy())
        self.instants += [(moment, Instant(instant.operation, base + instant.live)) for instant in instants]


@lru_cache(maxsize=512)
def compile_step(spec: ModelSpec, rules: StepRules) -> StepProgram:
    """The program of one training step in the steady state (the second optimizer step).

    Raises:
        NotModelled: a block of the model has no program.
    """
    assembly, work = _step(spec, rules)
    return compiled(assembly.instants, work)


@lru_cache(maxsize=1024)
def compile_run(spec: ModelSpec, rules: StepRules) -> StepProgram:
    """The step's program and, as one more moment at its end, evaluation: a forward pass and loss without gradients.

    Raises:
        NotModelled: a block of the model has no program.
    """
    assembly, work = _step(spec, rules)
    assembly.instants += [(EVALUATION, instant) for _, instant in _evaluation(spec, rules).instants]
    return compiled(assembly.instants, work)


def _step(spec: ModelSpec, rules: StepRules) -> tuple[_Assembly, list[tuple[Work, int, int]]]:
    rules = with_targets(rules, spec)
    runs = list(_runs(spec, rules))
    head_tape, head = head_profile(spec, rules, reached=_reaches_head(rules, spec))
    prelude = before_layers(spec, rules)
    everything = _all_gradients(spec, rules, runs, head.gradients + prelude.gradients)
    kept_gradients: Live = everything if rules.accumulate and not rules.optimizer_in_backward else Counter()
    assembly = _Assembly(always_alive(spec, rules) + kept_gradients)
    held = held_embedding(spec, rules, runs)
    masks = mask_storages(spec, rules)
    outer = prelude.saved + required_embedding(spec, rules)
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
    later = _backward_pass(assembly, runs, saved, later, keep=not rules.frees_gradients)
    assembly.add("backward", prelude.backward, later)
    assembly.add("backward", embedding_backward(spec, rules, everything), _left_over_by(runs))
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
    _, head = head_profile(spec, frozen, reached=False)
    assembly = _Assembly(always_alive(spec, frozen))
    held = held_embedding(spec, frozen, runs) + mask_storages(spec, frozen)
    _forward_pass(assembly, runs, Counter(), held)
    assembly.add("loss", head.forward)
    return assembly


def _runs(spec: ModelSpec, rules: StepRules) -> Iterator[Run]:
    """Runs of equal layers, split where the role changes: frozen and unreached, first trained one, the rest.

    A layer that reads an encoder is passed over, but counts where every n-th is checkpointed.
    """
    if spec.task in {"seq2seq_lm", "speech_seq2seq_lm"}:
        yield from joined_stacks(spec, rules)
        return
    if spec.text.packed:
        yield from passing_runs(spec, rules)
        return
    total = sum(run.count for run in spec.text.runs if not reads_encoder(run.layer))
    first_trained = max(0, total - rules.trainable_layers) if rules.method == "freeze" else 0
    position, index, variant = 0, 0, variant_of(spec, rules.framework)
    made: dict[tuple[int, Role, int, bool], Run] = {}
    for run in spec.text.runs:
        if reads_encoder(run.layer):
            index += run.count
            continue
        for role, count in roles(position, run.count, first_trained, rules):
            for checkpointed, part in checkpoint_parts(index, count, rules):
                key = (id(run.layer), role, part, checkpointed)
                if key not in made:
                    made[key] = layer_run(spec.text, run.layer, rules, role, part, variant, checkpointed=checkpointed)
                yield made[key]
            position, index = position + count, index + count


def _joined_work(runs: list[Run]) -> list[tuple[tuple[Work, ...], int, int]]:
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


def _all_gradients(spec: ModelSpec, rules: StepRules, runs: list[Run], around: Live) -> Live:
    """One gradient for each trained parameter; a tied table's counts as the head's. `around`: outside the layers."""
    own = embedding_gradients(spec.embeddings[int(trains_tied(spec, rules)) :], rules)
    return sum((times(run.gradients, run.count) for run in runs), around + own)


def _after_head(spec: ModelSpec, rules: StepRules, head: BlockProfile) -> Live:
    """Gradients that the head leaves for the rest of backward; a tied table's waits for the look-up's."""
    if not rules.frees_gradients:
        return head.gradients
    tied = spec.embeddings[: int(trains_tied(spec, rules))]
    return renamed(embedding_gradients(tied, rules), "temporaries")


def _reaches_head(rules: StepRules, spec: ModelSpec) -> bool:
    return spec.text.layer_count > 0 or rules.trains_base


def _forward_pass(assembly: _Assembly, runs: list[Run], saved: Live, held: Live) -> tuple[Live, Live]:
    """Add the forward instants; returns what is kept for backward and what is kept until the end of forward.

    `saved` is what the embedding keeps, `held` what the model's own code holds until the last layer has run.
    """
    saved, cached = saved.copy(), Counter[StorageClass]()
    decisive = _decisive(runs)
    for position, run in enumerate(runs):
        before = times(run.saved, run.count - 1) + run.own
        if position in decisive:
            assembly.add("forward", run.forward, saved, before, cached, times(run.cached, run.count - 1), held)
        grow(saved, run.saved, run.count)
        grow(cached, run.cached, run.count)
        grow(cached, run.dropped, -run.count)
    return saved, cached


def _decisive(runs: list[Run]) -> set[int]:
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


def _backward_pass(assembly: _Assembly, runs: list[Run], saved: Live, later: Live, *, keep: bool) -> Live:
    """Add the backward instants; returns `later` with the gradients that they leave."""
    decisive = _decisive(runs)
    saved, later = saved.copy(), later.copy()
    for position, run in reversed(list(enumerate(runs))):
        grow(saved, run.saved, -run.count)
        if not run.reached:
            continue
        grow(later, run.taken, -run.count)
        last, first = run.count - 1, 0
        for index in {last, first} if position in decisive else ():
            done = times(run.gradients, last - index) if keep else Counter[StorageClass]()
            done = done + times(run.left, last - index)
            assembly.add("backward", run.backward, saved, times(run.saved, index) + run.own, later, done)
        if keep:
            grow(later, run.gradients, run.count)
        grow(later, run.left, run.count)
    return later


def _left_over_by(runs: list[Run]) -> Live:
    """What backward leaves to its end besides gradients of parameters."""
    left: Live = Counter()
    for run in runs:
        grow(left, run.left, run.count)
        grow(left, run.taken, -run.count)
    return +left
