"""The thinned timeline keeps what it promises."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from planner.verify.memory_timeline import MOST_POINTS, memory_timeline
from planner.verify.stream import Stream, StreamEvent

MOMENTS = ("forward", "loss", "backward", "forward", "loss", "backward", "optimizer_step")


def made_stream(sizes: list[int]) -> Stream:
    """Each size is born and, three later, dies; a first step of one birth stands before."""
    events = [StreamEvent(0, 1024, -1, "weights", "load", "", "load")]
    alive: list[tuple[int, int, str]] = []
    for number, size in enumerate(sizes):
        term = ("activations", "temporaries")[number % 2]
        moment = MOMENTS[number * len(MOMENTS) // len(sizes)]
        events.append(StreamEvent(len(events), size, number, term, moment, f"layers.{number}", "mm"))
        alive.append((number, size, term))
        if len(alive) > 3:
            dead, freed, of = alive.pop(0)
            events.append(StreamEvent(len(events), -freed, dead, of, moment, "", "free"))
    return Stream(2, events, 1)


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=1500))
def test_every_moments_peak_stays_exact(sizes: list[int]) -> None:
    stream = made_stream(sizes)
    found = memory_timeline(stream)
    live = list(accumulate(event.bytes for event in stream.events))[1:]
    assert found.instant_count == len(live)
    assert len(found.instants) <= MOST_POINTS
    assert found.instants == sorted(set(found.instants))
    assert found.allocated_bytes == [live[instant] for instant in found.instants]
    assert found.allocated_bytes == [sum(values) for values in zip(*found.terms.values(), strict=True)]
    assert [span.first for span in found.spans[1:]] == [span.end for span in found.spans[:-1]]
    for span, peak in zip(found.spans, found.peaks, strict=True):
        assert peak.bytes == max(live[span.first : span.end])
        assert found.allocated_bytes[found.instants.index(peak.instant)] == peak.bytes
        assert found.modules[found.instants.index(peak.instant)] == peak.module
    assert max(found.allocated_bytes) == max(live)


def test_reserved_bytes_are_those_of_the_same_events() -> None:
    stream = made_stream([512, 1024, 2048])
    held = list(range(len(stream.events)))
    assert memory_timeline(stream, held).reserved_bytes == held[1:]
    assert memory_timeline(stream).reserved_bytes == []
