"""The steady step's live bytes over its births and deaths, thinned to what a chart and a file can carry."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from typing import Final

from planner.contract import Timeline, TimelinePeak, TimelineSpan
from planner.verify.stream import Stream, StreamEvent
from planner.verify.timeline import TERMS

MOST_POINTS: Final = 600


def memory_timeline(stream: Stream, reserved_bytes: Sequence[int] = ()) -> Timeline:
    """The timeline of the stream's second step; `reserved_bytes[i]` is what an allocator holds after event i.

    Instants count the step's births and deaths from 0. Each span keeps its beginning, its end and its highest instant;
    between them every stretch of equal length keeps its highest and its lowest.
    """
    events = stream.events[stream.second_step :]
    live = list(accumulate(event.bytes for event in stream.events))[stream.second_step :]
    spans = spans_of(events)
    peaks = [max(range(span.first, span.end), key=live.__getitem__) for span in spans]
    instants = thinned(live, spans, peaks)
    by_term = terms_at(stream, instants)
    return Timeline(
        layers=stream.layers,
        instant_count=len(events),
        spans=spans,
        peaks=[peak_of(events, live, instant) for instant in peaks],
        instants=instants,
        modules=[events[instant].module for instant in instants],
        operations=[events[instant].op for instant in instants],
        allocated_bytes=[live[instant] for instant in instants],
        reserved_bytes=[reserved_bytes[stream.second_step + instant] for instant in instants] if reserved_bytes else [],
        terms={term: values for term, values in by_term.items() if any(values)},
    )


def spans_of(events: Sequence[StreamEvent]) -> list[TimelineSpan]:
    """The moments in their order; forward, loss and backward once for each micro-batch."""
    spans: list[TimelineSpan] = []
    first = 0
    for moment, row in groupby(events, key=lambda event: event.moment):
        end = first + sum(1 for _ in row)
        spans.append(TimelineSpan(moment=moment, first=first, end=end))
        first = end
    return spans


def peak_of(events: Sequence[StreamEvent], live: Sequence[int], instant: int) -> TimelinePeak:
    """The instant in words."""
    event = events[instant]
    return TimelinePeak(
        moment=event.moment, instant=instant, bytes=live[instant], module=event.module, operation=event.op
    )


def thinned(live: Sequence[int], spans: Sequence[TimelineSpan], peaks: Sequence[int]) -> list[int]:
    """At most `MOST_POINTS` instants."""
    if len(live) <= MOST_POINTS:
        return list(range(len(live)))
    kept = {instant for span in spans for instant in (span.first, span.end - 1)} | set(peaks)
    stretches = max(1, (MOST_POINTS - len(kept)) // 2)
    borders = [len(live) * stretch // stretches for stretch in range(stretches + 1)]
    for first, end in pairwise(borders):
        kept |= {max(range(first, end), key=live.__getitem__), min(range(first, end), key=live.__getitem__)}
    return sorted(kept)


def terms_at(stream: Stream, instants: Sequence[int]) -> dict[str, list[int]]:
    """Live bytes of each term after each of the second step's instants."""
    totals = dict.fromkeys(TERMS, 0)
    found: dict[str, list[int]] = {term: [] for term in TERMS}
    wanted = iter([*(stream.second_step + instant for instant in instants), len(stream.events)])
    position = next(wanted)
    for number, event in enumerate(stream.events):
        totals[event.term] += event.bytes
        if number == position:
            for term, size in totals.items():
                found[term].append(size)
            position = next(wanted)
    return found
