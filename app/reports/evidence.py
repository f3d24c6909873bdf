"""What a report takes in: plans to estimate, plans to verify, and jobs that have verified or measured one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from app.api.body import parse_request
from app.jobs.handed_over import answer_of
from app.jobs.results import measurement_of
from app.jobs.spec import JobSpec
from app.plans import Plan, Plans
from app.problems import Problem
from planner.contract import Answer, Difference, EstimateRequest, Evidence
from planner.hardware import Machine
from planner.measurement import Compared, Measurement

if TYPE_CHECKING:
    from app.db.tables import Job

_MACHINES: TypeAdapter[Machine] = TypeAdapter(Machine)


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FromJob(_Given):
    """The plan that a job has verified or measured, with what it found."""

    job: str


class ToVerify(_Given):
    """A plan that is held against the library's own code before it is kept."""

    verify: EstimateRequest


Wanted = EstimateRequest | FromJob | ToVerify
Answered = tuple[Plan, Machine, Answer]


def parse_wanted(values: Any) -> Wanted:
    """One plan of a report's request.

    Raises:
        Problem: a field breaks the contract.
    """
    match values:
        case {"job": str(job_id), **rest} if not rest:
            return FromJob(job=job_id)
        case {"verify": plan, **rest} if not rest:
            return ToVerify(verify=parse_request(plan))
        case _:
            return parse_request(values)


class EvidenceBook:
    """Finds what a report wants to hold. `job` finds a job by its id."""

    def __init__(self, plans: Plans, job: Callable[[str], Job]) -> None:
        self._plans = plans
        self._job = job

    def answered(self, wanted: Wanted) -> Answered:
        """The plan, its machine and its answer on the tier that was asked for.

        Raises:
            Problem: it cannot be answered, or the job has found nothing.
        """
        if isinstance(wanted, FromJob):
            return self.of_job(wanted.job)
        plan = self._plans.plan(wanted.verify if isinstance(wanted, ToVerify) else wanted)
        return self.verified(plan) if isinstance(wanted, ToVerify) else self.estimated(plan)

    def estimated(self, plan: Plan) -> Answered:
        """The plan with its estimate."""
        machine = self._plans.machine_of(plan.request)
        return plan, machine, self._plans.evaluate(plan, advice=True, machine=machine)

    def verified(self, plan: Plan) -> Answered:
        """The plan with its verified answer; what was verified a moment ago is remembered."""
        answer = self._plans.verified(plan.request, advice=False)
        return plan, self._plans.machine_of(plan.request), _without_timeline(answer)

    def of_job(self, job_id: str) -> Answered:
        """The plan of a job with what the job found.

        Raises:
            Problem: there is no such job, or it has found nothing about a plan.
        """
        job = self._job(job_id)
        spec, verified, measured = JobSpec.model_validate(job.spec), answer_of(job), measurement_of(job)
        if spec.request is None or spec.config is None or spec.machine is None or not (verified or measured):
            raise Problem(
                "invalid_request",
                f"the job has found nothing about a plan: it is {job.state}",
                field="job",
                value=job_id,
                accepted="a job that has verified or measured a plan",
            )
        plan, machine = Plan(spec.request, spec.config), _MACHINES.validate_python(spec.machine)
        if verified is not None:
            return plan, machine, _without_timeline(_from(verified, job_id))
        assert measured is not None
        estimated = self._plans.evaluate(plan, advice=False, machine=machine)
        return plan, machine, _from(estimated.model_copy(update={"evidence": evidence_of(measured)}), job_id)


def _from(answer: Answer, job_id: str) -> Answer:
    return answer.model_copy(update={"evidence": answer.evidence.model_copy(update={"job": job_id})})


def _without_timeline(answer: Answer) -> Answer:
    """A report keeps what was found of each term, not each of some thousand instants."""
    return answer.model_copy(update={"evidence": answer.evidence.model_copy(update={"timeline": None})})


def evidence_of(found: Measurement) -> Evidence:
    """What a measurement says of the plan's estimate."""
    both = [row for row in found.terms if row.predicted is not None and row.measured is not None]
    notes = [f"{found.device} ran it" + ("" if found.steps is None else f", {len(found.steps.seconds)} steps measured")]
    notes += [] if found.depth.is_whole else [f"extended from fewer layers: {found.depth.how}"]
    notes += [f"it ran out of memory: {found.out_of_memory}"] if found.out_of_memory else []
    figures = {row.name: row.measured for row in found.rows if row.measured is not None}
    return Evidence(tier="measured", differences=[_difference(row) for row in both], notes=notes, measured=figures)


def _difference(row: Compared) -> Difference:
    predicted, measured = round(row.predicted or 0), round(row.measured or 0)
    return Difference(
        term=row.name, estimate_bytes=predicted, trace_bytes=measured, difference_bytes=predicted - measured,
        believed="measurement", why="",
    )  # fmt: skip
