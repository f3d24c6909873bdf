"""Play a tape forward and backward and note what is alive at every operation.

The result is in multisets of storage classes, so that it holds for every batch, sequence length and rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from planner.step.sizes import Monomial
from planner.step.tape import Operation, StorageClass, Tape, Term, Value

Live = Counter[StorageClass]


def times(live: Live, count: int) -> Live:
    """The multiset `count` times."""
    return Counter({kind: number * count for kind, number in live.items()}) if count else Counter()


def grow(live: Live, part: Live, count: int) -> None:
    """Add `count` times a part in place: thousands of runs must not copy what came before them."""
    for kind, number in part.items():
        live[kind] += number * count


def renamed(live: Live, term: Term) -> Live:
    """The same storages under another term of the ledger."""
    return Counter({StorageClass(kind.what, kind.bytes, term): count for kind, count in live.items()})


@dataclass(frozen=True, slots=True)
class Instant:
    """What is alive while one operation runs."""

    operation: str
    live: Live


@dataclass(frozen=True, slots=True)
class BlockProfile:
    """A block's share of a step.

    `forward` and `backward` are its instants without what lies outside the block; `saved` is what it leaves behind
    after its forward pass; `gradients` the parameter gradients that its backward pass leaves. `resume` is what backward
    holds when it first needs something kept: what a checkpoint's recomputation runs beside.
    """

    forward: tuple[Instant, ...]
    backward: tuple[Instant, ...]
    saved: Live
    gradients: Live
    resume: Live


def simulate(
    tape: Tape, inputs: tuple[Value, ...], outputs: tuple[Value, ...], *, accumulate: bool, stop_early: bool = False,
    absorbed: tuple[Value, ...] = (), waiting: Sequence[tuple[int, StorageClass]] = (),
) -> BlockProfile:  # fmt: skip
    """Forward with gradients recorded, then backward.

    Args:
        tape: the recorded block.
        inputs: values that come from outside; they count while the block needs them.
        outputs: values that the block hands on; they are alive when it ends but count for the next block.
        accumulate: parameter gradients of an earlier micro-batch exist, so that a new one is temporary.
        stop_early: the forward pass is a checkpoint's recomputation, which ends before the first operation after
            which nothing more is kept (torch/utils/checkpoint.py, set_checkpoint_early_stop).
        absorbed: values from outside whose gradient is added to one that later blocks have left.
        waiting: results that a checkpoint keeps, with the positions of their operations: the recomputation takes each
            out when it comes there, and from then on it lives as any other (torch/utils/checkpoint.py,
            _CachedTorchDispatchMode).
    """
    saved_by, again = _saved_counts(tape), _Again(tape)
    kept_by = again.counts(saved_by, in_backward=False)
    forward, after = _forward(tape, inputs, outputs, kept_by)
    forward = [_beside(instant, waiting, index) for index, instant in enumerate(forward)]
    if stop_early:
        keeping = [index for index, op in enumerate(tape.operations) if op.saves or op.saves_parameter]
        forward = forward[: max(keeping, default=0)]
    backward, resume = _backward(tape, outputs, after, saved_by, accumulate, stop_early, absorbed, again)
    backward = [_beside(instant, waiting, len(forward) - 1) for instant in backward]
    handed_on = {value.storage for value in outputs}
    saved = _classes(tape, {s for s in after if s not in handed_on or kept_by.get(s)}, kept_by)
    return BlockProfile(prune(forward), prune(backward), saved, _gradients_of(tape), resume)


def _beside(instant: Instant, waiting: Sequence[tuple[int, StorageClass]], reached: int) -> Instant:
    """The instant with the kept results that the recomputation, at operation `reached`, has not come to."""
    live = instant.live.copy()
    live.update(kind for position, kind in waiting if position > reached)
    return Instant(instant.operation, live)


def forward_only(
    tape: Tape, inputs: tuple[Value, ...], outputs: tuple[Value, ...], kept: Iterable[int] = ()
) -> tuple[Instant, ...]:
    """The instants of a forward pass that keeps nothing (inside a checkpoint, or without anything to train).

    `kept` are storages that a selective checkpoint holds on to.
    """
    instants, _ = _forward(tape, inputs, outputs, dict.fromkeys(kept, 1))
    return prune(instants)


def storages_kept(
    tape: Tape, inputs: tuple[Value, ...], kept_operations: Iterable[Operation], unseen: Iterable[int] = ()
) -> Live:
    """What a checkpoint keeps: the block's inputs, the results of the named operations, and storages unseen by it."""
    storages = {value.storage for value in inputs} | set(unseen)
    storages |= {operation.output.storage for operation in kept_operations if operation.output is not None}
    return _classes(tape, storages, dict.fromkeys(storages, 1))


def _saved_counts(tape: Tape) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for operation in tape.operations:
        counts.update(operation.saves)
    return dict(counts)


class _Again:
    """The stretches of a tape that a checkpoint makes again in backward, and what they need for it.

    Backward comes to their `last` operation that keeps something first: then everything up to it is made again. Their
    arguments live until the node of the first such operation has run (torch/utils/checkpoint.py).
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._stretches: dict[int, range] = {}
        self.arguments: dict[int, frozenset[int]] = {}
        for stretch in tape.again:
            keeping = [index for index in stretch if tape.operations[index].saves]
            if keeping:
                self._stretches[keeping[-1]] = range(stretch.start, keeping[-1] + 1)
                self.arguments[keeping[0]] = self._read_from_outside(stretch)

    def counts(self, saved_by: dict[int, int], *, in_backward: bool) -> dict[int, int]:
        """How many keep each storage: until backward comes to it nobody keeps what will be made again."""
        counts = Counter(saved_by)
        for arguments in self.arguments.values():
            counts.update(arguments)
        if not in_backward:
            for stretch in self._stretches.values():
                counts.subtract(s for index in stretch for s in self._tape.operations[index].saves)
        return dict(counts)

    def begins_at(self, index: int) -> bool:
        """Whether a stretch has to be made again before the node of this operation runs."""
        return index in self._stretches

    def covers(self, index: int) -> bool:
        """Whether the operation is made again."""
        return any(index in stretch for stretch in self._stretches.values())

    def made(self, index: int, saved_by: dict[int, int]) -> tuple[list[Instant], set[int]]:
        """The instants of a stretch that is made again before the node of operation `index`, and what they keep."""
        stretch, last_read = self._stretches[index], _last_reads(self._tape)
        outside = self._read_from_outside(stretch)
        alive: set[int] = set()
        instants: list[Instant] = []
        for position in stretch:
            operation = self._tape.operations[position]
            alive.update(value.storage for value in operation.results if value.storage not in outside)
            live = _classes(self._tape, alive, saved_by)
            live.update(operation.forward_temporaries)
            instants.append(Instant("recomputed " + operation.name, live))
            alive = {s for s in alive if saved_by.get(s) or last_read[s] > position}
        return instants, {storage for storage in alive if saved_by.get(storage)}

    def _read_from_outside(self, stretch: range) -> frozenset[int]:
        operations = [self._tape.operations[index] for index in stretch]
        made = {value.storage for op in operations for value in op.results if value.storage not in op.reads}
        return frozenset(storage for operation in operations for storage in operation.reads) - made


def _classes(tape: Tape, storages: Iterable[int], saved_by: dict[int, int]) -> Live:
    """Storages as classes: a result that nothing keeps for backward is a temporary."""
    live: Live = Counter()
    for storage in storages:
        kind = tape.storages[storage]
        if kind.term == "activations" and not saved_by.get(storage):
            size = kind.bytes.part(tape.piece_of[storage]) if storage in tape.piece_of else kind.bytes
            kind = StorageClass(kind.what, size, "temporaries")
        live[kind] += 1
    return live


def _last_reads(tape: Tape) -> dict[int, int]:
    return {storage: index for index, op in enumerate(tape.operations) for storage in op.reads}


def _forward(
    tape: Tape, inputs: tuple[Value, ...], outputs: tuple[Value, ...], saved_by: dict[int, int]
) -> tuple[list[Instant], set[int]]:
    last_read = _last_reads(tape)
    handed_on = {value.storage for value in outputs}
    alive = {value.storage for value in inputs}
    instants: list[Instant] = []
    for index, operation in enumerate(tape.operations):
        alive.update(value.storage for value in operation.results)
        live = _classes(tape, alive, saved_by)
        live.update(operation.forward_temporaries)
        instants.append(Instant(operation.name, live))
        alive = {s for s in alive if s in handed_on or saved_by.get(s) or last_read.get(s, -1) > index}
    return instants, alive


def _backward(
    tape: Tape, outputs: tuple[Value, ...], alive: set[int], saved_by: dict[int, int], accumulate: bool,
    recomputed: bool, absorbed: tuple[Value, ...], again: _Again,
) -> tuple[list[Instant], Live]:  # fmt: skip
    """Backward, with what it holds when it first needs something kept.

    A tensor that a checkpoint recomputed dies inside the node that uses it, before the engine casts the node's results
    to their inputs' dtypes; one that was kept dies after (torch/csrc/autograd/engine.cpp, validate_outputs).
    """
    pending = again.counts(saved_by, in_backward=True)
    flow = _GradientFlow(tape)
    for value in outputs:
        if value.needs_gradient:
            flow.arrive(value, flow.new(value))
    parameter_gradients: Live = Counter()
    instants: list[Instant] = []
    alive = {s for s in alive if pending.get(s)}
    resume: Live | None = None
    for index, operation in reversed(list(enumerate(tape.operations))):
        if again.begins_at(index):
            beside = _classes(tape, alive, saved_by) + parameter_gradients + flow.classes(extra=[])
            made, kept = again.made(index, saved_by)
            instants += [Instant(instant.operation, instant.live + beside) for instant in made]
            alive = alive | kept
        incoming = [flow.take(value) for value in operation.results if flow.has(value)]
        if not incoming:
            continue
        if resume is None and (operation.saves or operation.saves_parameter):
            resume = flow.classes(extra=incoming)
        held = alive
        alive = _release((*operation.saves, *again.arguments.get(index, ())), pending, alive)
        early = operation.casts and (recomputed or again.covers(index))
        live = _classes(tape, alive if early else held, saved_by)
        produced = [(value, flow.new(value) if fresh else incoming[0]) for value, fresh in operation.gradients]
        live.update(operation.backward_temporaries)
        live.update(_with_own_gradient(parameter_gradients, operation, accumulate))
        live.update(flow.classes(extra=[*incoming, *(gradient for _, gradient in produced)]))
        instants.append(Instant(operation.name, live))
        if early:
            before = _classes(tape, held, saved_by) + Counter(operation.backward_temporaries) + parameter_gradients
            instants.append(Instant(operation.name, before + flow.classes(extra=incoming)))
        for value, gradient in produced:
            if value not in absorbed:
                flow.arrive(value, gradient)
    return instants, Counter() if resume is None else resume


def _with_own_gradient(gradients: Live, operation: Operation, accumulate: bool) -> Live:
    """Gradients of parameters while the operation's node runs; its own one stays, or is added to an earlier one."""
    if accumulate:
        return gradients + Counter(StorageClass(g.what, g.bytes, "temporaries") for g in operation.weight_gradient)
    gradients.update(operation.weight_gradient)
    return gradients


def _gradients_of(tape: Tape) -> Live:
    gradients: Live = Counter()
    for operation in tape.operations:
        gradients.update(operation.weight_gradient)
    return gradients


def _release(storages: Iterable[int], pending: dict[int, int], alive: set[int]) -> set[int]:
    for storage in storages:
        pending[storage] -= 1
    return {s for s in alive if pending.get(s)}


class _GradientFlow:
    """Gradients under way: which value has one, and in which buffer; buffers may be shared by a sum's inputs."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._of: dict[int, int] = {}
        self._buffers: dict[int, StorageClass] = {}
        self._next = 0

    def new(self, value: Value) -> int:
        self._next += 1
        source = self._tape.storages[value.storage]
        logits = source.term == "logits_and_loss"
        self._buffers[self._next] = StorageClass(
            f"gradient of {source.what}" if logits else "gradient of activations",
            (value.elements * value.width).part(value.piece),
            "logits_and_loss" if logits else "temporaries",
        )
        return self._next

    def has(self, value: Value) -> bool:
        return id(value) in self._of

    def take(self, value: Value) -> int:
        return self._of.pop(id(value))

    def arrive(self, value: Value, buffer: int) -> None:
        """A second gradient is added in place into the first, which stays."""
        self._of.setdefault(id(value), buffer)

    def classes(self, extra: list[int]) -> Live:
        live: Live = Counter()
        for buffer in {*self._of.values(), *extra}:
            live[self._buffers[buffer]] += 1
        return live


def total_size(live: Live) -> dict[Monomial, int]:
    """The bytes of a multiset as one polynomial, without rounding."""
    total: dict[Monomial, int] = {}
    for kind, count in live.items():
        for monomial, coefficient in kind.bytes.terms:
            total[monomial] = total.get(monomial, 0) + count * coefficient
    return total


def prune(instants: Iterable[Instant]) -> tuple[Instant, ...]:
    """Without the instants that another covers for every batch, sequence and rank: all coefficients at most its."""
    all_instants = tuple(instants)
    sizes = _coefficients(all_instants)
    kept = np.arange(0)
    for start in range(0, len(all_instants), COMPARED_AT_ONCE):
        kept = np.append(kept, np.arange(start, min(start + COMPARED_AT_ONCE, len(all_instants))))
        kept = kept[_uncovered(sizes[kept])]
    return tuple(all_instants[position] for position in kept.tolist())


COMPARED_AT_ONCE: Final = 128


def _coefficients(instants: tuple[Instant, ...]) -> NDArray[Any]:
    """[instants, monomials] of what is alive, Python integers where 64 bits do not hold one."""
    sizes = [total_size(instant.live) for instant in instants]
    monomials = set[Monomial]().union(*sizes)
    return np.array([[size.get(monomial, 0) for monomial in monomials] for size in sizes])


def _uncovered(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows no other is nowhere below; of equal ones the first."""
    covers = (rows[:, None] >= rows).all(axis=2)
    earlier = np.triu(np.ones(covers.shape, dtype=np.bool_), 1)
    return cast("NDArray[np.bool_]", ~(covers & (earlier | ~covers.T)).any(axis=0))
