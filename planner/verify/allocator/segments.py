"""How the caching allocator's pools grow: one cudaMalloc a segment, or one segment a pool that is mapped page by page.

Source: c10/cuda/CUDACachingAllocator.cpp, names in brackets.
"""

from __future__ import annotations

from planner.verify.allocator.blocks import Block
from planner.verify.allocator.caching import (
    LARGE_SEGMENT_BYTES,
    OWN_SEGMENT_BYTES,
    SEGMENT_ROUNDING_BYTES,
    SEGMENT_SPACING,
    SMALL_REQUEST_BYTES,
    SMALL_SEGMENT_BYTES,
    Pool,
    merged,
)


def segment_bytes(size: int) -> int:
    """What is asked of the driver for a request of `size` bytes (`get_allocation_size`)."""
    if size <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // SEGMENT_ROUNDING_BYTES) * SEGMENT_ROUNDING_BYTES


class NativeSegments:
    """`backend:native`, the default: each growth is a segment of its own, given back only as a whole."""

    splits_finely = False

    def __init__(self) -> None:
        self._next_address = 0

    def choose(self, pool: Pool, size: int) -> Block | None:
        """The smallest free block that is large enough (`get_free_block`)."""
        position = pool.free.first_fit(size)
        return pool.free.at(position) if position < len(pool.free) else None

    def grow(self, pool: Pool, size: int, room: int | None) -> tuple[Block | None, int]:  # noqa: ARG002
        """A new segment as one block; the request's size alone says how large."""
        taken = segment_bytes(size)
        if room is not None and taken > room:
            return None, 0
        block = Block(self._next_address, taken)
        self._next_address += taken
        return block, taken

    def release(self, pool: Pool) -> int:
        """Frees the segments that are one free block (`release_blocks`)."""
        unused = [block for block in pool.free.in_order() if block.is_whole_segment]
        for block in unused:
            pool.free.remove(block)
        return sum(block.size for block in unused)


class ExpandableSegments:
    """`expandable_segments:True`: one range of addresses a pool; memory is mapped behind it in pages.

    Pages have 2 MiB in the small pool and 20 MiB in the large one (Note [Expandable Segments]).
    """

    splits_finely = True

    def choose(self, pool: Pool, size: int) -> Block | None:
        """Best fit, where the block before unmapped space counts as large as it could grow (`get_free_block`)."""
        position = pool.free.first_fit(size)
        if position == len(pool.free):
            return None
        chosen = pool.free.at(position)
        for later in range(position + 1, len(pool.free)):
            block = pool.free.at(later)
            if expandable_bytes(block) >= expandable_bytes(chosen):
                break
            chosen = block
        return chosen

    def grow(self, pool: Pool, size: int, room: int | None) -> tuple[Block | None, int]:
        """Maps pages at the lowest address with enough space (`try_allocate_expandable_block`).

        A free block just before the unmapped space becomes the beginning of the new one.
        """
        block, taken = self._lowest_space(pool, size), 0
        while not block.mapped or block.size < size:
            unmapped = block if not block.mapped else block.following
            assert unmapped is not None
            missing = size - (block.size if block.mapped else 0)
            needed = pages(pool, min(missing, unmapped.size))
            if room is not None and taken + needed > room:
                return None, taken
            block = self._map(pool, unmapped, needed)
            taken += needed
        pool.free.remove(block)
        return block, taken

    def release(self, pool: Pool) -> int:
        """Unmaps the pages that lie wholly inside free blocks (`unmap_block`)."""
        return sum(self._unmap(pool, block) for block in pool.free.in_order())

    def _lowest_space(self, pool: Pool, size: int) -> Block:
        """`find_expandable_block`: free and unmapped blocks in a row that together hold `size` bytes."""
        if not pool.unmapped:
            pool.unmapped.append(Block(0, SEGMENT_SPACING * page_bytes(pool), mapped=False))
        for unmapped in sorted(pool.unmapped, key=lambda block: block.address):
            before = unmapped.preceding
            start = before if before is not None and before.free else unmapped
            if free_run_bytes(start, size) >= size:
                return start
        raise AssertionError("the last unmapped block has room for everything")

    def _map(self, pool: Pool, block: Block, size: int) -> Block:
        """`map_block`: the first `size` bytes get memory and join free neighbours; the result is in the free list."""
        pool.unmapped.remove(block)
        if size < block.size:
            pool.unmapped.append(block.cut(size))
        block.mapped = True
        whole = merged(pool, block)
        pool.free.add(whole)
        return whole

    def _unmap(self, pool: Pool, block: Block) -> int:
        page = page_bytes(pool)
        begin = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if begin >= end:
            return 0
        pool.free.remove(block)
        if begin > block.address:
            inner = block.cut(begin - block.address)
            pool.free.add(block)
            block = inner
        if end < block.address + block.size:
            pool.free.add(block.cut(end - block.address))
        block.mapped = False
        pool.unmapped.append(self._joined(pool, block))
        return end - begin

    def _joined(self, pool: Pool, block: Block) -> Block:
        """The unmapped block with its unmapped neighbours, which leave the list."""
        before, after = block.preceding, block.following
        if after is not None and not after.mapped:
            pool.unmapped.remove(after)
            block.absorb_following()
        if before is not None and not before.mapped:
            pool.unmapped.remove(before)
            before.absorb_following()
            return before
        return block


def page_bytes(pool: Pool) -> int:
    """A page of the pool's expandable segment."""
    return SMALL_SEGMENT_BYTES if pool.is_small else LARGE_SEGMENT_BYTES


def pages(pool: Pool, size: int) -> int:
    """`size` raised to whole pages; unmapped space always begins at a page."""
    page = page_bytes(pool)
    return -(-size // page) * page


def expandable_bytes(block: Block) -> int:
    """Bytes of a free block with the unmapped space behind it."""
    after = block.following
    return block.size + (after.size if after is not None and not after.mapped else 0)


def free_run_bytes(block: Block | None, wanted: int) -> int:
    """Bytes of the free and unmapped blocks from `block` on, counted until `wanted` is reached."""
    total = 0
    while block is not None and block.free and total < wanted:
        total += block.size
        block = block.following
    return total
