"""A stack whose layers read per-layer inputs, made once before them, and keys and values of earlier layers.

Source: transformers models/gemma4/modeling_gemma4.py Gemma4TextModel.forward, project_per_layer_inputs; the values
live in the model's forward until its last layer has run, and in every checkpoint that may read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.architecture.spec import Attention, Layer, ModelSpec, mixers
from planner.step.checkpoints import checkpoint_parts
from planner.step.linear import linear
from planner.step.norms import norm
from planner.step.per_layer import Passed, Shares
from planner.step.player import Player
from planner.step.rules import StepRules
from planner.step.runs import Run, layer_run, roles
from planner.step.simulate import Live, grow, renamed, simulate
from planner.step.sizes import TOKENS, Size
from planner.step.tape import StorageClass, Tape
from planner.step.variants import variant_of

KeysKind = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """Equal layers in a row from `start` on; `first` names what the last readers are."""

    layer: Layer
    start: int
    count: int
    first: frozenset[Passed]


def passing_runs(spec: ModelSpec, rules: StepRules) -> Iterator[Run]:
    """The runs of the stack, behind one that makes the per-layer inputs.

    In backward that one comes last and takes what is left: the gradient of the inputs, and the keys with their graphs,
    which go with the last checkpoint that holds their table.
    """
    width, wanted = spec.embeddings[1].shape[1], _packed_wanted(spec, rules)
    runs = list(_layer_runs(spec, rules, width, wanted))
    left: Live = Counter()
    for run in runs:
        grow(left, run.left, run.count)
        grow(left, run.taken, -run.count)
    yield replace(_packed_run(spec, rules, width), taken=+left)
    yield from runs


def _layer_runs(spec: ModelSpec, rules: StepRules, packed: int, wanted: bool) -> Iterator[Run]:
    stack, variant = spec.text, variant_of(spec, rules.framework)
    first_trained = max(0, stack.layer_count - rules.trainable_layers) if rules.method == "freeze" else 0
    keys_wanted: dict[KeysKind, bool] = {}
    for part in _parts(spec):
        attention = _attention(part.layer)
        for role, count in roles(part.start, part.count, first_trained, rules):
            if attention.hands_on:
                keys_wanted[_kind(attention)] = role.trained or role.input_gradient or rules.has_adapters
            shares = _shares(attention, packed, wanted, keys_wanted.get(_kind(attention), False), part.first)
            for checkpointed, number in checkpoint_parts(part.start, count, rules):
                own = replace(role, shares=shares)
                run = layer_run(stack, part.layer, rules, own, number, variant, checkpointed=checkpointed)
                yield from _with_passed(run, attention, shares, rules)


def _attention(layer: Layer) -> Attention:
    return next(mixer for mixer in mixers(layer) if isinstance(mixer, Attention))


def _kind(attention: Attention) -> KeysKind:
    """Layers of one head width and window share keys."""
    return attention.head_dim, attention.window


def _keys_width(attention: Attention) -> int:
    return attention.key_value_heads * attention.head_dim


def _parts(spec: ModelSpec) -> Iterator[_Part]:
    """Runs, with the last reader of each kind of keys and the last layer apart."""
    layers = [run.layer for run in spec.text.runs for _ in range(run.count)]
    readers = {_kind(_attention(layer)): index for index, layer in enumerate(layers) if _attention(layer).k is None}
    apart = {*readers.values(), len(layers) - 1}
    start = 0
    for index, layer in enumerate(layers):
        ends = index in apart or index + 1 in apart or layers[index + 1] is not layer
        if ends:
            first: set[Passed] = {"keys"} if index in readers.values() else set()
            first |= {"packed"} if index + 1 == len(layers) else set()
            yield _Part(layer, start, index + 1 - start, frozenset(first))
            start = index + 1


def _shares(
    attention: Attention, packed: int, packed_wanted: bool, keys_wanted: bool, first: frozenset[Passed]
) -> Shares:
    wanted: set[Passed] = {"packed"} if packed_wanted else set()
    wanted |= {"keys"} if keys_wanted else set()
    reads = _keys_width(attention) if attention.k is None else 0
    return Shares(packed, reads, frozenset(wanted), first)


def _packed_wanted(spec: ModelSpec, rules: StepRules) -> bool:
    """Whether the per-layer inputs want a gradient: of table, projection, its adapter or the embedding's output."""
    adapted = any(rules.adapts(module) for module in spec.text.packed)
    return rules.trains_base or adapted or rules.checkpoint_every > 0


def _packed_run(spec: ModelSpec, rules: StepRules, packed: int) -> Run:
    """The table's rows and a projection of the embedding, normed for each layer, added and scaled.

    The model with towers also holds the rows and the embedding without the towers' positions until its last layer.
    """
    tape = Tape(rules.on_processor)
    player = Player(tape, rules, rules.trains_base, variant_of(spec, rules.framework))
    width, size = rules.weights_width, TOKENS * packed
    x = player.outside("embedding output", TOKENS * spec.hidden, width, needs_gradient=_embedding_wanted(rules))
    raw = tape.value("per-layer embedding", size, width, rules.trains_base)
    tape.record("per-layer embedding", raw, reads=())
    rows = tape.unary("scaled per-layer embedding", raw)
    projection, normed_by = spec.text.packed
    projected = tape.unary("scaled projection", linear(player, projection, x))
    total = tape.add("per-layer inputs", norm(player, normed_by, projected), rows)
    inputs = tape.unary("per-layer inputs", total)
    profile = simulate(tape, (), (x, inputs), accumulate=rules.frees_gradients)
    held: Live = Counter({tape.storages[inputs.storage]: 1})
    kept = rules.trains_base or rules.has_adapters or rules.checkpoint_every > 0 or rules.trainable_layers > 0
    named: Live = _held_by_towers(spec, rules, size) + (Counter() if kept else renamed(held, "temporaries"))
    return Run(
        1, profile.forward, profile.backward, profile.saved + (held if kept else Counter()), profile.gradients,
        tuple(tape.work), False, bool(profile.backward), named,
    )  # fmt: skip


def _embedding_wanted(rules: StepRules) -> bool:
    return rules.trains_base or rules.checkpoint_every > 0


def _held_by_towers(spec: ModelSpec, rules: StepRules, size: Size) -> Live:
    if not spec.encoders:
        return Counter()
    width = rules.weights_width
    return Counter(
        {
            StorageClass("per-layer embedding", size * width, "temporaries"): 1,
            StorageClass("embedding without towers", TOKENS * (spec.hidden * width), "temporaries"): 1,
        }
    )


def _gradient(size: Size, count: int = 1) -> Live:
    return Counter({StorageClass("gradient of activations", size, "temporaries"): count})


def _with_passed(run: Run, attention: Attention, shares: Shares, rules: StepRules) -> Iterator[Run]:
    """The run with the gradients that it leaves or takes and, under checkpoints, the keys that later ones hold."""
    width = rules.weights_width
    left: Live = Counter()
    if run.reached and "packed" in shares.first & shares.wanted:
        left += _gradient(TOKENS * (shares.packed * width))
    if run.reached and shares.keys and "keys" in shares.first & shares.wanted:
        left += _gradient(TOKENS * (shares.keys * width), 2)
    if not attention.hands_on:
        yield replace(run, left=run.left + left)
        return
    size = TOKENS * (_keys_width(attention) * width)
    keys: Live = Counter({StorageClass("keys and values handed on", size, "temporaries"): 2})
    taken = _gradient(size, 2) if run.reached and "keys" in shares.wanted else Counter[StorageClass]()
    if run.recomputed:
        yield replace(run, left=run.left + left + keys, taken=taken)
        empty: Live = Counter()
        yield Run(1, (), (), renamed(keys, "activations"), empty, (), False, True, empty)
    else:
        yield replace(run, left=run.left + left, taken=taken, cached=run.cached + (Counter() if run.reached else keys))
