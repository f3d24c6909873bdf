"""The one service behind every face: find the model and the machine, ask the engine, return the answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json

from app.calibrations import CalibrationBook
from app.db.opened import OpenedDatabase
from app.hub import MAXIMUM_CONFIG_BYTES, HubClient, HubConfig, parse_config
from app.machines import ThisMachine
from app.problems import Problem
from app.refusals import from_validation
from app.remote_code import code_warnings, with_code_warning
from planner.architecture.config import ConfigError, UnknownModelType
from planner.catalog.models import UnknownModel, model, nearest_models
from planner.contract import Answer, EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.estimate import document, estimate, sha256_of, spec_of
from planner.evaluation import prepare
from planner.hardware import THIS_MACHINE, Machine, MachineError, UnknownDevice, UnknownMachineOffer, resolve_machine
from planner.heatmap import HeatMap, heat_map
from planner.observed import Explanation, Unreadable, explain, read
from planner.plan import Plan as PreparedPlan
from planner.rental import Rental, rentals
from planner.units import gib_to_bytes

if TYPE_CHECKING:
    from app.jobs.verifier import Limits, Question, Ticket, Verifier
    from app.settings import Settings

OFFERS_SHOWN = 5
FREE_OFFERS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with its model's configuration; the revision is the commit it was read at."""

    request: EstimateRequest
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Around:
    """A plan filled in, its map of micro-batch and sequence, and the offers that run it."""

    prepared: PreparedPlan
    heat: HeatMap
    rentals: list[Rental]


class Plans:
    """Answers requests. This machine is looked at only when a request or a page asks for it."""

    def __init__(
        self,
        settings: Settings,
        *,
        look: Callable[[], Machine | None] | None = None,
        hub: HubClient | None = None,
        verifier: Verifier | None = None,
        calibrations: CalibrationBook | None = None,
    ) -> None:
        self.calibrations = calibrations or CalibrationBook(OpenedDatabase(settings))
        self._hub = hub or HubClient(settings)
        self._settings = settings
        self._verifier = verifier
        self._verifier_lock = threading.Lock()
        self._local_directories = settings.local_directories
        self.this_machine = ThisMachine(look or _detect)

    def answer(self, request: EstimateRequest, *, advice: bool = True) -> Answer:
        """The answer to a request, its model looked up wherever it is.

        Raises:
            Problem: the request cannot be answered, and why.
        """
        return self.evaluate(self.plan(request), advice=advice)

    def answer_json(self, plan: Plan, *, advice: bool = True) -> bytes:
        """The answer to a plan as JSON, which no one builds as objects first.

        Raises:
            Problem: the request cannot be answered, and why.
        """
        machine = self.machine_of(plan.request)
        with _problems():
            fields = document(plan.request, config=plan.config, machine=machine, advice=advice)
        fields["warnings"] += code_warnings(plan.config)
        return to_json(fields, inf_nan_mode="null")

    def verified(self, request: EstimateRequest, *, advice: bool = True, ticket: Ticket | None = None) -> Answer:
        """The answer, held against the library's own code in a process of its own; blocks until that is done.

        What cannot be verified keeps its estimate, with a reason `not_verifiable`.

        Raises:
            Problem: the request cannot be answered, or its verification ended badly.
        """
        found = self.to_verify(request, advice=advice)
        return found if isinstance(found, Answer) else self.answered(found, ticket)

    def to_verify(self, request: EstimateRequest, *, advice: bool = True) -> Question | Answer:
        """What a process is to be asked; the estimate where it has no numbers that could be verified.

        Raises:
            Problem: the request cannot be answered.
        """
        from app.jobs.verifier import Question

        plan = self.plan(request)
        estimated = self.evaluate(plan, advice=False)  # what is wrong is refused before a process is asked
        if estimated.memory is None:
            return estimated
        return Question(plan.request, plan.config, self.machine(plan.request), advice)

    def answered(self, question: Question, ticket: Ticket | None = None) -> Answer:
        """The verified answer to a question; blocks until it is there.

        Raises:
            Problem: its verification ended badly.
        """
        from app.jobs.verifier import Busy, WorkFailed

        try:
            return self._verifying().verify(question, ticket)
        except Busy as error:
            raise Problem("too_many_requests", "too many verifications wait already; ask again in a minute") from error
        except WorkFailed as error:
            text = f"the verification {_FAILURES[error.kind]}: {error}. The estimate stands without it."
            raise Problem("verification_failed", text, value=error.kind) from error

    def explain(self, request: EstimateRequest, observed: str) -> tuple[Plan, Explanation]:
        """Why a run that was measured differs from the estimate, by the text that a tool printed.

        Raises:
            Problem: the request cannot be answered, or the text says nothing that is known.
        """
        try:
            seen = read(observed)
        except Unreadable as error:
            raise Problem("unreadable_text", str(error), field="observed", value=observed, accepted=_TEXTS) from error
        plan = self.plan(request)
        answer = self.evaluate(plan, advice=False)  # what is wrong is refused as an estimate refuses it
        if answer.memory is None:
            reason = answer.reasons[0]
            raise Problem("invalid_request", answer.summary, field=reason.field, accepted="a plan that is modelled")
        spec = spec_of(plan.config, sha256_of(plan.config))
        return plan, explain(plan.request, spec, self.machine(plan.request), seen)

    def close(self) -> None:
        """End the processes that were started."""
        if self._verifier is not None:
            self._verifier.close()
        self.calibrations.close()

    def _verifying(self) -> Verifier:
        from app.jobs.verifier import Verifier

        with self._verifier_lock:
            if self._verifier is None:
                self._verifier = Verifier(self.verification_limits())
            return self._verifier

    def verification_limits(self) -> Limits:
        """What one verification may take beyond the libraries."""
        from app.jobs.verifier import Limits

        settings = self._settings
        return Limits(gib_to_bytes(settings.verification_memory_gib), settings.verification_seconds)

    def at_hand(self, request: EstimateRequest) -> Plan | None:
        """The plan whose model needs neither disk nor network, so that answering does not wait; None if it does."""
        given = request.model.config
        if given is not None:
            _refuse_infinite(given)
            return Plan(request, given)
        known = _catalogue_config(request)
        return None if known is None else Plan(request, known)

    def plan(self, request: EstimateRequest) -> Plan:
        """The request with the configuration of its model, from the request, the catalogue, a directory or the Hub."""
        known, reference = self.at_hand(request), request.model
        if known is not None:
            return known
        model_id = reference.id or ""
        if self._local_directories and _is_path(model_id):
            return Plan(request, _read_directory(Path(model_id)))
        found = self._from_hub(model_id, reference.revision)
        if found.revision is not None:
            pinned = reference.model_copy(update={"revision": found.revision})
            request = request.model_copy(update={"model": pinned})
        return Plan(request, found.config)

    def _from_hub(self, model_id: str, revision: str | None) -> HubConfig:
        """The Hub's configuration; where it has none, the ids of the catalogue that are spelled alike."""
        try:
            return self._hub.config(model_id, revision)
        except Problem as problem:
            near = nearest_models(model_id)
            raise problem.with_hint(f"the catalogue has {', '.join(near)}") if near else problem from None

    def machine_of(self, request: EstimateRequest) -> Machine:
        """The machine of a request, its errors as problems.

        Raises:
            Problem: there is no such device, or its figures contradict each other.
        """
        try:
            return self.machine(request)
        except UnknownDevice as error:
            raise _unknown_device(error) from error
        except MachineError as error:
            raise _machine_problem(error) from error

    def machine(self, request: EstimateRequest) -> Machine:
        """The machine of a request, what the person knows better applied, with its newest calibration."""
        here = request.machine.device == THIS_MACHINE and request.machine.offer is None
        detected = self.this_machine() if here else None
        return self.calibrations.on(resolve_machine(request.machine, detected))

    def around(self, plan: Plan) -> Around | None:
        """What lies around a plan: its map of batch and sequence, and the offers that run it; None if there is none."""
        try:
            spec = spec_of(plan.config, sha256_of(plan.config))
            prepared = prepare(plan.request, spec, self.machine(plan.request))
            found = heat_map(prepared)
            offers = rentals(plan.request, spec, limit=OFFERS_SHOWN, free_limit=FREE_OFFERS_SHOWN)
        except (NotModelledError, PlanError, ConfigError, UnknownModelType, OverflowError):
            return None
        return Around(prepared, found, offers)

    def evaluate(self, plan: Plan, *, advice: bool, machine: Machine | None = None) -> Answer:
        """The engine's answer, its errors as problems; on the machine of the request, or on one that was looked at."""
        machine = machine or self.machine_of(plan.request)
        with _problems():
            answer = estimate(plan.request, config=plan.config, machine=machine, advice=advice)
        return with_code_warning(answer, plan.config)


@contextmanager
def _problems() -> Generator[None]:
    """The engine's errors as problems."""
    try:
        yield
    except PlanError as error:
        raise Problem(error.code, str(error), field=error.field, value=error.value, accepted=error.accepted) from error
    except ConfigError as error:
        raise Problem(
            "invalid_config",
            str(error),
            field=f"model.config.{error.field}",
            value=error.value,
            accepted=error.accepted,
        ) from error
    except ValidationError as error:
        raise from_validation(error) from error


_TEXTS = "the output of nvidia-smi or torch.cuda.memory_summary(), an OutOfMemoryError's message, a trainer's log lines"
_FAILURES: Mapping[str, str] = {
    "out_of_memory": "ran out of its memory",
    "timed_out": "took too long",
    "crashed": "crashed",
    "cancelled": "was cancelled",
    "unavailable": "could not be started",
}


def _refuse_infinite(config: Mapping[str, Any]) -> None:
    """A number like 1e400 is JSON, but is read as infinity, which no answer could hold."""
    try:
        json.dumps(config, allow_nan=False)
    except ValueError as error:
        raise Problem(
            "invalid_config", "the config.json holds a number that is not finite", field="model.config", accepted="JSON"
        ) from error


def _catalogue_config(request: EstimateRequest) -> Mapping[str, Any] | None:
    """The catalogue's configuration; a revision asks for that of the Hub."""
    reference = request.model
    if reference.id is None or reference.revision is not None:
        return None
    try:
        return model(reference.id).config
    except UnknownModel:
        return None


def _unknown_device(error: UnknownDevice) -> Problem:
    return Problem(
        "unknown_device",
        str(error),
        field=error.field,
        value=error.device_id,
        accepted="a catalogue id, this-machine, or an object with the device's own figures",
    )


def _machine_problem(error: MachineError) -> Problem:
    code = "unknown_offer" if isinstance(error, UnknownMachineOffer) else "invalid_request"
    return Problem(code, str(error), field=error.field, value=error.value, accepted=error.accepted, status=422)


def _detect() -> Machine | None:
    from app.detect import detect, to_machine

    return to_machine(detect())


def _is_path(model_id: str) -> bool:
    return model_id.startswith(("./", "../", "~")) or Path(model_id).is_absolute()


def _read_directory(directory: Path) -> Mapping[str, Any]:
    path = directory.expanduser()
    path = path if path.name == "config.json" else path / "config.json"
    try:
        return read_config_file(path)
    except (OSError, ValueError) as error:
        raise Problem(
            "unknown_model",
            f"{path} cannot be read as a config.json: {_why(error)}",
            field="model.id",
            value=str(directory),
            accepted="a directory that holds a config.json",
        ) from error


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "not a file") if isinstance(error, OSError) else str(error)


def read_config_file(path: Path) -> Mapping[str, Any]:
    """A config.json from disk.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON object, or larger than any config.json.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if path.stat().st_size > MAXIMUM_CONFIG_BYTES:
        raise ValueError("larger than any config.json")
    return parse_config(path.read_bytes())
