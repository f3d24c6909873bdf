"""Which layers checkpoints wrap, and what one keeps of its layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from planner.architecture.spec import Attention, Layer, mixers
from planner.step.linear import AUTOCAST_COPY, INT8_INPUT
from planner.step.rules import StepRules
from planner.step.simulate import Live
from planner.step.sizes import Size
from planner.step.tape import Operation, StorageClass, Tape
from planner.step.variants import Variant

CHECKPOINT = "checkpoint: "
"""How the names of what checkpoints keep begin."""


def checkpoint_parts(start: int, count: int, rules: StepRules) -> Iterator[tuple[bool, int]]:
    """Layers start .. start+count-1 as (checkpointed, how many): all, none, or every n-th from layer 0."""
    every = rules.checkpoint_every if rules.checkpointing != "none" else 0
    if every <= 1:
        yield every == 1, count
        return
    for position in range(start, start + count):
        yield position % every == 0, 1


def returned_weights(layer: Layer, rules: StepRules, variant: Variant) -> Live:
    """The attention weights of the layer before, which layers that return a tuple leave in the model's loop."""
    if variant.scores not in {"alibi", "bias", "float32"}:
        return Counter()
    heads = max((mixer.query_heads for mixer in mixers(layer) if isinstance(mixer, Attention)), default=0)
    scores = Size({("b", "s", "s"): heads * rules.weights_width})
    return Counter({StorageClass("attention weights of the layer before", scores, "temporaries"): 1})


def _kept_operations(tape: Tape) -> list[Operation]:
    """What torchtitan's per-operation policy keeps: attention and every second matrix product.

    Source: torchtitan distributed/activation_checkpoint.py, _get_custom_policy.
    """
    marked = [operation for operation in tape.operations if operation.keep_recomputed]
    products = [operation for operation in marked if not operation.name.endswith("attention")]
    return [operation for operation in marked if operation.name.endswith("attention")] + products[::2]


def kept_results(tape: Tape, rules: StepRules) -> list[Operation]:
    """The operations whose results a checkpoint of this kind keeps."""
    return _kept_operations(tape) if rules.checkpointing != "full" else []


def kept_class(tape: Tape, operation: Operation) -> StorageClass:
    """The operation's result as a checkpoint keeps it."""
    kind = tape.storages[operation.results[0].storage]
    return StorageClass(CHECKPOINT + kind.what, kind.bytes, "activations")


def kept_by_int8(tape: Tape) -> set[int]:
    """Inputs that MatMul8bitLt keeps as attributes of its nodes, where a checkpoint doesn't see them.

    Source: bitsandbytes autograd/_functions.py. They even outlive their block's backward, until the loss goes; what a
    block recomputes is smaller than what the later ones have kept, so that the peak is at backward's begin.
    """
    return {
        operation.reads[0]
        for operation in tape.operations
        if any(kind.what == INT8_INPUT for kind in operation.forward_temporaries)
    }


def cached_copies(tape: Tape, *, trained: bool) -> Live:
    """Autocast's copies of trained weights outlive a checkpointed forward pass: the cache keeps them until its end."""
    if not trained:
        return Counter()
    return Counter(kind for kind in tape.storages if kind.what == AUTOCAST_COPY)


def as_activations(live: Live) -> Live:
    """Storages as a checkpoint keeps them."""
    return Counter({StorageClass(CHECKPOINT + kind.what, kind.bytes, "activations"): n for kind, n in live.items()})
