"""The pages of a comparison that is not kept: all of it stands in the address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app import machines
from app.access import require_reader
from app.api.reports import reports_of
from app.knobs import knobs
from app.pace import keep_pace
from app.problems import Problem
from app.reports.document import (
    LETTERS,
    MAXIMUM_NOTES,
    MAXIMUM_PLANS,
    MAXIMUM_TITLE,
    MINIMUM_PLANS,
    check_count,
    in_plan,
)
from app.reports.evidence import FromJob, ToVerify
from app.reports.service import Answered, title_of
from app.web import address, form, pages
from app.web.charts import TERM_LABELS
from planner.catalog.models import all_models
from planner.catalog.offers import Offer, offer, planned_offers
from planner.hardware import THIS_MACHINE, all_devices, device

router = APIRouter(include_in_schema=False)

MODEL_EXAMPLES: Sequence[str] = (
    "Qwen/Qwen2.5-7B",
    "mistralai/Mistral-7B-v0.3",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen2.5-0.5B",
)
OFTEN: Sequence[str] = (
    "offer:runpod-rtx-4090-secure",
    "offer:kaggle-gpu-t4-x2",
    "offer:google-colab-free-t4",
    "nvidia-rtx-4090-24gb",
    "nvidia-rtx-3060-12gb",
    "apple-m4-max",
    "offer:runpod-a100-sxm-secure",
    "offer:runpod-h100-sxm-secure",
)
"""Machines that stand in front: a device, `id*count`, or `offer:id`."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where a comparison's page leads, by plan."""

    plans: Sequence[str]
    baselines: Sequence[str]
    only_differences: bool
    toggle: str
    without: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A machine that can be picked."""

    value: str
    name: str
    hint: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class InBasket:
    """A plan that was brought along."""

    letter: str
    page: str
    model: str
    device: str
    evidence: str
    change: str
    without: str


@router.get("/compare")
def compare_page(request: Request) -> Response:
    """The plans of the address side by side; with fewer than two, the form that adds some."""
    queries = request.query_params.getlist("plan")
    if len(queries) < MINIMUM_PLANS or "add" in request.query_params:
        return _empty_or_basket(request, queries)
    try:
        answered, canonical = answered_plans(request, queries)
        baseline = baseline_of(request, 0, len(queries))
    except Problem as problem:
        filled = form.with_problem(dict(request.query_params), problem)
        return _form_page(request, queries, filled, [], problem.status)
    only_differences = request.query_params.get("only") == "differences"
    if canonical != list(queries):
        there = address.comparison(canonical, baseline, only_differences=only_differences)
        return RedirectResponse(there, status_code=302)
    comparison = reports_of(request).comparison(answered, baseline)
    return pages.site_page(
        request,
        "compare.html",
        here="/compare",
        comparison=comparison,
        title=title_of(comparison.plans),
        headline=comparison.headline,
        queries=queries,
        links=_links(queries, baseline, only_differences=only_differences),
        add=address.comparison(queries) + "&add=1",
        here_address=str(request.base_url).rstrip("/") + address.comparison(queries, baseline),
        labels=TERM_LABELS,
        maximum_plans=MAXIMUM_PLANS,
        maximum_title=MAXIMUM_TITLE,
        maximum_notes=MAXIMUM_NOTES,
    )


def _empty_or_basket(request: Request, queries: Sequence[str]) -> Response:
    """The form with the plans that were brought along; one that names no model is refused, not carried."""
    try:
        for position, query in enumerate(queries):
            in_plan(position, _check_named, query)
    except Problem as problem:
        filled = form.with_problem(dict(request.query_params), problem)
        return _form_page(request, [], filled, [], problem.status)
    return _form_page(request, queries, form.Form(dict(request.query_params)), _asked_machines(request))


def _check_named(query: str) -> None:
    job, plain, _ = address.evidence_of(query)
    if job is not None:
        return
    asked = address.parse(parse_qsl(plain))
    if asked.model_id is None and asked.config_hash is None:
        raise Problem(
            "invalid_request",
            "the address names no model",
            field="model.id",
            value=query,
            accepted="the address of a plan, such as model=Qwen/Qwen2.5-7B&method=lora",
        )


def _links(queries: Sequence[str], baseline: int, *, only_differences: bool) -> Links:
    positions = range(len(queries))
    return Links(
        plans=[_page_of(query) for query in queries],
        baselines=[address.comparison(queries, position, only_differences=only_differences) for position in positions],
        only_differences=only_differences,
        toggle=address.comparison(queries, baseline, only_differences=not only_differences),
        without=[address.comparison(_without(queries, position)) for position in positions],
    )


def _page_of(query: str) -> str:
    """The page of a plan, or of the job that found out about it."""
    job, plain, _ = address.evidence_of(query)
    return f"/plan?{plain}" if job is None else f"/jobs/{job}"


def _without(queries: Sequence[str], position: int) -> list[str]:
    return [query for index, query in enumerate(queries) if index != position]


def baseline_of(request: Request, otherwise: int, count: int) -> int:
    """The baseline that the address names.

    Raises:
        Problem: it is none of the plans.
    """
    return baseline_from(request.query_params.get("baseline", str(otherwise)), count)


def baseline_from(text: str, count: int) -> int:
    """A baseline as it was typed.

    Raises:
        Problem: it is none of the plans.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) < count):
        raise Problem(
            "invalid_request",
            "the baseline is none of the plans",
            field="baseline",
            value=text,
            accepted=f"a position from 0 to {count - 1}",
        )
    return int(text)


# --- the form --------------------------------------------------------------------------------------------------------


def _asked_machines(request: Request) -> list[str]:
    """The machines that the address names; this one at first, so that it need not be looked for."""
    asked = request.query_params.getlist("machine")
    return asked or ([] if request.query_params.getlist("plan") else [THIS_MACHINE])


def _form_page(
    request: Request, queries: Sequence[str], filled: form.Form, chosen: Sequence[str], status: int = 200
) -> HTMLResponse:
    site = pages.site_of(request)
    return pages.site_page(
        request,
        "compare_form.html",
        status,
        here="/compare",
        form=filled,
        basket=_basket(request, queries),
        queries=queries,
        from_form=f"/?{address.carried(queries)}",
        models=all_models(),
        examples=MODEL_EXAMPLES,
        methods=pages.METHODS,
        front=form.FRONT,
        knob=form.knob,
        machine_label=site.machine_label,
        here_machine=machines.shown(request.app.state.plans.this_machine()),
        this_is_chosen=THIS_MACHINE in chosen,
        often=[_choice(value, chosen) for value in OFTEN],
        groups=[
            ("For rent, and free", [_choice(value, chosen) for value in _offers() if value not in OFTEN]),
            *(
                (vendor, [_choice(item.id, chosen) for item in items if item.id not in OFTEN])
                for vendor, items in machines.groups()
            ),
        ],
        device_count=len(all_devices()),
        maximum_plans=MAXIMUM_PLANS,
    )


def _offers() -> list[str]:
    return [f"offer:{item.id}" for item in planned_offers()]


def _choice(value: str, chosen: Sequence[str]) -> Choice:
    if value.startswith("offer:"):
        rented = offer(value.removeprefix("offer:"))
        return Choice(value, rented.full_name, f"{machines.devices_of(rented)}, {_terms(rented)}", value in chosen)
    return Choice(value, device(value).display_name, "", value in chosen)


def _terms(rented: Offer) -> str:
    """What an offer costs or how long it lasts, as of its date."""
    if rented.free:
        return "free" + (f", {rented.weekly_hours:g} h a week" if rented.weekly_hours else "")
    return "spot only" if rented.usd_per_hour is None else f"${rented.usd_per_hour:.2f} an hour in {rented.as_of[:7]}"


def _basket(request: Request, queries: Sequence[str]) -> list[InBasket]:
    return [_in_basket(request, queries, position) for position in range(min(len(queries), MAXIMUM_PLANS))]


def _in_basket(request: Request, queries: Sequence[str], position: int) -> InBasket:
    query = queries[position]
    job, plain, verified = address.evidence_of(query)
    if job is not None:
        plain = _query_of_job(request, job)
    flat = dict(parse_qsl(plain))
    device_id = flat.get("device", THIS_MACHINE)
    rented = flat.get("offer")
    known = {item.id: item.display_name for item in all_devices()}
    here, count = pages.site_of(request).machine_label, flat.get("device_count", "1")
    name = here if device_id == THIS_MACHINE else known.get(device_id, flat.get("device.name", device_id))
    return InBasket(
        letter=LETTERS[position],
        page=_page_of(query),
        model=flat.get("model", "pasted model"),
        device=machines.offer_name(rented) if rented else name if count == "1" else f"{count} × {name}",
        evidence="found by a job" if job else "verified" if verified else "",
        change=f"/?{plain}&{address.carried(queries)}",
        without=address.comparison(_without(queries, position)),
    )


@router.post("/compare")
async def submit(request: Request) -> Response:
    """The form as it was sent: to the comparison of its plans, or back with what is wrong."""
    async with request.form(max_files=0, max_fields=300, max_part_size=2**16) as sent:
        typed = {name: text for name, text in sent.items() if isinstance(text, str)}
        queries, chosen = _texts(sent, "plan"), _texts(sent, "machine")
    return await run_in_threadpool(_submit, request, typed, queries, chosen)


def _texts(sent: FormData, name: str) -> list[str]:
    return [text for text in sent.getlist(name) if isinstance(text, str) and text.strip()]


def _submit(request: Request, typed: Mapping[str, str], queries: list[str], chosen: list[str]) -> Response:
    picked = chosen + [word.strip() for word in typed.get("more", "").split(",") if word.strip()]
    try:
        base = _base(request, typed, queries)
        wanted = list(dict.fromkeys([*queries, *(_on(base, machine) for machine in picked)]))
        check_count(len(wanted), "machine")
        _, canonical = answered_plans(request, wanted)
    except Problem as problem:
        filled = form.with_problem(typed, problem)
        return _form_page(request, queries, filled, chosen, problem.status)
    return RedirectResponse(address.comparison(canonical), status_code=303)


def _base(request: Request, typed: Mapping[str, str], queries: Sequence[str]) -> list[tuple[str, str]]:
    """The plan that the machines are put into: the first of the basket, else what was typed."""
    if queries:
        job, plain, _ = address.evidence_of(queries[0])
        return parse_qsl(plain) if job is None else parse_qsl(_query_of_job(request, job))
    if not typed.get("model", "").strip():
        raise Problem(
            "invalid_request", "no model was given", field="model.id", accepted="a known model or an id of the Hub"
        )
    names = ("model", *form.FRONT)
    return [("v", "1"), *((name, typed[name]) for name in names if typed.get(name, "").strip())]


def _of_job(request: Request, job_id: str) -> Answered:
    """What a job has found, for who may see jobs."""
    require_reader(request)
    return reports_of(request).answered(FromJob(job=job_id))


def _query_of_job(request: Request, job_id: str) -> str:
    """The address of the plan that a job was about."""
    plan = _of_job(request, job_id).plan
    digest = None if plan.request.model.id else request.app.state.configs.put(plan.config)
    return address.query(plan.request, digest)


def _on(base: Iterable[tuple[str, str]], machine: str) -> str:
    """The query of a plan on another machine, written `id`, `id*count` or `offer:id`."""
    kept = [(name, text) for name, text in base if name not in _machine_knobs()]
    return "&".join(f"{quote(name, safe='.')}={quote(text, safe='/,.')}" for name, text in [*kept, *_named(machine)])


def _named(machine: str) -> list[tuple[str, str]]:
    if machine.startswith("offer:"):
        return [("offer", machine.removeprefix("offer:").strip())]
    device_id, _, count = machine.partition("*")
    return [("device", device_id.strip()), *([("device_count", count.strip())] if count else [])]


@cache
def _machine_knobs() -> frozenset[str]:
    """What an address says of the machine, and of its price."""
    return frozenset(knob.name for knob in knobs() if knob.path[0] == "machine")


def answered_plans(request: Request, queries: Sequence[str]) -> tuple[list[Answered], list[str]]:
    """The plans of query strings with their answers, and the canonical queries.

    Raises:
        Problem: there are too few or too many, or one cannot be answered.
    """
    check_count(len(queries), "machine")
    if any(address.VERIFIED in query for query in queries):
        keep_pace(request, "verifications")
    answer = partial(_answered, request)
    found = [in_plan(position, answer, query) for position, query in enumerate(queries)]
    return [answered for answered, _ in found], [canonical for _, canonical in found]


def _answered(request: Request, query: str) -> tuple[Answered, str]:
    """A plan on the tier of evidence that its query names, and the canonical query."""
    job, plain, verified = address.evidence_of(query)
    if job is not None:
        return _of_job(request, job), query
    plan, digest = pages.plan_at(request, parse_qsl(plain))
    canonical = address.query(plan.request, digest)
    if verified:
        return reports_of(request).answered(ToVerify(verify=plan.request)), canonical + address.VERIFIED
    return reports_of(request).answered(plan), canonical
