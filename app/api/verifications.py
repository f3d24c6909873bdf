"""POST /verifications: the answer of an estimate, checked against the library's own code."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access import may_start_jobs
from app.api.body import parse_request, read_json
from app.api.estimates import REQUEST_SCHEMA, as_json, described, wants_advice
from app.api.jobs import JobDocument, accepted
from app.jobs.handed_over import HandedOver, answer_of
from app.jobs.isolated import Ticket
from app.jobs.verifier import Question
from app.pace import keep_pace
from app.plans import Plans
from app.problems import Problem
from app.responses import problem_response
from planner.contract import Answer, EstimateRequest

if TYPE_CHECKING:
    from app.db.tables import Job

LOOK_SECONDS: Final = 0.5
"""How often to look whether the one who asked is still there."""

router = APIRouter(tags=["verifications"])

_EXAMPLE: dict[str, Any] = {
    "model": {"id": "meta-llama/Llama-3.1-8B"},
    "machine": {"device": "nvidia-rtx-4090-24gb"},
    "run": {"method": "qlora", "sequence_length": 4096},
}


def _described() -> dict[str, Any]:
    described_ = described(REQUEST_SCHEMA)
    described_.setdefault("parameters", []).append(
        {
            "name": "Prefer",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 255},
            "description": "wait=N: wait N seconds (RFC 7240) before a verification becomes a job, instead of 10",
        }
    )
    described_["requestBody"]["content"]["application/json"]["examples"] = {"qlora": {"value": _EXAMPLE}}
    return described_


@router.post(
    "/verifications",
    response_model=Answer,
    openapi_extra=_described(),
    responses={
        202: {"model": JobDocument, "description": "It takes long and became a job; `Location` is where to look"},
        429: problem_response("Too many verifications"),
    },
    summary="Is the estimate right? Trace one step of the real model, without memory",
)
async def create_verification(request: Request) -> Response:
    """The body and the answer of /estimates, with `evidence.tier` "verified" and `evidence.differences` by term.

    The model is built on the meta device and two optimizer steps of it run under fake tensors, in a process of its own
    with a memory cap and a deadline; this call waits for it (typically 1 to 10 s; the first one also waits for the
    libraries to load). What cannot be verified has the tier "estimate" and a reason with the code `not_verifiable`.
    Closing the connection ends the work.

    What takes longer than 10 s (`Prefer: wait=N` says otherwise) becomes a job of a worker: 202, with its `Location`.
    The job's `result.verification` is the verified answer, which the same request then gets at once. Who may not start
    jobs, or finds no worker, waits on.
    """
    keep_pace(request, "verifications")
    advice, patience_seconds = wants_advice(request), _patience_seconds(request)
    asked = parse_request(await read_json(request))
    found = await verified_or_job(request, asked, advice=advice, patience_seconds=patience_seconds)
    return as_json(found.model_dump_json()) if isinstance(found, Answer) else accepted(found)


def _patience_seconds(request: Request) -> float | None:
    """What `Prefer: wait=N` asks for (RFC 7240, 4.3); preferences that we don't know are ignored, as it says."""
    preferences = ",".join(request.headers.getlist("prefer"))
    found = re.search(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,4})\"?\s*(?:$|[,;])", preferences, re.IGNORECASE)
    return None if found is None else float(found[1])


async def verified_or_job(
    request: Request, asked: EstimateRequest, *, advice: bool, patience_seconds: float | None = None
) -> Answer | Job:
    """The verified answer, or the job that will have it; when the one who asked goes away, the work ends.

    Raises:
        Problem: the request cannot be answered, or its verification ended badly.
    """
    state = request.app.state
    question = await run_in_threadpool(state.plans.to_verify, asked, advice=advice)
    if isinstance(question, Answer):
        return question
    handed_over: HandedOver | None = state.handed_over if may_start_jobs(request) else None
    if handed_over is not None:
        known = await run_in_threadpool(handed_over.find, question)
        if known is not None:
            return answer_of(known) or known
    usual: float = state.settings.verification_patience_seconds
    return await _waited_for(request, question, handed_over, usual if patience_seconds is None else patience_seconds)


async def _waited_for(
    request: Request, question: Question, handed_over: HandedOver | None, patience_seconds: float
) -> Answer | Job:
    """Wait, at first with patience; what is handed over is ended here."""
    plans: Plans = request.app.state.plans
    ticket = Ticket()
    work = asyncio.create_task(run_in_threadpool(plans.answered, question, ticket))
    until = time.monotonic() + patience_seconds
    try:
        while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                ticket.cancel()
            elif handed_over is not None and time.monotonic() >= until:
                job = await run_in_threadpool(handed_over.hand_over, question)
                if job is not None:
                    ticket.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    return job
                handed_over = None
        return work.result()
    except Problem as problem:
        if handed_over is None or problem.document.code != "too_many_requests":
            raise
        job = await run_in_threadpool(handed_over.hand_over, question)
        if job is None:
            raise
        return job
    except asyncio.CancelledError:
        ticket.cancel()
        raise
