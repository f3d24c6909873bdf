"""Whose machine? For a computer that trainfit does not run on: what its browser says, or what its own tools print."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from app import machines
from app.problems import Problem
from app.web import form, pages
from planner.hardware import Machine

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Described:
    """One way to train on the described machine, and the form with it filled in."""

    name: str
    summary: str
    known: bool
    values: dict[str, str]

    @property
    def href(self) -> str:
        return f"/?{urlencode(self.values)}"


@router.get("/machine")
def machine_page(request: Request) -> HTMLResponse:
    """The commands, and the box for what they print."""
    return _page(request, "")


@router.post("/machine")
async def describe(request: Request) -> HTMLResponse:
    """The machine that the text describes. The text is not kept."""
    async with request.form(max_files=0, max_fields=10, max_part_size=2**20) as sent:
        text = sent.get("printed")
    return await run_in_threadpool(_answer, request, text if isinstance(text, str) else "")


def _answer(request: Request, text: str) -> HTMLResponse:
    from app.detect import to_machines
    from app.detect.pasted import Undescribed, read_machine

    try:
        found = to_machines(read_machine(text))
    except Undescribed as error:
        return _page(request, text, problem=Problem("unreadable_text", str(error), field="printed"))
    if not found:
        why = "the text names a device that the catalogue does not hold, without its memory: give its own figures"
        return _page(request, text, problem=Problem("unreadable_text", why, field="printed"))
    return _page(request, text, found=[_described(machine) for machine in found])


def _described(machine: Machine) -> Described:
    words = machines.shown(machine)
    known = machine.device.id not in ("unknown", "this-cpu")
    name, summary = (words.name, words.summary) if words else (machine.device.name, "")
    return Described(name, summary, known, machines.values_of(machine))


def _page(
    request: Request, text: str, *, found: list[Described] | None = None, problem: Problem | None = None
) -> HTMLResponse:
    from app.detect.pasted import COMMANDS

    return pages.site_page(
        request,
        "machine.html",
        200 if problem is None else problem.status,
        commands=COMMANDS,
        printed=text,
        found=found or [],
        problem=problem,
        label=form.label,
    )
