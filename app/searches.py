"""A search behind every face: models and machines are found as for one plan, errors become problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from app.knobs import knobs_by_name
from app.plans import Plans
from app.problems import Problem
from app.refusals import from_validation
from app.web.numbers import plain
from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, MachineRequest, ModelReference
from planner.estimate import sha256_of, spec_of
from planner.hardware import THIS_MACHINE, Machine
from planner.search import SearchAnswer, SearchPlan, SearchRequest, SpaceError, search

QUESTIONS = {
    "smallest_change": "smallest change to yes",
    "fastest": "fastest",
    "cheapest": "cheapest",
    "largest_batch": "largest micro-batch",
    "largest_sequence": "longest sequence",
    "least_memory": "least memory",
    "smallest_machine": "smallest machine",
}
"""a winner of an answer -> what it is called"""


@dataclass(slots=True)
class _Frame:
    """What one search looks up: each model once, this machine once."""

    plans: Plans
    specs: dict[str, ModelSpec] = field(default_factory=dict[str, ModelSpec])
    here: dict[str, Machine] = field(default_factory=dict[str, Machine])

    def spec(self, reference: ModelReference) -> ModelSpec:
        key = f"{reference.id}@{reference.revision}" if reference.config is None else str(id(reference.config))
        if reference.config is not None or key not in self.specs:
            config = self.plans.plan(EstimateRequest(model=reference)).config
            self.specs[key] = spec_of(config, sha256_of(config))
        return self.specs[key]

    def machine(self, request: MachineRequest) -> Machine:
        key = request.model_dump_json() if request.device == THIS_MACHINE and request.offer is None else ""
        if key not in self.here:
            found = self.plans.machine(EstimateRequest(model=ModelReference(id="-"), machine=request))
            if not key:
                return found
            self.here[key] = found
        return self.here[key]


def answer_search(plans: Plans, request: SearchRequest) -> SearchAnswer:
    """The answer to a search.

    Raises:
        Problem: the space is none or too large, a value is none of its field, or a model cannot be found.
    """
    try:
        return search(request, _Frame(plans))
    except SpaceError as error:
        raise Problem(
            "invalid_search", str(error), field=error.field, value=error.value, accepted=error.accepted
        ) from error
    except ValidationError as error:
        raise from_validation(error) from error


def parse_search(values: Any) -> SearchRequest:
    """A search of the contract.

    Raises:
        Problem: a field breaks the contract.
    """
    try:
        return SearchRequest.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, SearchRequest) from error


def path_of(name: str) -> str:
    """The path of a field that is named by its flag or by its path."""
    known = knobs_by_name().get(name.replace("-", "_").removeprefix("__")) or knobs_by_name().get(name)
    if name == "model":
        return "model.id"
    return name if known is None else ".".join(known.path)


def parsed(path: str, text: str) -> Any:
    """A value of the field at a path, as the contract has it."""
    known = knobs_by_name().get(path.partition(".")[2])
    stripped = text.strip()
    return stripped if known is None or stripped == "*" else known.parse(stripped)


def constraint(name: str, text: str) -> Any:
    """The value of a constraint that was typed; what is no number stays text, so that the contract names it."""
    if name == "vendor":
        return [part.strip() for part in text.split(",")]
    if name == "verdict":
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


_SHORT = {
    "run.activation_checkpointing": "checkpointing {}",
    "run.micro_batch_size": "micro-batch {}",
    "run.sequence_length": "{} tokens",
    "run.gradient_accumulation_steps": "accumulation {}",
    "run.optimizer": "{}",
    "run.loss": "loss {}",
    "run.attention": "attention {}",
    "run.quantization.scheme": "{}",
    "run.parallelism.zero_stage": "ZeRO {}",
    "model.id": "{}",
}
_IN_THE_NAME = frozenset({"run.method", "run.lora.rank", "run.quantization.scheme"})


def described(plan: SearchPlan) -> str:
    """What was free of a plan in a line, but for what the name of its quality says: the machine first."""
    return ", ".join([plan.machine, *_knobs(plan)] if frees_machine(plan) else _knobs(plan))


def frees_machine(plan: SearchPlan) -> bool:
    """Whether plans of this search differ in their machine."""
    return any(path.startswith("machine.") for path in plan.values)


def titled(plan: SearchPlan) -> tuple[str, str]:
    """What a plan is called, and the rest of what was free of it."""
    where = f" on {plan.machine}" if frees_machine(plan) else ""
    return plan.quality.name + where, ", ".join(_knobs(plan))


def _knobs(plan: SearchPlan) -> list[str]:
    return [
        _SHORT.get(path, path.partition(".")[2] + " {}").format(plain(value).replace("_", " "))
        for path, value in plan.values.items()
        if path not in _IN_THE_NAME and not path.startswith("machine.")
    ]
