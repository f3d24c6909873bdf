"""Equal layers in a row: what one of them holds at each instant, keeps and leaves, by its role in the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from planner.architecture.spec import Layer, Stack
from planner.step.blocks import layer as play_layer
from planner.step.checkpoints import (
    as_activations,
    cached_copies,
    kept_by_int8,
    kept_class,
    kept_results,
    returned_weights,
)
from planner.step.encoder_decoder import shared_by
from planner.step.per_layer import Shares
from planner.step.player import FLOAT32, Player, Shared
from planner.step.rules import StepRules
from planner.step.simulate import BlockProfile, Instant, Live, forward_only, prune, renamed, simulate, storages_kept
from planner.step.sizes import TOKENS
from planner.step.tape import Operation, StorageClass, Tape, Value, Work
from planner.step.variants import Variant


@dataclass(frozen=True, slots=True)
class Run:
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


@dataclass(frozen=True, slots=True)
class Role:
    """What is wanted of a layer.

    `encoded` says whether the encoder's result wants a gradient, and is None where the layer reads none. The last layer
    of a stack (`ends`) makes the first gradients of what its layers share; the others add to them. `shares` says what
    a layer reads of others in a stack with per-layer inputs or shared keys.
    """

    trained: bool
    input_gradient: bool
    encoded: bool | None = None
    ends: bool = True
    shares: Shares | None = None


def roles(start: int, count: int, first_trained: int, rules: StepRules) -> Iterator[tuple[Role, int]]:
    """Which layers of start .. start+count-1 are trained and whether their input wants a gradient."""
    checkpointed = rules.checkpoint_every > 0
    if rules.trains_base:
        yield Role(trained=True, input_gradient=True), count
        return
    if rules.has_adapters:
        # Without checkpointing the first layer's input wants no gradient; with it, the library makes it want one
        # (transformers modeling_utils.enable_input_require_grads, called by peft for checkpointed models).
        if start == 0 and not checkpointed:
            yield Role(trained=False, input_gradient=False), 1
            count -= 1
        if count:
            yield Role(trained=False, input_gradient=True), count
        return
    # With checkpoints the library makes every layer's input want a gradient, frozen layers' too.
    frozen = min(count, max(0, first_trained - start))
    if frozen:
        yield Role(trained=False, input_gradient=checkpointed), frozen
    trained = count - frozen
    if trained and start + frozen == first_trained and not checkpointed:
        yield Role(trained=True, input_gradient=False), 1
        trained -= 1
    if trained:
        yield Role(trained=True, input_gradient=True), trained


@lru_cache(maxsize=2048)
def _layer_profile(
    layer: Layer, hidden: int, rules: StepRules, role: Role, checkpointed: bool, variant: Variant
) -> tuple[Tape, BlockProfile, tuple[Instant, ...], Live, Shared]:
    tape = Tape(rules.on_processor)
    player = Player(tape, rules, role.trained, variant)
    player.shared = _shared(player, layer, hidden, role)
    x = tape.value("layer input", TOKENS * hidden, stream_width(rules, variant), role.input_gradient)
    y = play_layer(player, layer, x)
    kept: Live = Counter()
    operations: list[Operation] = []
    if checkpointed:
        operations = kept_results(tape, rules)
        kept = as_activations(storages_kept(tape, (x,), operations, kept_by_int8(tape)))
    inputs, outputs = () if checkpointed else (x,), (y, *player.shared.made)
    profile = simulate(
        tape, inputs, outputs, accumulate=rules.frees_gradients, stop_early=checkpointed,
        absorbed=_absorbed(role, player.shared),
        waiting=[(tape.operations.index(operation), kept_class(tape, operation)) for operation in operations],
    )  # fmt: skip
    plain = forward_only(tape, inputs, outputs, {operation.results[0].storage for operation in operations})
    if checkpointed:
        plain = tuple(Instant(i.operation, i.live + returned_weights(layer, rules, variant)) for i in plain)
    return tape, profile, plain, kept, player.shared


def _shared(player: Player, layer: Layer, hidden: int, role: Role) -> Shared:
    """What the layer reads of others."""
    return shared_by(player, layer, hidden, role.encoded) if role.shares is None else role.shares.read_by(player)


def _absorbed(role: Role, shared: Shared) -> tuple[Value, ...]:
    """What the layer reads whose gradient a later layer has begun."""
    if role.shares is not None:
        return role.shares.absorbed(shared)
    return () if role.ends else shared.read


def layer_run(
    stack: Stack, layer: Layer, rules: StepRules, role: Role, count: int, variant: Variant, *, checkpointed: bool
) -> Run:
    """`count` equal layers of a stack in one role."""
    own = rules.of_layer(checkpointed=checkpointed)
    tape, profile, plain, kept, shared = _layer_profile(layer, stack.hidden, own, role, checkpointed, variant)
    run = _played(tape, profile, plain, kept, rules, role, count, checkpointed=checkpointed)
    if run.recomputed and shared.graph:
        graph: Live = Counter(tape.storages[storage] for storage in shared.graph)
        run = replace(run, left=renamed(graph, "temporaries"))
    return _with_shared(run, shared, role) if role.encoded is not None or shared.bias is not None else run


def _with_shared(run: Run, shared: Shared, role: Role) -> Run:
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
    left = gradients_of(shared.read) if role.ends else Counter[StorageClass]()
    taken = gradients_of(tuple(value for value in shared.made if value is not shared.crossing or not zeros))
    if run.recomputed:
        return replace(run, handed=made + zeros, left=left + zeros, taken=taken)
    dropped = bias if role.ends else Counter[StorageClass]()
    return replace(run, cached=run.cached + made, dropped=dropped, handed=zeros, left=left, taken=taken)


def gradients_of(values: tuple[Value, ...]) -> Live:
    """A gradient under way of each value that wants one."""
    live: Live = Counter()
    for value in values:
        if value.needs_gradient:
            live[StorageClass("gradient of activations", value.elements * value.width, "temporaries")] += 1
    return live


def _played(
    tape: Tape, profile: BlockProfile, plain: tuple[Instant, ...], kept: Live, rules: StepRules, role: Role,
    count: int, *, checkpointed: bool,
) -> Run:  # fmt: skip
    work = tuple(tape.work)
    reached = bool(profile.backward)
    if not reached:
        return Run(count, plain, (), Counter(), Counter(), work, False, False, Counter())
    if not checkpointed:
        return Run(
            count, profile.forward, profile.backward, profile.saved, profile.gradients, work, False, True, Counter()
        )
    recomputation = tuple(Instant("recomputed " + i.operation, i.live + profile.resume) for i in profile.forward)
    backward = prune((*recomputation, *profile.backward))
    selected = {kept_class(tape, operation) for operation in kept_results(tape, rules)}
    own = Counter({kind: number for kind, number in kept.items() if kind not in selected})
    return Run(
        count,
        plain,
        backward,
        kept,
        profile.gradients,
        work,
        True,
        True,
        cached_copies(tape, trained=role.trained),
        own=own,
    )


def stream_width(rules: StepRules, variant: Variant) -> int:
    """Bytes of an element of the residual stream between layers."""
    if variant.float32_stream:
        return FLOAT32
    return rules.weights_width
