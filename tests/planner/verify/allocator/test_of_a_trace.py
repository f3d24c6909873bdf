"""A traced step through the allocator."""

from dataclasses import replace
from typing import Any

import pytest

from planner.verify.allocator import replay
from planner.verify.settings import TraceSettings
from planner.verify.timeline import Event, Trace
from planner.verify.trace import trace_step
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

SMALL = TraceSettings(sequence_length=512, micro_batch_size=8, lora_rank=4)


def with_a_third_step(trace: Trace) -> list[Event]:
    """The second step's events once more, as other storages; a step leaves nothing behind and takes nothing along."""
    second = [event for event in trace.events if event.instant >= trace.first]
    assert {e.storage for e in second if e.bytes > 0} == {e.storage for e in second if e.bytes < 0}
    later, others = trace.last - trace.first, len(trace.records)
    return trace.events + [Event(e.instant + later, e.bytes, e.storage + others) for e in second]


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, method="lora", activation_checkpointing="full")])
@pytest.mark.parametrize("kind", ["native", "expandable_segments"])
def test_two_steps_show_the_steady_state(settings: TraceSettings, kind: Any) -> None:
    trace = trace_step(tiny.LLAMA, settings)
    two, three = (
        replay(events, kind=kind, steady_from=trace.first) for events in (trace.events, with_a_third_step(trace))
    )
    assert two.peak_tensor_bytes == three.peak_tensor_bytes == trace.peak_bytes
    assert two.peak_reserved_bytes == three.peak_reserved_bytes > trace.peak_bytes
