"""Events written by hand: `births` and `deaths` in the order of the test."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Step:
    instant: int
    bytes: int
    storage: int


def script(*moves: tuple[str, int]) -> list[Step]:
    """("a", 5) is the birth of storage a with 5 bytes, ("a", 0) its death."""
    sizes: dict[str, int] = {}
    steps: list[Step] = []
    for instant, (name, size) in enumerate(moves):
        number = int.from_bytes(name.encode(), "big")
        steps.append(Step(instant, size or -sizes[name], number))
        sizes[name] = size
    return steps
