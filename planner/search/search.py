"""The search: a loop over categories, arrays of sizes in each; what is shown is then estimated one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from planner.advice import merge_patch
from planner.architecture.config import ConfigError, UnknownModelType
from planner.architecture.spec import ModelSpec
from planner.catalog.offers import price_dates
from planner.contract import EstimateRequest, MachineRequest, ModelReference
from planner.errors import NotModelledError, PlanError
from planner.evaluation import VERDICTS, Evaluation, countable, evaluate, prepare, survey
from planner.hardware import Machine, MachineError
from planner.plan import Plan, Points, longest_sequence
from planner.search.contract import Constraints, Refused, SearchAnswer, SearchPlan, SearchRequest
from planner.search.front import first_of, front
from planner.search.frontier import Found, Kept, frontier, ways
from planner.search.measured import HOUR, WORST_TAKEN, Measured, keeping
from planner.search.quality import quality_of
from planner.search.space import BATCH, RANK, SEQUENCE, SIZES, Category, Space, SpaceError, patch_of, space_of
from planner.step.sizes import Quantity
from planner.summary import machine_name
from planner.throughput import StepTime, seconds_to_finish
from planner.version import CATALOG_VERSION, ESTIMATOR_VERSION

MILLION: Final = 1e6
_NOTHING: Final = object()
TOO_LARGE: Final = "sizes_too_large"
MAXIMUM_REASONS: Final = 40
_REFUSED_BY: Final = (PlanError, NotModelledError, MachineError, ConfigError)


class Frame(Protocol):
    """What the caller finds for the engine: models by reference, machines by request."""

    def spec(self, reference: ModelReference) -> ModelSpec:
        """The model as shapes."""
        ...

    def machine(self, request: MachineRequest) -> Machine:
        """The machine."""
        ...


@dataclass(slots=True)
class _Best:
    """The winner of one question so far."""

    key: tuple[float, ...] | None = None
    found: Found | None = None

    def offer(self, key: tuple[float, ...], found: Found) -> None:
        if self.key is None or key < self.key:
            self.key, self.found = key, found


@dataclass(slots=True)
class _State:
    """What the loop has gathered."""

    request: SearchRequest
    space: Space
    base: dict[str, Any]
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    seen: set[Any] = field(default_factory=set[Any])
    evaluated: int = 0
    repeated: int = 0
    feasible: int = 0
    kept: list[Kept] = field(default_factory=list[Kept])
    fastest: list[Found] = field(default_factory=list[Found])
    best: dict[str, _Best] = field(default_factory=dict[str, _Best])

    def refuse(self, code: str, where: str, message: str, count: int) -> None:
        if count:
            self.refused[(code, where, message)] += count


def search(request: SearchRequest, frame: Frame) -> SearchAnswer:
    """Weigh every plan of the space and answer what is best.

    Raises:
        SpaceError: the space is no space, is too large, or a constraint lacks what it needs.
        ValidationError: a free value that its field does not take.
    """
    space = space_of(request)
    base = _evaluated(request.base, frame)
    state = _State(request, space, _base_values(space, base))
    _refuse_without_tokens(request)
    for category in space:
        _weigh_category(state, category, frame)
    return _answer(state, base, frame)


def _evaluated(request: EstimateRequest, frame: Frame) -> Evaluation | None:
    try:
        return evaluate(request, frame.spec(request.model), frame.machine(request.machine))
    except (*_REFUSED_BY, UnknownModelType):
        return None


def _base_values(space: Space, base: Evaluation | None) -> dict[str, Any]:
    """The base's value of each free path, what it left open as it was filled in."""
    assumed = {} if base is None else base.plan.assumed
    return {path: _look_up(space.base, path, assumed.get(path)) for path in (*space.categories, *space.sizes)}


def _look_up(document: Any, path: str, otherwise: Any) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return otherwise
        document = document[name]  # pyright: ignore[reportUnknownVariableType]
    return document  # pyright: ignore[reportUnknownVariableType]


def _refuse_without_tokens(request: SearchRequest) -> None:
    run, limits = request.base.run, request.constraints
    if run.tokens is not None or run.examples is not None or request.free.keys() & {"run.tokens", "run.examples"}:
        return
    for name in ("hours", "budget_usd"):
        if getattr(limits, name) is not None:
            raise SpaceError(
                f"constraints.{name}", getattr(limits, name), "run.tokens, or run.examples, in the base or free",
                f"constraints.{name} needs to know how much is trained: give base.run.tokens",
            )  # fmt: skip


# -- one category ---------------------------------------------------------------------------------------------------


def _weigh_category(state: _State, category: Category, frame: Frame) -> None:
    count = state.space.points
    try:
        asked = EstimateRequest.model_validate(category.document)
        machine = frame.machine(asked.machine)
        if not _sold_by(machine, state.request.constraints):
            state.refuse("vendor", "constraints.vendor", "the device is of another vendor", count)
            return
        plan = prepare(asked, frame.spec(asked.model), machine)
        key = _identity(plan)
        if key in state.seen:
            state.repeated += count
            return
        state.seen.add(key)
        _weigh_plan(state, category, plan)
    except _REFUSED_BY as error:
        code = getattr(error, "code", "machine" if isinstance(error, MachineError) else "model")
        state.refuse(code, str(getattr(error, "field", "")), str(error), count)
    except OverflowError:
        state.refuse(TOO_LARGE, "model", "the model is beyond what 64-bit integers hold", count)
    except UnknownModelType as error:
        state.refuse("unknown_model_type", "model", str(error), count)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "base"
        state.refuse("invalid_request", where, first["msg"].removeprefix("Value error, "), count)


def _sold_by(machine: Machine, constraints: Constraints) -> bool:
    wanted = constraints.vendor
    if wanted is None:
        return True
    return machine.device.vendor in ({wanted} if isinstance(wanted, str) else set(wanted))


def _identity(plan: Plan) -> tuple[Any, ...]:
    """What of a plan its numbers depend on, besides its sizes: combinations that say the same are weighed once."""
    machine = sha256(repr(replace(plan.machine, assumed={})).encode()).digest()
    return (
        id(plan.spec), machine, plan.rules, plan.optimizer, plan.optimizer_impl, plan.optimizer_state_dtype,
        plan.master_weights, plan.optimizer_in_backward,
        plan.double_quant and plan.rules.scheme, plan.gradient_accumulation_steps, plan.data_parallel,
        plan.zero_stage, plan.allocator, plan.attention, plan.given_tokens, plan.examples,
    )  # fmt: skip


def _weigh_plan(state: _State, category: Category, plan: Plan) -> None:
    grid = _grid(state, plan)
    if not grid.batch.size:
        return
    try:
        weighed = survey(plan, grid)
    except OverflowError:
        grid = _countable(state, plan, grid)
        if not grid.batch.size:
            return
        weighed = survey(plan, grid)
    state.evaluated += grid.batch.size
    measured = Measured.of(plan, grid, weighed)
    keeps = keeping(state.request.constraints, plan, grid, weighed, measured, state.refuse)
    positions = np.flatnonzero(keeps)
    state.feasible += positions.size
    if positions.size:
        _gather(state, category, plan, grid, measured, positions)


def _grid(state: _State, plan: Plan) -> Points:
    """The sizes of a category, those beyond the model's position table refused."""
    free = state.space.grid(with_rank=plan.rules.has_adapters)
    count = next(iter(free.values())).size if free else 1
    own = {BATCH: plan.micro_batch_size, SEQUENCE: plan.sequence_length, RANK: plan.rank}
    axes = {path: free.get(path, np.full(count, own[path], dtype=np.int64)) for path in SIZES}
    limit = longest_sequence(plan.spec)
    if limit is not None and SEQUENCE in free:
        inside = axes[SEQUENCE] <= limit
        message = f"the model's position table ends at {limit}"
        state.refuse("sequence_too_long", SEQUENCE, message, int(count - inside.sum()))
        axes = {path: axis[inside] for path, axis in axes.items()}
    return Points(axes[BATCH], axes[SEQUENCE], axes[RANK])


def _countable(state: _State, plan: Plan, grid: Points) -> Points:
    """The sizes that can be counted; each of the others is refused for what is the furthest above its smallest."""
    counted = countable(plan, grid)
    axes = {SEQUENCE: grid.sequence, BATCH: grid.batch, RANK: grid.rank}
    furthest = np.argmax([axis[~counted] / axis.min() for axis in axes.values()], axis=0)
    for position, path in enumerate(axes):
        state.refuse(TOO_LARGE, path, "the plan needs more than 4 PiB", int(np.count_nonzero(furthest == position)))
    return Points(grid.batch[counted], grid.sequence[counted], grid.rank[counted])


def _gather(
    state: _State, category: Category, plan: Plan, points: Points, measured: Measured, positions: NDArray[np.intp]
) -> None:
    """Keep of a category what may be shown: its front, its fastest plan, its winners."""
    batch, sequence, rank = (axis[positions] for axis in (points.batch, points.sequence, points.rank))
    memory, seconds, dollars, quality = (
        values[positions] for values in (measured.memory, measured.seconds, measured.dollars, measured.quality)
    )
    lengths = -sequence.astype(np.float64) if SEQUENCE in state.space.sizes else np.zeros(positions.size)
    priced = np.where(np.isinf(dollars), 0.0, dollars)
    objectives = np.column_stack((memory, seconds, priced, -quality, lengths))

    sizes = {BATCH: batch, SEQUENCE: sequence, RANK: rank}
    free = state.space.sizes.keys() - (set() if plan.rules.has_adapters else {RANK})
    feasible = Kept(category, {path: axis for path, axis in sizes.items() if path in free}, objectives)
    state.kept.append(feasible.at(front(objectives)))
    state.fastest.append(feasible.found(first_of(seconds, memory)))
    machine = float(plan.machine.memory_total_bytes) * plan.machine.logical_devices
    changes = _changes(state, category, batch, sequence, rank if plan.rules.has_adapters else None)
    questions: dict[str, tuple[NDArray[Any], ...]] = {
        "fastest": (seconds, dollars, memory),
        "least_memory": (memory, seconds, dollars),
        "smallest_change": (changes, sequence < (state.base.get(SEQUENCE) or 0), -quality, dollars, seconds),
    }
    if BATCH in state.space.sizes:
        questions["largest_batch"] = (-batch, -sequence, -quality, seconds)
    if SEQUENCE in state.space.sizes:
        questions["largest_sequence"] = (-sequence, -batch, -quality, seconds)
    if not state.space.categories.keys().isdisjoint(("machine.device", "machine.offer", "machine.device_count")):
        questions["smallest_machine"] = (np.full(positions.size, machine), -quality, seconds)
    if np.isfinite(dollars).all():
        questions["cheapest"] = (dollars, -quality, seconds)
    for name, keys in questions.items():
        winner = first_of(*keys)
        key = tuple(float(values[winner]) for values in keys)
        state.best.setdefault(name, _Best()).offer(key, feasible.found(winner))


def _changes(
    state: _State, category: Category, batch: Quantity, sequence: Quantity, rank: Quantity | None
) -> NDArray[np.int64]:
    """How many of the free fields have another value than in the base."""
    changed = sum(value != state.base.get(path) for path, value in category.values.items())
    total = np.full(batch.shape, changed, dtype=np.int64)
    for path, values in ((BATCH, batch), (SEQUENCE, sequence), (RANK, rank)):
        if path in state.space.sizes and values is not None:
            total += values != state.base.get(path)
    return total


# -- the answer -----------------------------------------------------------------------------------------------------


def _answer(state: _State, base: Evaluation | None, frame: Frame) -> SearchAnswer:
    limit = state.request.limit
    on_front, unbeaten = frontier(state.kept, limit)
    best = {name: winner.found for name, winner in state.best.items() if winner.found is not None}
    if base is not None and VERDICTS.index(base.verdict) <= WORST_TAKEN[state.request.constraints.verdict]:
        best.pop("smallest_change", None)
    shown = _Shown(state, frame)
    return SearchAnswer(
        estimator_version=ESTIMATOR_VERSION,
        catalog_version=CATALOG_VERSION,
        prices_as_of=price_dates(),
        summary=_summary(state, on_front),
        base_verdict=None if base is None else base.verdict,
        plans=[shown.plan(found) for found in ways(state.fastest)[:limit]],
        frontier=[shown.plan(found) for found in unbeaten],
        frontier_total=on_front,
        best={name: shown.plan(found) for name, found in best.items()},
        space=state.space.combinations * state.space.points,
        evaluated=state.evaluated,
        repeated=state.repeated,
        feasible=state.feasible,
        refused=_refusals(state.refused),
    )


def _refusals(refused: Counter[tuple[str, str, str]]) -> list[Refused]:
    """Reasons by how many plans they refuse; beyond the most frequent ones, one line for all others."""
    listed = refused.most_common()
    shown = [Refused(code=code, field=where, message=text, count=n) for (code, where, text), n in listed]
    if len(shown) <= MAXIMUM_REASONS:
        return shown
    rest = sum(reason.count for reason in shown[MAXIMUM_REASONS:])
    more = f"{len(shown) - MAXIMUM_REASONS} rarer reasons"
    return [*shown[:MAXIMUM_REASONS], Refused(code="others", field="", message=more, count=rest)]


def _summary(state: _State, on_front: int) -> str:
    weighed = f"{state.evaluated:,} plans weighed"
    if not state.feasible:
        return f"{weighed}, none keeps the constraints"
    return f"{weighed}, {state.feasible:,} keep the constraints, {on_front:,} of them are beaten by no other"


@dataclass(slots=True)
class _Shown:
    """Makes the plans of the answer: each is estimated by itself, once."""

    state: _State
    frame: Frame
    made: dict[tuple[int, tuple[tuple[str, int], ...]], SearchPlan] = field(
        default_factory=dict[tuple[int, tuple[tuple[str, int], ...]], SearchPlan]
    )

    def plan(self, found: Found) -> SearchPlan:
        key = (id(found.category), tuple(found.sizes.items()))
        if key not in self.made:
            self.made[key] = self._made(found)
        return self.made[key]

    def _told(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values without those of other methods, which say nothing about this one."""
        method = values.get("run.method", self.state.base.get("run.method", "lora"))
        ignored = {"run.quantization.": method != "qlora", "run.freeze.": method != "freeze"}
        ignored["run.lora."] = method in {"full", "freeze"}
        left_out = tuple(prefix for prefix, applies in ignored.items() if applies)
        return {path: value for path, value in values.items() if not path.startswith(left_out)}

    def _made(self, found: Found) -> SearchPlan:
        values = self._told({**found.category.values, **found.sizes})
        base = self.state.space.base
        different = {path: value for path, value in values.items() if value != _look_up(base, path, _NOTHING)}
        asked = EstimateRequest.model_validate(merge_patch(base, patch_of(values)))
        evaluation = evaluate(asked, self.frame.spec(asked.model), self.frame.machine(asked.machine))
        plan, time, rent = evaluation.plan, evaluation.time, evaluation.plan.machine.rent
        price = None if rent is None else rent.usd_per_hour
        finish = None if time is None or plan.tokens is None else seconds_to_finish(time, plan.tokens)
        return SearchPlan(
            change=patch_of(different),
            request=asked,
            values=values,
            model=asked.model.id or plan.spec.model_type,
            machine=machine_name(plan.machine) if rent is None or rent.offer is None else rent.offer.full_name,
            verdict=evaluation.verdict,
            quality=quality_of(plan),
            required_bytes=evaluation.ledger.required_bytes,
            interval_bytes=evaluation.interval,
            usable_bytes=plan.machine.usable_bytes,
            headroom_bytes=evaluation.headroom_bytes,
            step_seconds=None if time is None else time.step_seconds,
            tokens_per_second=None if time is None else time.tokens_per_second,
            seconds_to_finish=finish,
            usd_per_hour=price,
            usd_per_million_tokens=_per_million(time, price),
            cost_usd=None if finish is None or price is None else finish / HOUR * price,
        )


def _per_million(time: StepTime | None, price: float | None) -> float | None:
    if time is None or price is None:
        return None
    return price / HOUR / time.tokens_per_second * MILLION
