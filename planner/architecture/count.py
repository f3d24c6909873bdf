"""Parameters counted from shapes: total, active, by component."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from planner.architecture.spec import Layer, ModelSpec, Module, Moe, Parallel, Stack, Sublayer, layer_modules, linear


@lru_cache(maxsize=1024)
def counted_modules(spec: ModelSpec) -> tuple[tuple[Module, int], ...]:
    """Every leaf module of the model as trained with the number of times it occurs; a tied head among them."""
    return tuple(_counted_modules(spec))


def _counted_modules(spec: ModelSpec) -> Iterator[tuple[Module, int]]:
    for module in (*spec.embeddings, *spec.head_extra, *spec.extra):
        yield module, 1
    for stack in spec.stacks:
        yield from stack_modules(stack)
    if spec.lm_head is not None:
        yield spec.lm_head, 1


def stack_modules(stack: Stack) -> Iterator[tuple[Module, int]]:
    """Every leaf module of a stack with the number of times it occurs."""
    for module in (*stack.before, *stack.packed, *stack.after):
        yield module, 1
    layers = {id(run.layer): run.layer for run in stack.runs}
    counts: Counter[int] = Counter()
    for run in stack.runs:
        counts[id(run.layer)] += run.count
    for key, layer in layers.items():
        for module in layer_modules(layer):
            yield module, counts[key]


def module_elements(spec: ModelSpec, module: Module) -> int:
    """Elements that a module adds to the model: a tied head adds its bias only."""
    return module.bias if spec.tied and module is spec.lm_head else module.elements


@lru_cache(maxsize=1024)
def by_component(spec: ModelSpec) -> Mapping[str, int]:
    """Parameters by component of the contract; tied weights once. Equal to the meta model minus its phantoms."""
    counts: Counter[str] = Counter()
    for module, times in counted_modules(spec):
        counts[module.component] += times * module_elements(spec, module)
    return MappingProxyType({name: count for name, count in counts.items() if count})


def total(spec: ModelSpec) -> int:
    """Parameters of the base model as trained."""
    return sum(by_component(spec).values())


def checkpoint_total(spec: ModelSpec) -> int:
    """Parameters of the published checkpoint: the model and its multi-token-prediction layers."""
    return total(spec) + spec.mtp_parameters + spec.checkpoint_extra


@lru_cache(maxsize=1024)
def classified(spec: ModelSpec, num_labels: int) -> ModelSpec:
    """The model that a sequence classifier's class builds: its own head [labels, hidden] instead of the token head."""
    return replace(spec, lm_head=linear("score", spec.hidden, num_labels, "lm_head"), tied=False)


@lru_cache(maxsize=1024)
def active(spec: ModelSpec) -> int:
    """Parameters that one token uses, expected under uniform routing; embedding and head included.

    total - sum over MoE layers of expert_elements x (1 - top_k / slots), where slots = experts + zero experts.
    """
    idle = sum(run.count * _idle_experts(run.layer) for stack in spec.stacks for run in stack.runs)
    return total(spec) - round(idle)


def _idle_experts(layer: Layer) -> float:
    return sum(_idle_of(sublayer) for sublayer in layer.sublayers)


def _idle_of(sublayer: Sublayer) -> float:
    mixer = sublayer.mixer
    if isinstance(mixer, Parallel):
        return sum(_idle_of(branch) for branch in mixer.branches)
    if not isinstance(mixer, Moe):
        return 0.0
    elements = sum(module.elements for module in mixer.experts)
    return elements * (1 - mixer.top_k / (mixer.expert_count + mixer.zero_experts))
