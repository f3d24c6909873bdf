"""PyTorch's caching allocator for CUDA (and ROCm, which shares the code), one stream, garbage collection off.

Every rule is that of c10/cuda/CUDACachingAllocator.cpp, whose names are given in brackets. Two things can't be known
and are fixed here: the addresses that cudaMalloc returns (they grow, so that among equal free blocks the oldest
segment's is taken), and the driver's own limits.
"""

from __future__ import annotations

from typing import Protocol

from planner.verify.allocator.blocks import Block, FreeBlocks

MIB = 2**20
SMALLEST_BLOCK_BYTES = 512
"""All sizes are raised to a multiple of it (kMinBlockSize, `round_size` without roundup_power2_divisions)."""
SMALL_REQUEST_BYTES = 1 * MIB
"""The largest request that the small pool takes (kSmallSize)."""
SMALL_SEGMENT_BYTES = 2 * MIB
"""What the small pool takes from the driver at a time (kSmallBuffer); also a page of its expandable segment."""
LARGE_SEGMENT_BYTES = 20 * MIB
"""What the large pool takes for a request under 10 MiB (kLargeBuffer); also a page of its expandable segment."""
OWN_SEGMENT_BYTES = 10 * MIB
"""From this size on a request gets a segment of its own (kMinLargeAlloc) ..."""
SEGMENT_ROUNDING_BYTES = 2 * MIB
"""... raised to a multiple of this (kRoundLarge)."""
SEGMENT_SPACING = 2**50
"""Addresses of one expandable segment, far above any device's memory (the real one has 1 1/8 of it)."""


class OutOfDeviceMemory(Exception):
    """The request doesn't fit even after all cached segments were given back."""


class Pool:
    """Free blocks of one pool, and address space without memory (expandable segments only)."""

    __slots__ = ("free", "is_small", "unmapped")

    def __init__(self, *, is_small: bool) -> None:
        self.is_small = is_small
        self.free = FreeBlocks()
        self.unmapped: list[Block] = []


class Growth(Protocol):
    """How a pool gets memory from the driver and gives it back."""

    splits_finely: bool

    def choose(self, pool: Pool, size: int) -> Block | None:
        """A free block for `size` bytes, still in the pool; None when the pool must grow."""
        ...

    def grow(self, pool: Pool, size: int, room: int | None) -> tuple[Block | None, int]:
        """A new block (in no list) of at least `size` bytes and the bytes taken from the driver.

        The block is None when more than `room` bytes would be needed.
        """
        ...

    def release(self, pool: Pool) -> int:
        """Gives back what isn't in use; returns the bytes."""
        ...


class CachingAllocator:
    """`allocate` and `free` by a caller's key; `allocated` and `reserved` are bytes now."""

    def __init__(self, growth: Growth, *, rounding_bytes: int, capacity_bytes: int | None) -> None:
        self.growth = growth
        self.rounding_bytes = rounding_bytes
        self.capacity_bytes = capacity_bytes
        self.small = Pool(is_small=True)
        self.large = Pool(is_small=False)
        self.allocated = 0
        self.reserved = 0
        self.retries = 0
        self.live: dict[int, tuple[Pool, Block]] = {}

    def allocate(self, key: int, size: int) -> None:
        """Hands out a block (`malloc`): the best fit, else new memory, else new memory after giving back the cache.

        Raises:
            OutOfDeviceMemory: `capacity_bytes` doesn't hold it.
        """
        size = -(-size // self.rounding_bytes) * self.rounding_bytes
        pool = self.small if size <= SMALL_REQUEST_BYTES else self.large
        block = self.growth.choose(pool, size)
        if block is None:
            block = self._grow(pool, size)
        else:
            pool.free.remove(block)
        self._split(pool, block, size)
        block.free = False
        self.live[key] = (pool, block)
        self.allocated += block.size

    def free(self, key: int) -> None:
        """Takes a block back and joins it with free neighbours (`free_block`, `try_merge_blocks`)."""
        pool, block = self.live.pop(key)
        self.allocated -= block.size
        block.free = True
        pool.free.add(merged(pool, block))

    def release_cached(self) -> None:
        """Gives unused memory back to the driver (`release_cached_blocks`): the large pool first, then the small."""
        for pool in (self.large, self.small):
            self.reserved -= self.growth.release(pool)

    def _grow(self, pool: Pool, size: int) -> Block:
        """`alloc_block`, again after `release_cached_blocks` when the device is full."""
        for attempt in range(2):
            if attempt:
                self.retries += 1
                self.release_cached()
            block, taken = self.growth.grow(pool, size, self._room())
            self.reserved += taken
            if block is not None:
                return block
        raise OutOfDeviceMemory(f"{size} bytes beside {self.allocated} allocated")

    def _room(self) -> int | None:
        return None if self.capacity_bytes is None else self.capacity_bytes - self.reserved

    def _split(self, pool: Pool, block: Block, size: int) -> None:
        """Keeps what is left over as a free block when it is worth it (`should_split`; max_split_size is unlimited).

        In the small pool and in expandable segments 512 bytes are, in the large pool more than 1 MiB.
        """
        left_over = block.size - size
        worth_it = left_over > SMALL_REQUEST_BYTES
        if pool.is_small or self.growth.splits_finely:
            worth_it = left_over >= SMALLEST_BLOCK_BYTES
        if worth_it:
            pool.free.add(block.cut(size))


def merged(pool: Pool, block: Block) -> Block:
    """The free block joined with its free, mapped neighbours, which leave the pool; the result is in no list."""
    before, after = block.preceding, block.following
    if after is not None and after.free and after.mapped:
        pool.free.remove(after)
        block.absorb_following()
    if before is not None and before.free and before.mapped:
        pool.free.remove(before)
        before.absorb_following()
        return before
    return block
