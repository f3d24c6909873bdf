"""The plans of a search that may be shown: arrays until they are, so that those that are not cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.search.front import front
from planner.search.space import Category


@dataclass(frozen=True, slots=True)
class Found:
    """One plan that keeps the constraints: its category, its sizes, and what it is compared by.

    `objectives`: memory, seconds a token, dollars a token, quality and sequence length turned round; less is better.
    """

    category: Category
    sizes: Mapping[str, int]
    objectives: tuple[float, ...]
    model: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The plans of one category that no other of it beats: arrays of their sizes by path, and [plans, objectives]."""

    category: Category
    sizes: Mapping[str, NDArray[np.int64]]
    objectives: NDArray[np.float64]

    def found(self, position: int) -> Found:
        """One of them."""
        sizes = {path: int(values[position]) for path, values in self.sizes.items()}
        objectives = tuple(self.objectives[position].tolist())
        return Found(self.category, sizes, objectives, model_of(self.category))

    def at(self, positions: NDArray[np.intp]) -> Kept:
        """Some of them."""
        sizes = {path: values[positions] for path, values in self.sizes.items()}
        return Kept(self.category, sizes, self.objectives[positions])


def model_of(category: Category) -> str:
    """The model where it is free, else nothing."""
    return category.values.get("model.id", "")


def ways(fastest: list[Found]) -> list[Found]:
    """Of the fastest plan of each combination one for each way of training a model: on which machine is no way."""
    found: dict[str, Found] = {}
    for one in sorted(fastest, key=lambda one: (one.objectives[1], one.objectives[0])):
        way = {path: value for path, value in one.category.values.items() if not path.startswith("machine.")}
        found.setdefault(repr(way), one)
    return sorted(found.values(), key=best_quality_first)


def frontier(kept: list[Kept], limit: int) -> tuple[int, list[Found]]:
    """How many plans no other of their model beats, and the first of them, best quality first.

    Qualities of different models are not compared.
    """
    models: dict[str, list[Kept]] = {}
    for one in kept:
        models.setdefault(model_of(one.category), []).append(one)
    count, shown = 0, list[Found]()
    for group in models.values():
        objectives = np.concatenate([one.objectives for one in group])
        unbeaten = front(objectives) if len(group) > 1 else np.arange(len(objectives))
        count += unbeaten.size
        memory, seconds, quality = (objectives[unbeaten, column] for column in (0, 1, 3))
        first = unbeaten[np.lexsort((memory, seconds, quality))[:limit]]
        starts = np.cumsum([0, *(len(one.objectives) for one in group)])
        owners = np.searchsorted(starts, first, side="right") - 1
        places: list[list[int]] = np.column_stack((owners, first - starts[owners])).tolist()
        shown += [group[owner].found(position) for owner, position in places]
    return count, sorted(shown, key=best_quality_first)[:limit]


def best_quality_first(found: Found) -> tuple[float, ...]:
    """The order in which plans are shown: of equal quality the faster, of equally fast ones the smaller."""
    memory, seconds, _, quality, _ = found.objectives
    return quality, seconds, memory
