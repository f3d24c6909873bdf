"""Fewer layers than the model has, and the way from two such depths to the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.calibration.build import NotMeasurable
from planner.calibration.measure import Taken
from planner.calibration.training import PHASES
from planner.plan import Plan
from planner.verify.depth import pattern
from planner.verify.settings import TraceSettings
from planner.verify.verification import layer_numbers

HOW = (
    "built with {shallow} and with {deep} layers; each figure is extended along the line through the two to {whole} "
    "layers, since every layer of a kind computes and keeps the same"
)


@dataclass(frozen=True, slots=True)
class BuiltDepths:
    """The depths that run; `shallow` is None where the whole model does."""

    whole: int
    deep: int
    shallow: int | None = None

    @property
    def how(self) -> str:
        """How the whole follows, in words."""
        return "" if self.shallow is None else HOW.format(shallow=self.shallow, deep=self.deep, whole=self.whole)


def chosen_depths(plan: Plan, settings: TraceSettings, asked: int | None) -> BuiltDepths:
    """The deepest build that the job asks for and one about half as deep, both a whole number of periods apart.

    Raises:
        NotMeasurable: too few layers are asked for to hold what stands at the ends and two periods between.
    """
    numbers = layer_numbers(plan.spec)
    whole = len(numbers)
    if asked is None or asked >= whole:
        return BuiltDepths(whole, whole)
    prefix, period = pattern(numbers)
    every = settings.checkpoint_every if settings.activation_checkpointing != "none" else 1
    period = math.lcm(period, every)
    trained = settings.trainable_layers if settings.method == "freeze" else 0
    deep = whole - -(-(whole - asked) // period) * period
    shallow = deep - max(1, (deep - prefix - trained) // (2 * period)) * period
    fewest = prefix + trained + 2 * period
    if shallow < max(1, prefix + trained):
        raise NotMeasurable(
            "depth", f"depth is {asked}; this model and run need at least {fewest} layers to extend from"
        )
    return BuiltDepths(whole, deep, shallow)


def extended(shallow: Taken, deep: Taken, depths: BuiltDepths) -> Taken:
    """What the whole model would have been measured with, were each layer like those that the deeper build adds.

    Terms are those at each build's own peak; the peak of both must be in one moment for a term to be extended.
    """
    assert depths.shallow is not None
    factor = (depths.whole - depths.deep) / (depths.deep - depths.shallow)
    same = shallow.peak_moment == deep.peak_moment
    return Taken(
        step_seconds=[_on(_middle(shallow.step_seconds), seconds, factor) for seconds in deep.step_seconds],
        phase_seconds=[{name: _on(shallow.phases[name], deep.phases[name], factor) for name in PHASES}],
        parameters=round(_on(shallow.parameters, deep.parameters, factor)),
        allocated_bytes=_bytes_on(shallow.allocated_bytes, deep.allocated_bytes, factor),
        reserved_bytes=_bytes_on(shallow.reserved_bytes, deep.reserved_bytes, factor),
        resident_bytes=_bytes_on(shallow.resident_bytes, deep.resident_bytes, factor),
        peak_moment=deep.peak_moment if same else "",
        terms={
            term: round(_on(shallow.terms.get(term, 0), deep.terms.get(term, 0), factor))
            for term in deep.terms.keys() | shallow.terms.keys()
        }
        if same
        else {},
    )


def _on(shallow: float, deep: float, factor: float) -> float:
    """The line through two depths, `factor` times their distance beyond the deeper; more layers never cost less."""
    return deep + factor * max(0.0, deep - shallow)


def _bytes_on(shallow: int | None, deep: int | None, factor: float) -> int | None:
    return None if shallow is None or deep is None else round(_on(shallow, deep, factor))


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
