"""POST /verifications: the answer of an estimate, checked against the library's own code."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.api.body import parse_request, read_json
from app.api.estimates import REQUEST_SCHEMA, as_json, described, wants_advice
from app.jobs.isolated import Ticket
from app.pace import keep_pace
from app.plans import Plans
from app.responses import problem_response
from planner.contract import Answer, EstimateRequest

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
    described_["requestBody"]["content"]["application/json"]["examples"] = {"qlora": {"value": _EXAMPLE}}
    return described_


@router.post(
    "/verifications",
    response_model=Answer,
    openapi_extra=_described(),
    responses={429: problem_response("Too many verifications")},
    summary="Is the estimate right? Trace one step of the real model, without memory",
)
async def create_verification(request: Request) -> Response:
    """The body and the answer of /estimates, with `evidence.tier` "verified" and `evidence.differences` by term.

    The model is built on the meta device and two optimizer steps of it run under fake tensors, in a process of its own
    with a memory cap and a deadline; this call waits for it (typically 1 to 10 s; the first one also waits for the
    libraries to load). What cannot be verified has the tier "estimate" and a reason with the code `not_verifiable`.
    Closing the connection ends the work.
    """
    keep_pace(request, "verifications")
    advice = wants_advice(request)
    answer = await verified_while_connected(request, parse_request(await read_json(request)), advice=advice)
    return as_json(answer.model_dump_json())


async def verified_while_connected(request: Request, asked: EstimateRequest, *, advice: bool) -> Answer:
    """The verified answer; when the one who asked goes away, the work ends."""
    plans: Plans = request.app.state.plans
    ticket = Ticket()
    work = asyncio.create_task(run_in_threadpool(plans.verified, asked, advice=advice, ticket=ticket))
    try:
        while not (await asyncio.wait({work}, timeout=LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                ticket.cancel()
        return work.result()
    except asyncio.CancelledError:
        ticket.cancel()
        raise
