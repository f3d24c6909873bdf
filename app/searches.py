"""A search behind every face: models and machines are found as for one plan, errors become problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from app.plans import Plans
from app.problems import Problem, from_validation
from planner.architecture.spec import ModelSpec
from planner.contract import EstimateRequest, MachineRequest, ModelReference
from planner.estimate import sha256_of, spec_of
from planner.hardware import THIS_MACHINE, Machine
from planner.search import SearchAnswer, SearchRequest, SpaceError, search


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
        raise from_validation(error) from error
