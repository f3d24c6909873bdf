"""From two shallow traces to the real depth."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from planner.verify.timeline import TERMS, Trace

Place = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class MomentPeak:
    """The highest instant of one moment at the extended depth."""

    moment: str
    bytes: int
    by_term: dict[str, int]
    module: str
    phantoms: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def without_phantoms(self) -> MomentPeak:
        """The same instant of a model that has only what its checkpoint has."""
        by_term = {term: size - self.phantoms.get(term, 0) for term, size in self.by_term.items()}
        return MomentPeak(self.moment, self.bytes - sum(self.phantoms.values()), by_term, self.module)


@dataclass(frozen=True, slots=True)
class ExtendedTrace:
    """What a trace at full depth would say, moment by moment."""

    layers: int
    peaks: dict[str, MomentPeak]

    @property
    def peak(self) -> MomentPeak:
        """The highest of all moments."""
        return max(self.peaks.values(), key=lambda peak: peak.bytes)

    @property
    def moments(self) -> dict[str, int]:
        """Highest live bytes of each moment."""
        return {name: peak.bytes for name, peak in self.peaks.items()}

    @property
    def without_phantoms(self) -> ExtendedTrace:
        """The moments of a model that has only what its checkpoint has."""
        return ExtendedTrace(self.layers, {name: peak.without_phantoms for name, peak in self.peaks.items()})


def extend(shallow: Trace, deep: Trace, layers: int) -> ExtendedTrace:
    """The trace at `layers` blocks from two that differ by whole periods of the layer pattern; bytes stay exact.

    Equal blocks make every instant's live bytes affine in the depth: what is alive in block i is affine in i (saved
    activations grow, gradients shrink by a constant a block), so only blocks near an end can hold the maximum. Both
    traces are cut into places (moment and block, counted from the nearer end); where a place has as many instants in
    both, each instant is extended on its own, elsewhere (the optimizer's loop over parameters) the highest one is.
    Raises ValueError when the depths don't fit.
    """
    period = deep.layers - shallow.layers
    if period <= 0 or (layers - shallow.layers) % period:
        raise ValueError(f"{layers} layers can't be reached from {shallow.layers} in steps of {period}")
    steps = (layers - shallow.layers) // period
    peaks: dict[str, MomentPeak] = {}
    low_places, high_places = places(shallow), places(deep, edge=shallow.layers // 2)
    for place, low in low_places.items():
        peak = highest(shallow, low, deep, high_places[place], steps)
        known = peaks.get(peak.moment)
        if known is None or peak.bytes > known.bytes:
            peaks[peak.moment] = peak
    return ExtendedTrace(layers, peaks)


def places(trace: Trace, edge: int | None = None) -> dict[Place, list[int]]:
    """Instants of the second step by moment and block; blocks of the second half count down from -1.

    In the deeper trace the blocks beyond `edge` from either end are left out, but for a middle block of an odd depth.
    """
    half = trace.layers // 2 if edge is None else edge
    found: defaultdict[Place, list[int]] = defaultdict(list)
    for instant in range(trace.first, trace.last):
        layer = trace.layer_of(instant)
        if layer is not None and layer >= half:
            layer -= trace.layers
        found[(trace.instants[instant].moment, layer)].append(instant)
    return found


def highest(shallow: Trace, low: list[int], deep: Trace, high: list[int], steps: int) -> MomentPeak:
    """The place's highest instant after `steps` more periods."""
    if len(low) != len(high):
        low = [max(low, key=shallow.live_bytes.__getitem__)]
        high = [max(high, key=deep.live_bytes.__getitem__)]
    pairs = list(zip(low, high, strict=True))
    first, second = max(pairs, key=lambda pair: affine(shallow.live_bytes[pair[0]], deep.live_bytes[pair[1]], steps))
    before, after = shallow.bytes_by_term(first), deep.bytes_by_term(second)
    few, more = shallow.phantoms_by_term(first), deep.phantoms_by_term(second)
    where = shallow.instants[first]
    return MomentPeak(
        moment=where.moment,
        bytes=affine(shallow.live_bytes[first], deep.live_bytes[second], steps),
        by_term={term: affine(before[term], after[term], steps) for term in TERMS},
        module=where.module,
        phantoms={term: affine(few[term], more[term], steps) for term in TERMS},
    )


def affine(before: int, after: int, steps: int) -> int:
    """The value `steps` periods after `before`, when `after` is one period on."""
    return before + steps * (after - before)
