"""Every birth and death of the two steps at the real depth: what an allocator's replay and a timeline need.

Fragmentation is not affine in the depth, so the curve of `extend` is not enough: the events themselves are extended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, islice
from typing import Literal, NamedTuple

import torch

from planner.verify.allocator.replay import rounded
from planner.verify.storages import StorageRecord
from planner.verify.timeline import Trace, starred

Side = Literal["front", "middle", "back"]
Name = tuple[object, ...]
MOST_STRAY_DEATHS = 4


class NotExtendable(Exception):
    """The events follow no pattern from layer to layer that could be continued."""


class StreamEvent(NamedTuple):
    """One birth (`bytes` > 0) or death (`bytes` < 0) of a storage."""

    instant: int
    bytes: int
    storage: int
    term: str
    moment: str
    module: str
    op: str


@dataclass(frozen=True, slots=True)
class Stream:
    """The events of two steps in order; those from position `second_step` on are the steady step's."""

    layers: int
    events: list[StreamEvent]
    second_step: int

    def moment_peaks(self) -> dict[str, int]:
        """Highest live bytes of each moment of the second step."""
        peaks: dict[str, int] = {}
        live = accumulate(event.bytes for event in self.events)
        for event, size in islice(zip(self.events, live, strict=True), self.second_step, None):
            peaks[event.moment] = max(size, peaks.get(event.moment, 0))
        return peaks


class TracedEvent(NamedTuple):
    """An event of a trace: whose, which sign, at which layer it counts, and the layer that its storage names."""

    record: int
    bytes: int
    instant: int
    layer: int | None
    in_loss: bool


@dataclass(slots=True)
class Middle:
    """The layers of a trace that stand for all between its ends: `period` of them from `first` on, `copies` times."""

    first: int
    period: int
    copies: int

    @property
    def end(self) -> int:
        """The first layer behind."""
        return self.first + self.period

    @property
    def shift_behind(self) -> int:
        """By how much the numbers of the layers behind grow."""
        return (self.copies - 1) * self.period

    def side(self, layer: int) -> Side:
        """Where a layer of the trace stands."""
        return "front" if layer < self.first else "back" if layer >= self.end else "middle"


@dataclass(slots=True)
class Section:
    """Events in a row on one side of the layers' order; `rising` is read for the middle: which way its copies run."""

    side: Side
    events: list[TracedEvent] = field(default_factory=list[TracedEvent])
    rising: bool = True


def whole_stream(trace: Trace) -> Stream:
    """The stream of a trace that has the real depth."""
    return Writer(trace, Middle(trace.layers, 0, 1), {}).write([Section("front", traced_events(trace))])


def extended_stream(shallow: Trace, deep: Trace, layers: int) -> Stream:
    """The stream at `layers` blocks from two traces that differ by whole periods of the layer pattern.

    The deep trace's events are cut where the run of the layers enters its middle period and where it leaves it; what
    lies between is written once for each copy, with the storages of that copy. A storage is known by its layer, its
    module, op, shape and its number among the like of its layer, so that what one layer makes and the next one frees
    finds its partner. The shallow trace says which storages of no layer grow with the depth.

    Raises:
        NotExtendable: the layers don't follow one another in order, or a death finds no birth of its size.
    """
    period = deep.layers - shallow.layers
    middle = Middle(shallow.layers // 2, period, 1 + (layers - deep.layers) // period)
    sections = cut(placed(traced_events(deep)), middle)
    return Writer(deep, middle, grown_bytes(shallow, deep, middle.copies)).write(sections)


def traced_events(trace: Trace) -> list[TracedEvent]:
    """Births and deaths on the device, in order."""
    found: list[TracedEvent] = []
    for number, record in enumerate(trace.records):
        if record.label == "host":
            continue
        found.append(traced_event(trace, number, record.bytes, record.born))
        if record.died is not None and record.died < trace.last:
            found.append(traced_event(trace, number, -record.bytes, record.died))
    return in_layer_order(sorted(found, key=lambda event: event.instant))


def traced_event(trace: Trace, record: int, size: int, instant: int) -> TracedEvent:
    """The event at an instant."""
    in_loss = trace.instants[instant].moment == "loss"
    return TracedEvent(record, size, instant, trace.layer_of(instant), in_loss)


def in_layer_order(events: list[TracedEvent]) -> list[TracedEvent]:
    """Deaths in a row after a forward in the order of their births.

    Autocast's cache lets go of its casts in the order of a hash table of addresses, which is another each time.
    """
    found: list[TracedEvent] = []
    for after_forward, group in groupby(events, key=lambda event: event.bytes < 0 and event.in_loss):
        row = list(group)
        found += sorted(row, key=lambda event: event.record) if after_forward else row
    return found


def placed(events: Sequence[TracedEvent]) -> list[TracedEvent]:
    """Each event with the layer at which the run is: events without one, and stray deaths, take that of their row.

    Stray are a few deaths of another layer's storages in the middle of a layer's events: a variable that is bound
    anew lets go of what the layer before had put there.
    """
    runs = layer_runs(events)
    found: list[TracedEvent] = []
    here: int | None = None
    for position, run in enumerate(runs):
        layer = run[0].layer
        back = position + 1 < len(runs) and runs[position + 1][0].layer == here
        stray = (
            back and len(run) <= MOST_STRAY_DEATHS and all(event.bytes < 0 for event in run if event.layer is not None)
        )
        if not stray:
            here = layer
        found += [event._replace(layer=here) for event in run]
    return found


def layer_runs(events: Sequence[TracedEvent]) -> list[list[TracedEvent]]:
    """Events in a row of one layer; those without a layer belong to the row that they follow."""
    runs: list[list[TracedEvent]] = []
    for event in events:
        if not runs or (event.layer is not None and event.layer != runs[-1][0].layer):
            runs.append([event])
        else:
            runs[-1].append(event)
    return runs


def cut(events: Sequence[TracedEvent], middle: Middle) -> list[Section]:
    """Sections in order.

    Raises:
        NotExtendable: the run enters the middle and leaves it by the way it came.
    """
    sections = [Section("front")]
    for event in events:
        side = sections[-1].side if event.layer is None else middle.side(event.layer)
        if side != sections[-1].side:
            sections.append(Section(side))
        sections[-1].events.append(event)
    for before, section, after in zip(sections, sections[1:], [*sections[2:], Section("middle")], strict=False):
        if section.side == "middle":
            section.rising = before.side == "front"
            if {before.side, after.side} != {"front", "back"}:
                raise NotExtendable("the layers don't follow one another in order")
    return sections


class Writer:
    """Writes the sections at the real depth, with every storage under a name of its own."""

    def __init__(self, trace: Trace, middle: Middle, grown: dict[int, int]) -> None:
        self.trace = trace
        self.middle = middle
        self.grown = grown
        self.layer_of = [trace.layer_of(record.born) for record in trace.records]
        self.likeness = likenesses(trace.records, self.layer_of)
        self.side_of_birth: dict[int, Side] = {}
        self.storages: dict[Name, int] = {}
        self.alive: dict[int, int] = {}
        self.events: list[StreamEvent] = []
        self.second_step: int | None = None

    def write(self, sections: Sequence[Section]) -> Stream:
        """The whole stream."""
        for section in sections:
            self.side_of_birth |= {event.record: section.side for event in section.events if event.bytes > 0}
            for copy in self.copies_of(section):
                for event in section.events:
                    self.emit(event, section.side, copy)
        layers = self.trace.layers + self.middle.shift_behind
        return Stream(layers, self.events, len(self.events) if self.second_step is None else self.second_step)

    def copies_of(self, section: Section) -> Sequence[int]:
        """The numbers of the copies in the order in which the run meets them."""
        if section.side == "middle":
            return range(self.middle.copies) if section.rising else range(self.middle.copies - 1, -1, -1)
        return (0,) if section.side == "front" else (self.middle.copies - 1,)

    def emit(self, event: TracedEvent, side: Side, copy: int) -> None:
        """One event of one copy.

        Raises:
            NotExtendable: a storage is born twice, or dies unborn or with another size.
        """
        record = self.trace.records[event.record]
        name = self.name_of(event.record, side, copy)
        number = self.storages.setdefault(name, len(self.storages))
        size = self.grown.get(event.record, record.bytes) * (1 if event.bytes > 0 else -1)
        fits = self.alive.pop(number, 0) == -size if size < 0 else number not in self.alive
        if not fits:
            where = starred(record.module) or "no module"
            raise NotExtendable(f"a storage of {where} ({record.op}) does not repeat from layer to layer")
        if size > 0:
            self.alive[number] = size
        if self.second_step is None and event.instant >= self.trace.first:
            self.second_step = len(self.events)
        where = self.trace.instants[event.instant]
        module = self.moved(where.module, self.trace.layer_of(event.instant), side, copy)
        term = self.trace.term_of(record)
        self.events.append(StreamEvent(len(self.events), size, number, term, where.moment, module, where.op))

    def name_of(self, record: int, side: Side, copy: int) -> Name:
        """What tells the storage apart, seen from a section."""
        layer = self.layer_of[record]
        if layer is None:
            return (record, copy) if self.side_of_birth[record] == "middle" else (record,)
        return (layer + self.shift(layer, side, copy), self.likeness[record])

    def shift(self, layer: int, side: Side, copy: int) -> int:
        """How far a layer that a section names moves: in the middle with its copy, elsewhere at its own end."""
        if side != "middle" and self.middle.side(layer) == "front":
            return 0
        if side == "front" and self.middle.side(layer) == "middle":
            return 0
        return copy * self.middle.period if side == "middle" else self.middle.shift_behind

    def moved(self, module: str, layer: int | None, side: Side, copy: int) -> str:
        """The module's path with the layer's real number."""
        if layer is None:
            return module
        head = f"{self.trace.blocks_path}.{layer}"
        return f"{self.trace.blocks_path}.{layer + self.shift(layer, side, copy)}{module[len(head) :]}"


def grown_bytes(shallow: Trace, deep: Trace, copies: int) -> dict[int, int]:
    """Bytes at the real depth of the deep trace's storages that belong to no layer and whose shape grows with it.

    The clipping's stack of norms is one: a number for each gradient.
    """
    low, high = (unplaced(trace) for trace in (shallow, deep))
    grown: dict[int, int] = {}
    for alike, numbers in high.items():
        for before, after in zip(low.get(alike, []), numbers, strict=False):
            small, large = shallow.records[before].shape, deep.records[after].shape
            if small != large and len(low[alike]) == len(numbers) and len(small) == len(large):
                elements = math.prod(b + (copies - 1) * (b - a) for a, b in zip(small, large, strict=True))
                grown[after] = rounded(elements * element_bytes(deep.records[after]), deep.settings.rounding_bytes)
    return grown


def unplaced(trace: Trace) -> dict[Name, list[int]]:
    """Storages born outside the blocks, by module, op, dtype and moment."""
    found: defaultdict[Name, list[int]] = defaultdict(list)
    for number, record in enumerate(trace.records):
        if trace.layer_of(record.born) is None:
            found[record.module, record.op, record.dtype, record.moment].append(number)
    return found


def element_bytes(record: StorageRecord) -> int:
    """Bytes of one element."""
    dtype: torch.dtype = getattr(torch, record.dtype)
    return dtype.itemsize


def likenesses(records: Sequence[StorageRecord], layers: Sequence[int | None]) -> list[Name]:
    """For each storage its module, op, shape, dtype, moment and number among those of its layer that are alike."""
    counts: defaultdict[Name, int] = defaultdict(int)
    found: list[Name] = []
    for record, layer in zip(records, layers, strict=True):
        alike = (starred(record.module), record.op, record.shape, record.dtype, record.moment)
        found.append((*alike, counts[(layer, *alike)]))
        counts[(layer, *alike)] += 1
    return found
