"""The space of a search: every combination of the categories, and a grid of sizes for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from planner.advice import joined, merge_patch
from planner.catalog.offers import planned_offers
from planner.contract import EstimateRequest
from planner.contract import request as allowed
from planner.hardware import all_devices
from planner.plan import FRAMEWORKS
from planner.search.contract import SearchRequest

MAXIMUM_SECONDS: Final = 5.0
SECONDS_A_COMBINATION: Final = 0.002
"""What it takes to compile a combination's step and to weigh it at one size, measured on one core
(`python -m benchmarks.search`)."""
SECONDS_A_PLAN: Final = 1e-5
"""What each size more takes, and nearly all of it where no plan beats another."""
MAXIMUM_SIZES: Final = 50_000
"""Of one combination, whose arrays then take 40 MB."""
BATCH, SEQUENCE, RANK = "run.micro_batch_size", "run.sequence_length", "run.lora.rank"
SIZES: Final = (BATCH, SEQUENCE, RANK)
"""The paths that are searched as arrays; every other path is a category."""

_EVERY: Final[Mapping[str, tuple[Any, ...]]] = {
    "run.method": get_args(allowed.Method),
    "run.optimizer": get_args(allowed.Optimizer),
    "run.optimizer_impl": get_args(allowed.OptimizerImplementation),
    "run.activation_checkpointing": ("none", "full", "selective_op", "selective_attention"),
    "run.attention": get_args(allowed.AttentionKernel),
    "run.loss": get_args(allowed.Loss),
    "run.allocator": get_args(allowed.Allocator),
    "run.quantization.scheme": ("nf4", "int8"),
    "run.parallelism.zero_stage": (0, 1, 2, 3),
    "run.framework": FRAMEWORKS,
}


class SpaceError(ValueError):
    """The space cannot be searched: `field` is at fault, `accepted` says what is."""

    def __init__(self, field: str, value: object, accepted: str, message: str) -> None:
        self.field, self.value, self.accepted = field, value, accepted
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Category:
    """One combination of the categories: the values by path, and the base with them."""

    values: Mapping[str, Any]
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Space:
    """The base as a document, the values of each free category and of each free size."""

    base: dict[str, Any]
    categories: Mapping[str, Sequence[Any]]
    sizes: Mapping[str, Sequence[int]]

    @property
    def combinations(self) -> int:
        """How many combinations of categories there are."""
        return prod(len(values) for values in self.categories.values())

    @property
    def points(self) -> int:
        """How many sizes are weighed for each, at most."""
        return prod(len(values) for values in self.sizes.values())

    def __iter__(self) -> Iterator[Category]:
        paths = list(self.categories)
        smallest = {path: min(values) for path, values in self.sizes.items()}
        for values in itertools.product(*self.categories.values()):
            chosen = dict(zip(paths, values, strict=True))
            yield Category(chosen, merge_patch(self.base, patch_of(chosen | smallest)))

    def grid(self, *, with_rank: bool) -> dict[str, NDArray[np.int64]]:
        """The sizes as flat arrays of one length, by path; the rank only where there are adapters."""
        free = {path: values for path, values in self.sizes.items() if with_rank or path != RANK}
        axes = np.meshgrid(*(np.array(values, dtype=np.int64) for values in free.values()), indexing="ij")
        return {path: axis.ravel() for path, axis in zip(free, axes, strict=True)}


def patch_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that sets paths to values; each puts aside what of the base would contradict it."""
    patch: dict[str, Any] = {}
    for path, value in values.items():
        nested: Any = value
        for name in reversed(path.split(".")):
            nested = {name: nested}
        patch = joined(joined(patch, _ASIDE.get(path, {})), nested)
    return patch


_ASIDE: Final[Mapping[str, dict[str, Any]]] = {
    "model.id": {"model": {"config": None, "revision": None}},
    "machine.offer": {"machine": {"device": None, "device_count": None, "host_memory_gib": None}},
    "machine.device": {"machine": {"offer": None}},
    "run.tokens": {"run": {"examples": None, "epochs": None}},
    "run.examples": {"run": {"tokens": None}},
}


CONTRADICTING: Final = (("run.tokens", "run.examples"), ("machine.device", "machine.offer"))
"""Paths of which a plan has one."""


def space_of(request: SearchRequest) -> Space:
    """The space that a request spans.

    Raises:
        SpaceError: a path that is none, or more plans than are searched at once.
        ValidationError: a value that its field does not take.
    """
    base = request.base.model_dump(mode="json", exclude_unset=True)
    categories: dict[str, Sequence[Any]] = {}
    sizes: dict[str, Sequence[int]] = {}
    for path, values in request.free.items():
        field = f"free.{path}"
        if path.partition(".")[0] not in ("model", "machine", "run"):
            raise SpaceError(field, path, "a path such as run.method", f"{field} is no field of a request")
        every = _every(path) if list(values) == ["*"] else list(values)
        if path in SIZES:
            _refuse_other_than_integers(field, every)
        distinct = [value for position, value in enumerate(every) if value not in every[:position]]
        for value in distinct:
            EstimateRequest.model_validate(merge_patch(base, patch_of({path: value})))
        if path in SIZES:
            sizes[path] = cast("list[int]", distinct)
        else:
            categories[path] = distinct
    for one, other in CONTRADICTING:
        if request.free.keys() >= {one, other}:
            message = f"free.{other} says what free.{one} says: free one of them"
            raise SpaceError(f"free.{other}", request.free[other], f"one of {one} and {other}", message)
    space = Space(base, categories, sizes)
    _refuse_too_many(space)
    return space


def _refuse_other_than_integers(field: str, values: Sequence[Any]) -> None:
    for value in values:
        if type(value) is not int:
            raise SpaceError(field, value, "whole numbers", f"{field} has {value!r}, which is no whole number")


def _every(path: str) -> list[Any]:
    if path == "machine.offer":
        return [offer.id for offer in planned_offers()]
    if path == "machine.device":
        return [device.id for device in all_devices()]
    if path not in _EVERY:
        listed = ", ".join([*_EVERY, "machine.device", "machine.offer"])
        raise SpaceError(f"free.{path}", "*", f"values, or * for one of {listed}", f"free.{path} has no list of values")
    return list(_EVERY[path])


def _refuse_too_many(space: Space) -> None:
    if space.points > MAXIMUM_SIZES:
        raise SpaceError(
            "free", space.points, f"at most {MAXIMUM_SIZES:,} sizes of each combination",
            f"the free sizes have {space.points:,} combinations, more than {MAXIMUM_SIZES:,}: free fewer values",
        )  # fmt: skip
    plans = space.combinations * space.points
    seconds = space.combinations * SECONDS_A_COMBINATION + plans * SECONDS_A_PLAN
    if seconds > MAXIMUM_SECONDS:
        raise SpaceError(
            "free", plans, f"what takes {MAXIMUM_SECONDS:g} seconds, at 2 ms a combination and 10 us a plan",
            f"the space holds {plans:,} plans in {space.combinations:,} combinations, up to {seconds:,.0f} seconds "
            f"of work and more than {MAXIMUM_SECONDS:g}: free fewer values",
        )  # fmt: skip
