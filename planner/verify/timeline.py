"""The result of a trace: the curve of live bytes, and who is alive at any instant."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate

from planner.verify.settings import TraceSettings
from planner.verify.storages import Instant, StorageRecord

TERMS: tuple[str, ...] = (
    "weights",
    "adapters",
    "quantization_state",
    "gradients",
    "optimizer_states",
    "activations",
    "logits_and_loss",
    "temporaries",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One birth (`bytes` > 0) or death (`bytes` < 0)."""

    instant: int
    bytes: int
    storage: int


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """Storages alike: equal place (with the layer number as `*`), op, shape, dtype and term."""

    term: str
    module: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    bytes_each: int
    count: int
    note: str

    @property
    def bytes(self) -> int:
        """Bytes of the whole group."""
        return self.bytes_each * self.count


@dataclass(slots=True)
class Trace:
    """The second optimizer step. `live_bytes[i]` is what lives after event i; instants before `first` are step one.

    `phantom_shares` says how much of which shapes the class allocates although no checkpoint has it.
    """

    settings: TraceSettings
    layers: int
    blocks_path: str
    records: list[StorageRecord]
    instants: list[Instant]
    live_bytes: list[int]
    first: int
    last: int
    seconds: float
    phantom_shares: dict[tuple[int, ...], Fraction] = field(default_factory=dict[tuple[int, ...], Fraction])

    @property
    def peak_instant(self) -> int:
        """The instant of the highest live bytes."""
        return max(range(self.first, self.last), key=self.live_bytes.__getitem__)

    @property
    def peak_bytes(self) -> int:
        """The highest live bytes."""
        return self.live_bytes[self.peak_instant]

    @property
    def peak_moment(self) -> str:
        """forward, loss, backward or optimizer_step."""
        return self.instants[self.peak_instant].moment

    @property
    def peak_module(self) -> str:
        """Path of the module that runs at the peak."""
        return self.instants[self.peak_instant].module

    @property
    def bytes_by_term_at_peak(self) -> dict[str, int]:
        """Live bytes at the peak, by ledger term."""
        return self.bytes_by_term(self.peak_instant)

    @property
    def moments(self) -> dict[str, int]:
        """Highest live bytes of each moment."""
        return {moment: self.live_bytes[instant] for moment, instant in self.moment_peaks().items()}

    @property
    def events(self) -> list[Event]:
        """Births and deaths of the second step in order, for an allocator's replay; what lived before comes first."""
        on_device = [(number, record) for number, record in enumerate(self.records) if record.label != "host"]
        found = [Event(record.born, record.bytes, number) for number, record in on_device]
        found += [Event(record.died, -record.bytes, number) for number, record in on_device if record.died is not None]
        return sorted((event for event in found if event.instant < self.last), key=lambda event: event.instant)

    def moment_peaks(self) -> dict[str, int]:
        """The instant of each moment's highest live bytes."""
        peaks: dict[str, int] = {}
        for instant in range(self.first, self.last):
            moment = self.instants[instant].moment
            best = peaks.get(moment)
            if best is None or self.live_bytes[instant] > self.live_bytes[best]:
                peaks[moment] = instant
        return peaks

    def layer_of(self, instant: int) -> int | None:
        """The number of the transformer block that runs, None outside the blocks."""
        module = self.instants[instant].module
        if not module.startswith(self.blocks_path + "."):
            return None
        return int(module[len(self.blocks_path) + 1 :].split(".")[0])

    def alive(self, instant: int) -> list[StorageRecord]:
        """Records of what lives after the event."""
        on_device = (record for record in self.records if record.label != "host")
        return [r for r in on_device if r.born <= instant and (r.died is None or r.died > instant)]

    def bytes_by_term(self, instant: int) -> dict[str, int]:
        """Live bytes by ledger term, all terms present."""
        totals: dict[str, int] = dict.fromkeys(TERMS, 0)
        for record in self.alive(instant):
            totals[self.term_of(record)] += record.bytes
        return totals

    def phantoms_by_term(self, instant: int) -> dict[str, int]:
        """Live bytes that are for parameters that no checkpoint has: theirs, of their gradients, states and copies."""
        totals: dict[str, int] = dict.fromkeys(TERMS, 0)
        for record in self.alive(instant) if self.phantom_shares else ():
            totals[self.term_of(record)] += int(record.bytes * self.phantom_shares.get(record.shape, 0))
        return totals

    def term_of(self, record: StorageRecord) -> str:
        """The record's ledger term."""
        return record.label or "temporaries"

    def live_at(self, instant: int) -> list[LiveGroup]:
        """What is alive, equal storages of equal layers as one row with a count; largest first."""
        counts: defaultdict[tuple[str, str, str, tuple[int, ...], str, int, str], int] = defaultdict(int)
        for r in self.alive(instant):
            counts[(self.term_of(r), starred(r.module), r.op, r.shape, r.dtype, r.bytes, r.note)] += 1
        groups = [
            LiveGroup(term, module, op, shape, dtype, size, count, note)
            for (term, module, op, shape, dtype, size, note), count in counts.items()
        ]
        return sorted(groups, key=lambda group: -group.bytes)


def starred(module: str) -> str:
    """The path with every number as `*`, so that equal layers fall together."""
    return ".".join("*" if part.isdigit() else part for part in module.split("."))


def running_total(deltas: list[int]) -> list[int]:
    """Live bytes after each event."""
    return list(accumulate(deltas))
