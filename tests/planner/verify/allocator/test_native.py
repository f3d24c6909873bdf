"""The caching allocator's rules, one by one, on cases worked by hand."""

import pytest

from planner.verify.allocator import replay
from planner.verify.allocator.segments import segment_bytes
from tests.planner.verify.allocator.cases import MIB, script


@pytest.mark.parametrize(
    ("request_bytes", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB),
        (100 * MIB + 512, 102 * MIB),
    ],
)
def test_segments_have_three_kinds_of_size(request_bytes: int, segment: int) -> None:
    assert segment_bytes(request_bytes) == segment


def test_one_byte_takes_512_of_a_small_segment() -> None:
    result = replay(script(("a", 1)))
    assert (result.allocated_bytes, result.reserved_bytes) == ([512], [2 * MIB])
    assert result.fragmentation_bytes == 2 * MIB - 512


def test_a_small_segment_is_shared() -> None:
    result = replay(script(("a", MIB), ("b", MIB - 512), ("c", 512), ("d", 512)))
    assert result.reserved_bytes == [2 * MIB, 2 * MIB, 2 * MIB, 4 * MIB]


def test_a_large_segment_is_split_and_the_two_pools_do_not_mix() -> None:
    result = replay(script(("a", 8 * MIB), ("b", 8 * MIB), ("c", MIB), ("d", 3 * MIB)))
    assert result.reserved_bytes == [20 * MIB, 20 * MIB, 22 * MIB, 22 * MIB]


def test_a_rest_of_up_to_one_mebibyte_stays_with_its_block() -> None:
    # 10 MiB + 512 gets a segment of 12 MiB, whose rest is split off; 11 MiB + 512 leaves less than 1 MiB, which isn't.
    split, whole = replay(script(("a", 10 * MIB + 512))), replay(script(("a", 11 * MIB + 512)))
    assert split.allocated_bytes == [10 * MIB + 512]
    assert whole.allocated_bytes == [12 * MIB]
    assert whole.peak_tensor_bytes == 11 * MIB + 512


def test_the_smallest_block_that_fits_is_taken() -> None:
    events = script(("a", 40 * MIB), ("b", 30 * MIB), ("c", 50 * MIB), ("a", 0), ("b", 0), ("c", 0), ("d", 35 * MIB))
    assert replay(events).reserved_bytes[-1] == 120 * MIB
    again = [*events, *script(("e", 45 * MIB), ("f", 30 * MIB))]
    assert replay(again).reserved_bytes[-1] == 120 * MIB


def test_among_equal_blocks_the_lowest_address_is_taken() -> None:
    # Three blocks in one small segment; the freed first one is used before the segment's equal rest.
    events = script(("a", MIB // 2), ("b", MIB // 2), ("c", MIB // 2), ("a", 0), ("d", MIB // 2), ("e", MIB // 2))
    assert replay(events).reserved_bytes[-1] == 2 * MIB


def test_neighbours_join_and_serve_a_larger_request() -> None:
    events = script(("a", 8 * MIB), ("b", 8 * MIB), ("a", 0), ("b", 0), ("c", 18 * MIB))
    assert replay(events).reserved_bytes[-1] == 20 * MIB


def test_a_block_in_use_keeps_its_neighbours_apart() -> None:
    events = script(("a", 6 * MIB), ("b", 2 * MIB), ("c", 6 * MIB), ("a", 0), ("c", 0), ("d", 14 * MIB))
    assert replay(events).reserved_bytes[-1] == 34 * MIB


def test_a_cached_segment_is_kept_until_the_device_is_full() -> None:
    events = script(("a", 40 * MIB), ("a", 0), ("b", 60 * MIB))
    plenty, scarce = replay(events), replay(events, capacity_bytes=80 * MIB)
    assert (plenty.reserved_bytes, plenty.retries) == ([40 * MIB, 40 * MIB, 100 * MIB], 0)
    assert (scarce.reserved_bytes, scarce.retries) == ([40 * MIB, 40 * MIB, 60 * MIB], 1)


def test_a_segment_in_partial_use_is_not_given_back() -> None:
    events = script(("a", 6 * MIB), ("b", 2 * MIB), ("a", 0), ("c", 30 * MIB))
    result = replay(events, capacity_bytes=40 * MIB)
    assert result.out_of_memory_instant == 3
    assert result.peak_reserved_bytes == 20 * MIB


def test_the_published_example_of_growing_batches_fragments() -> None:
    # Note [Expandable Segments]: N+1 needs slightly more than N left behind, so every old segment keeps a free tail.
    moves = [move for layer in range(10) for move in ((f"n{layer}", 100 * MIB), (f"n{layer}", 0))]
    grown = [(f"m{layer}", 102 * MIB) for layer in range(10)]
    held = script(*[(f"n{layer}", 100 * MIB) for layer in range(10)], *[m for m in moves if not m[1]], *grown)
    assert replay(held).peak_reserved_bytes == 2020 * MIB
    assert replay(held, kind="expandable_segments").peak_reserved_bytes == 1020 * MIB


def test_the_steady_peak_leaves_the_first_step_out() -> None:
    events = script(("a", 40 * MIB), ("a", 0), ("b", 4 * MIB))
    result = replay(events, steady_from=2)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (4 * MIB, 40 * MIB)
    assert result.peak_tensor_bytes == 4 * MIB


def test_impossible_events_are_refused() -> None:
    with pytest.raises(ValueError, match="dead before its birth"):
        replay(script(("a", 512))[::-1] + [e for e in script(("b", 512), ("b", 0)) if e.bytes < 0])
    with pytest.raises(ValueError, match="born twice"):
        replay(script(("a", 512), ("a", 512)))
