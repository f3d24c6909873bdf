"""expandable_segments:True: one range of addresses a pool, mapped page by page."""

from planner.verify.allocator import replay
from tests.planner.verify.allocator.cases import MIB, script

KIND = "expandable_segments"


def test_pages_are_2_mib_in_the_small_pool_and_20_mib_in_the_large() -> None:
    result = replay(script(("a", 512), ("b", 30 * MIB)), kind=KIND)
    assert result.reserved_bytes == [2 * MIB, 42 * MIB]


def test_the_next_request_continues_in_the_same_segment() -> None:
    result = replay(script(("a", 30 * MIB), ("b", 30 * MIB), ("c", 100 * MIB)), kind=KIND)
    assert result.reserved_bytes == [40 * MIB, 60 * MIB, 160 * MIB]


def test_a_free_end_grows_into_a_larger_request() -> None:
    result = replay(script(("a", 20 * MIB), ("b", 20 * MIB), ("b", 0), ("c", 30 * MIB)), kind=KIND)
    assert result.reserved_bytes[-1] == 60 * MIB


def test_a_hole_is_taken_before_the_growing_end() -> None:
    # The end (10 MiB mapped, more to map) is the smaller block, but it counts as large as it could grow.
    events = script(("a", 20 * MIB), ("b", 30 * MIB), ("a", 0), ("c", 8 * MIB), ("d", 12 * MIB))
    assert replay(events, kind=KIND).reserved_bytes[-1] == 60 * MIB
    assert replay([*events, *script(("e", 10 * MIB))], kind=KIND).reserved_bytes[-1] == 60 * MIB


def test_any_rest_of_512_bytes_is_split_off() -> None:
    result = replay(script(("a", 20 * MIB - 512), ("b", MIB + 512)), kind=KIND)
    assert result.allocated_bytes[0] == 20 * MIB - 512
    assert result.reserved_bytes == [20 * MIB, 40 * MIB]


def test_whole_free_pages_are_unmapped_when_the_device_is_full() -> None:
    # a leaves pages 0 and 1 and half of 2; the other half is b's, so that two pages can go.
    events = script(("a", 50 * MIB), ("b", 10 * MIB), ("a", 0), ("s", 512), ("c", 60 * MIB))
    result = replay(events, kind=KIND, capacity_bytes=90 * MIB)
    assert result.retries == 1
    assert result.reserved_bytes == [60 * MIB, 60 * MIB, 60 * MIB, 62 * MIB, 82 * MIB]


def test_unmapped_space_in_front_is_mapped_again() -> None:
    events = script(
        ("a", 60 * MIB), ("b", 20 * MIB), ("a", 0), ("c", 80 * MIB), ("c", 0), ("d", 40 * MIB), ("e", 20 * MIB)
    )
    result = replay(events, kind=KIND, capacity_bytes=110 * MIB)
    assert result.reserved_bytes == [60 * MIB, 80 * MIB, 80 * MIB, 100 * MIB, 100 * MIB, 100 * MIB, 100 * MIB]
    assert result.retries == 1


def test_a_request_above_the_device_ends_the_replay() -> None:
    result = replay(script(("a", 30 * MIB), ("b", 60 * MIB)), kind=KIND, capacity_bytes=80 * MIB)
    assert result.out_of_memory_instant == 1
