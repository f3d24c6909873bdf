"""What lives in the device through the whole run, and what the optimizer step adds: independent of batch and length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.architecture.spec import ModelSpec
from planner.memory import processor
from planner.memory.optimizer import OptimizerChoice, host_state_bytes, state_bytes, step_temporary_bytes, traffic_bytes
from planner.memory.sharding import Communication, Sharding, communication
from planner.memory.tensors import Tensors, adapters, base_modules, trained
from planner.memory.weights import adapter_bytes, base_weight_bytes, quantization_state_bytes, sum_rounded
from planner.plan import Plan
from planner.step.rules import StepRules
from planner.step.sizes import Quantity


@dataclass(frozen=True, slots=True)
class Resident:
    """What lives in the device through the whole run, and what the optimizer step adds.

    Arrays where the ranks are. `gradient_heap` and `gradient_mapped` are the gradients that outlive backward, as a
    CPU's allocator places them.
    """

    weights: Quantity
    adapters: Quantity
    quantization_state: Quantity
    optimizer_states: Quantity
    master_weights: Quantity
    gradients: Quantity
    gradient_heap: Quantity
    gradient_mapped: Quantity
    communication: Communication
    optimizer_temporaries: Quantity
    host_optimizer_states: Quantity
    load_temporaries: Quantity
    largest_weight: Quantity
    optimizer_traffic: Quantity
    trainable_parameters: Quantity

    @property
    def standing(self) -> Quantity:
        """Bytes that are there in every moment of the steady step."""
        return self.weights + self.adapters + self.quantization_state + self.optimizer_states + self.master_weights


def optimizer_choice(plan: Plan) -> OptimizerChoice:
    """The plan's optimizer with the rules that its framework adds."""
    return OptimizerChoice(
        name=plan.optimizer,
        implementation=plan.optimizer_impl,
        state_dtype=plan.optimizer_state_dtype,
        embeddings_in_32_bit=plan.rules.framework in {"transformers", "trl"},
        step_on_device=plan.optimizer_impl == "fused" and plan.optimizer in {"adamw", "muon"},
        rounding=plan.machine.device.allocation_rounding_bytes,
        one_pool=plan.machine.shared_with_host,
    )


def resident_at(plan: Plan, rank: Quantity) -> Resident:
    """`resident` of a plan at a rank, or at each of an array of ranks."""
    sharding = Sharding(plan.zero_stage, plan.data_parallel)
    rules, choice = plan.rules.standing, optimizer_choice(plan)
    if np.ndim(rank) == 0:
        return resident(plan.spec, rules, rank, choice, sharding, plan.double_quant, plan.master_weights)
    ranks, positions = np.unique(rank, return_inverse=True)
    each = [
        resident(plan.spec, rules, int(one), choice, sharding, plan.double_quant, plan.master_weights) for one in ranks
    ]
    return _taken(each, positions)


def _taken(each: list[Any], positions: NDArray[Any]) -> Any:
    """Records of equal kind as one record of arrays: element i is from `each[positions[i]]`."""
    found: dict[str, Quantity] = {}
    for field in fields(each[0]):
        values = [getattr(one, field.name) for one in each]
        if isinstance(values[0], Communication):
            found[field.name] = _taken(values, positions)
        else:
            found[field.name] = values[0] if len(set(values)) == 1 else np.array(values)[positions]
    return replace(each[0], **found)


@lru_cache(maxsize=4096)
def resident(
    spec: ModelSpec, rules: StepRules, rank: int, choice: OptimizerChoice, sharding: Sharding,
    double_quant: bool, master: bool,
) -> Resident:  # fmt: skip
    """Bytes that do not depend on batch and sequence. `rules` are the standing ones (`StepRules.standing`)."""
    tensors, rounding = trained(spec, rules, rank), choice.rounding
    width = rules.adapter_width if rules.has_adapters else rules.stored_width
    states = state_bytes(choice, tensors, sharding.optimizer_shards)
    paged = host_state_bytes(choice, tensors, sharding.optimizer_shards)
    low_rank = list(adapters(spec, rules, rank))
    return Resident(
        weights=base_weight_bytes(spec, rules, rounding, sharding.weight_shards),
        adapters=adapter_bytes(spec, rules, rank, rounding, sharding.weight_shards),
        quantization_state=quantization_state_bytes(spec, rules, double_quant, rounding),
        optimizer_states=states - paged,
        master_weights=sum_rounded(tensors, 4, rounding, sharding.optimizer_shards) if master else 0,
        gradients=_gradient_bytes(tensors, low_rank, rules, rounding, sharding),
        gradient_heap=_gradients_where(processor.in_heap, tensors, rules),
        gradient_mapped=_gradients_where(processor.mapped, tensors, rules),
        communication=communication(spec, rules, tensors, sharding),
        optimizer_temporaries=step_temporary_bytes(choice, tensors, width, sharding.optimizer_shards),
        host_optimizer_states=paged,
        load_temporaries=_largest_source(spec, rules),
        largest_weight=_largest_weight(spec, rules),
        optimizer_traffic=traffic_bytes(choice, tensors, width, sharding.optimizer_shards),
        trainable_parameters=sum(t.elements * t.count for t in tensors),
    )


def _gradient_bytes(
    tensors: list[Tensors], low_rank: list[Tensors], rules: StepRules, rounding: int, sharding: Sharding
) -> int:
    width = rules.adapter_width if low_rank else rules.gradient_width
    return sum_rounded(tensors, width, rounding, sharding.gradient_shards)


def _gradients_where(placed: Callable[[int], int], tensors: list[Tensors], rules: StepRules) -> int:
    """Bytes of the trained tensors' gradients that are placed so; none where backward's end leaves none."""
    if rules.optimizer_in_backward:
        return 0
    width = rules.adapter_width if rules.has_adapters else rules.gradient_width
    return sum(placed(tensor.elements * width) * tensor.count for tensor in tensors)


def _largest_source(spec: ModelSpec, rules: StepRules) -> int:
    """Loading quantises one weight after another on the device: the largest in 16 bit is there beside its packed form.

    Source: transformers/integrations/bitsandbytes.py (quantisation on the device, a parameter at a time).
    """
    sizes = [m.weight_elements * rules.weights_width for m, _ in base_modules(spec, rules) if rules.quantises(m)]
    return max(sizes, default=0)


def _largest_weight(spec: ModelSpec, rules: StepRules) -> int:
    """Bytes of the largest weight that is not quantised: one storage, as fused experts are."""
    sizes = [m.weight_elements * rules.weights_width for m, _ in base_modules(spec, rules) if not rules.quantises(m)]
    return max(sizes, default=0)
