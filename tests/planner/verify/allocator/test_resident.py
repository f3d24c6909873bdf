"""Resident memory under glibc, on cases worked by hand."""

from planner.verify.allocator import replay
from planner.verify.allocator.resident import PAGE_BYTES, ResidentMemory, chunk_bytes
from tests.planner.verify.allocator.cases import MIB, script

KIB = 2**10


def resident(*moves: tuple[str, int]) -> list[int]:
    return replay(script(*moves), kind="resident", rounding_bytes=1).reserved_bytes


def test_chunks_carry_a_header_and_are_multiples_of_16() -> None:
    assert [chunk_bytes(size) for size in (1, 24, 25, 1000)] == [32, 32, 48, 1008]


def test_a_large_tensor_is_mapped_and_goes_back_at_once() -> None:
    # 40 MiB and room for its alignment and header: one page more.
    assert resident(("a", 40 * MIB), ("a", 0)) == [40 * MIB + PAGE_BYTES, 0]


def test_the_first_death_of_a_mapped_tensor_moves_the_next_one_into_the_heap() -> None:
    after = resident(("a", MIB), ("a", 0), ("b", MIB), ("c", MIB), ("b", 0))
    assert after[1] == 0
    assert 2 * MIB < after[3] < 2 * MIB + 2 * PAGE_BYTES
    assert after[4] == after[3]


def test_the_heap_is_trimmed_only_at_its_top() -> None:
    # The first death sets the threshold of trimming to twice 16 MiB; three chunks of 15 MiB are above it.
    moves = [("a", 16 * MIB), ("a", 0), *((name, 15 * MIB) for name in "bcde")]
    at_top = resident(*moves, ("c", 0), ("d", 0), ("e", 0))
    below = resident(*moves, ("b", 0), ("c", 0), ("d", 0))
    assert at_top[-1] < 16 * MIB < 60 * MIB < at_top[-2]
    assert below[-1] == below[-4]


def test_above_32_mib_the_threshold_no_longer_moves() -> None:
    memory = ResidentMemory(rounding_bytes=1)
    memory.allocate(0, 33 * MIB)
    memory.free(0)
    assert memory.mmap_threshold == 128 * KIB


def test_a_freed_chunk_serves_a_smaller_request() -> None:
    after = resident(("a", 100 * KIB), ("b", 100 * KIB), ("a", 0), ("c", 90 * KIB))
    assert after[-1] == after[1]
