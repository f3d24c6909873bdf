"""How unevenly a router shares the tokens out among its experts: the busiest expert's rows over the mean.

The factor is 1 + MaxVio of arXiv 2408.15664, section 4. Routing depends on data and weights, so that it is stated: 1
where nobody says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.architecture.spec import ModelSpec, Moe, mixers
from planner.contract import RunRequest
from planner.errors import PlanError
from planner.frameworks import step_of
from planner.plan.filling import Filler
from planner.step.variants import variant_of

FIELD: Final = "run.expert_imbalance"


def expert_imbalance(run: RunRequest, spec: ModelSpec, filler: Filler) -> float:
    """The factor, by default 1, which is assumed of models with routed experts; what another one changes is said.

    Raises:
        PlanError: no routing can be like that.
    """
    most = _largest(spec)
    if run.expert_imbalance is None:
        return 1.0 if most is None else filler.take("expert_imbalance", None, 1.0)
    factor = run.expert_imbalance
    _check(factor, most)
    if factor != 1.0:
        filler.warnings.append(_effect(factor, loops=variant_of(spec, step_of(run.framework)).loops_over_experts))
    return factor


def felt_imbalance(run: RunRequest, spec: ModelSpec) -> float:
    """The factor where it changes what is in flight, else 1: then plans that differ in it are one to every cache."""
    loops = variant_of(spec, step_of(run.framework)).loops_over_experts
    return run.expert_imbalance or 1.0 if loops else 1.0


def _check(factor: float, most: float | None) -> None:
    """A token reaches an expert once, so that one gets all tokens at most: slots / top_k times the mean."""
    if factor == 1.0 or (most is not None and factor <= most):
        return
    accepted, why = "1", "but this model has no routed experts"
    if most is not None:
        accepted, why = f"1 to {most:g}", f"but at {most:g} one expert gets every token already"
    raise PlanError("contradicts_model", FIELD, factor, accepted, f"{FIELD} is {factor:g}, {why}")


def _effect(factor: float, *, loops: bool) -> str:
    if loops:
        return (
            f"{FIELD}: this class runs one expert after the other, and what is in flight grows with the busiest one, "
            f"which gets {factor:g} times the mean"
        )
    return (
        f"{FIELD}: this class multiplies all experts in one grouped product. Its tensors have a row for each token and "
        "chosen expert, whichever that is, so that on one device the factor changes neither memory nor operations"
    )


def _largest(spec: ModelSpec) -> float | None:
    """The largest factor that every sparse layer allows; None without routed experts."""
    return min(((block.expert_count + block.zero_experts) / block.top_k for block in _sparse(spec)), default=None)


def _sparse(spec: ModelSpec) -> Iterator[Moe]:
    for stack in spec.stacks:
        for run in stack.runs:
            yield from (mixer for mixer in mixers(run.layer) if isinstance(mixer, Moe))
