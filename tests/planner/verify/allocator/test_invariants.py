"""What must hold for any events, and how fast it must be."""

from __future__ import annotations

import random
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.verify.allocator.blocks import Block
from planner.verify.allocator.caching import CachingAllocator, OutOfDeviceMemory
from planner.verify.allocator.replay import Kind, make_allocator, replay
from planner.verify.allocator.resident import ResidentMemory
from tests.planner.verify.allocator.cases import MIB, Step

KINDS: tuple[Kind, ...] = ("native", "expandable_segments", "resident")
kinds = st.sampled_from(KINDS)
sizes = st.one_of(st.integers(1, 4096), st.integers(MIB - 600, MIB + 600), st.integers(1, 45 * MIB))
# Each draw is a birth of that size, or, where the flag says so, first the death of one that lives.
moves = st.lists(st.tuples(sizes, st.booleans(), st.integers(0, 1000)), max_size=60)


def steps_of(drawn: list[tuple[int, bool, int]]) -> list[Step]:
    live: list[tuple[int, int]] = []
    steps: list[Step] = []
    for number, (size, kills, which) in enumerate(drawn):
        if kills and live:
            storage, born = live.pop(which % len(live))
            steps.append(Step(len(steps), -born, storage))
        live.append((number, size))
        steps.append(Step(len(steps), size, number))
    return steps


def ranges(allocator: Any) -> list[tuple[int, int]]:
    """Addresses in use, pool by pool; heap chunks of the CPU model."""
    if isinstance(allocator, ResidentMemory):
        blocks = [block for _, block in allocator._chunks.values()]
        return sorted((block.address, block.address + block.size) for block in blocks)
    assert isinstance(allocator, CachingAllocator)
    spans: list[tuple[int, int]] = []
    for pool, block in allocator.live.values():
        shift = (1 << 90) if pool.is_small else 0
        spans.append((shift + block.address, shift + block.address + block.size))
    return sorted(spans)


@given(moves, kinds)
def test_nothing_overlaps_and_reserved_holds_all(drawn: list[tuple[int, bool, int]], kind: Kind) -> None:
    allocator = make_allocator(kind, 512, None)
    for step in steps_of(drawn):
        if step.bytes > 0:
            allocator.allocate(step.storage, step.bytes)
        else:
            allocator.free(step.storage)
        assert allocator.reserved >= allocator.allocated
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ranges(allocator)))


@given(moves, kinds)
def test_the_replay_is_the_same_each_time(drawn: list[tuple[int, bool, int]], kind: Kind) -> None:
    steps = steps_of(drawn)
    assert replay(steps, kind=kind) == replay(steps, kind=kind)


@given(moves, st.sampled_from(["native", "expandable_segments"]))
def test_freeing_everything_leaves_whole_segments(drawn: list[tuple[int, bool, int]], kind: Kind) -> None:
    allocator = make_allocator(kind, 512, None)
    assert isinstance(allocator, CachingAllocator)
    for step in steps_of(drawn):
        if step.bytes > 0:
            allocator.allocate(step.storage, step.bytes)
        else:
            allocator.free(step.storage)
    for key in list(allocator.live):
        allocator.free(key)
    cached = [block for pool in (allocator.small, allocator.large) for block in pool.free.in_order()]
    assert allocator.allocated == 0
    assert sum(block.size for block in cached) == allocator.reserved
    assert all(alone(block) for block in cached)
    allocator.release_cached()
    assert allocator.reserved == 0


def alone(block: Block) -> bool:
    return block.preceding is None and (block.following is None or not block.following.mapped)


@given(moves, st.sampled_from(["native", "expandable_segments"]), st.integers(1, 200))
def test_a_full_device_is_never_overdrawn(drawn: list[tuple[int, bool, int]], kind: Kind, capacity: int) -> None:
    allocator = make_allocator(kind, 512, capacity * MIB)
    for step in steps_of(drawn):
        try:
            if step.bytes > 0:
                allocator.allocate(step.storage, step.bytes)
            else:
                allocator.free(step.storage)
        except OutOfDeviceMemory:
            break
        assert allocator.allocated <= allocator.reserved <= capacity * MIB


@given(moves)
def test_expandable_segments_waste_less_than_a_page_a_pool_without_deaths(drawn: list[tuple[int, bool, int]]) -> None:
    births = [step for step in steps_of(drawn) if step.bytes > 0]
    result = replay(births, kind="expandable_segments")
    assert result.fragmentation_bytes < 22 * MIB


def many_events(count: int) -> list[Step]:
    chance = random.Random(0)
    live: list[tuple[int, int]] = []
    steps: list[Step] = []
    for number in range(count):
        if live and chance.random() < 0.5:
            storage, size = live.pop(chance.randrange(len(live)))
            steps.append(Step(number, -size, storage))
        else:
            size = int(2 ** chance.uniform(6, 27))
            live.append((number, size))
            steps.append(Step(number, size, number))
    return steps


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_events_take_under_two_seconds(kind: Kind) -> None:
    steps = many_events(100_000)
    started = time.process_time()
    replay(steps, kind=kind)
    assert time.process_time() - started < 10
