"""Blocks of memory: what is handed out or kept for later, linked to its neighbours, and free ones in best-fit order."""

from __future__ import annotations

from bisect import bisect_left, insort


class Block:
    """A range of addresses inside one segment. `mapped` is False for address space without memory behind it."""

    __slots__ = ("address", "following", "free", "mapped", "preceding", "size")

    def __init__(self, address: int, size: int, *, mapped: bool = True) -> None:
        self.address = address
        self.size = size
        self.free = True
        self.mapped = mapped
        self.preceding: Block | None = None
        self.following: Block | None = None

    @property
    def is_whole_segment(self) -> bool:
        """Whether the block has no neighbours, so that its segment can be given back."""
        return self.preceding is None and self.following is None

    def cut(self, size: int) -> Block:
        """Shortens the block to its first `size` bytes; returns the rest as a new free block behind it."""
        rest = Block(self.address + size, self.size - size, mapped=self.mapped)
        rest.preceding, rest.following = self, self.following
        if rest.following is not None:
            rest.following.preceding = rest
        self.following, self.size = rest, size
        return rest

    def absorb_following(self) -> None:
        """Takes the block behind into this one."""
        gone = self.following
        assert gone is not None
        self.size += gone.size
        self.following = gone.following
        if self.following is not None:
            self.following.preceding = self


class FreeBlocks:
    """Free blocks in the order of (size, address), which is the order of a best-fit search."""

    __slots__ = ("_at", "_keys")

    def __init__(self) -> None:
        self._keys: list[tuple[int, int]] = []
        self._at: dict[int, Block] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def in_order(self) -> list[Block]:
        """All blocks, smallest first."""
        return [self._at[address] for _, address in self._keys]

    def add(self, block: Block) -> None:
        """Puts the block in its place."""
        insort(self._keys, (block.size, block.address))
        self._at[block.address] = block

    def remove(self, block: Block) -> None:
        """Takes the block out; its size and address must be those with which it was added."""
        del self._keys[bisect_left(self._keys, (block.size, block.address))]
        del self._at[block.address]

    def first_fit(self, size: int) -> int:
        """Position of the smallest block that holds `size` bytes, the lowest address among equals; may be the end."""
        return bisect_left(self._keys, (size, 0))

    def at(self, position: int) -> Block:
        """The block at a position of the order."""
        return self._at[self._keys[position][1]]
