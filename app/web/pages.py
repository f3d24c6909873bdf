"""The pages. Each is a view of the same service that the API and the command line use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from app import machines
from app.access import needs_token
from app.api.body import parse_request
from app.assets import assets_directory
from app.hub import parse_config
from app.plans import Plan, Plans
from app.problems import KINDS, Problem
from app.web import address, form, markdown
from app.web.configs import ConfigStore
from app.web.heat import heat_of
from app.web.offers import rental_of
from app.web.result import Result, result_of
from app.web.templating import page, render
from planner.catalog.models import UnknownModel, all_models, find_models, model
from planner.catalog.offers import price_dates
from planner.contract import Answer, EstimateRequest
from planner.hardware import Machine, UnknownDevice, all_devices, device, find_devices
from planner.support import kind_of, routes_for
from planner.units import GIB

router = APIRouter(include_in_schema=False)

METHODS = (
    ("lora", "LoRA", "small adapters, base in 16 bit"),
    ("qlora", "QLoRA", "adapters on a 4-bit or 8-bit base"),
    ("dora", "DoRA", "LoRA with a learned magnitude"),
    ("freeze", "Last layers", "the other layers stay as they are"),
    ("full", "Full", "every weight is trained"),
)
EXAMPLES = (
    (
        "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora",
        "Llama 3.1 8B, QLoRA, RTX 4090",
    ),
    ("/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=full", "the same, every weight"),
    ("/plan?v=1&model=Qwen/Qwen2.5-0.5B&method=lora&tokens=1000000", "a 0.5 B model right here"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """What every page says of the site that serves it."""

    version: str
    machine_label: str
    local_directories: bool


def site_of(request: Request) -> Site:
    """The site that answers this request."""
    return request.app.state.site


def site_page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page of this site."""
    shown = {"here": request.url.path, **values}
    return page(template, status, version=site_of(request).version, **shown)


@router.get("/")
def home(request: Request) -> HTMLResponse:
    """The form, filled with what the address says."""
    return _form_page(request, form.Form(dict(request.query_params)), request.query_params.getlist("with"))


def _form_page(
    request: Request, filled: form.Form, compared_with: Sequence[str] = (), status: int = 200
) -> HTMLResponse:
    site = site_of(request)
    return site_page(
        request,
        "home.html",
        status,
        here="/",
        form=filled,
        compared_with=compared_with,
        models=all_models(),
        machine_label=site.machine_label,
        here_machine=machines.shown(request.app.state.plans.this_machine()),
        device_groups=machines.groups(),
        local_directories=site.local_directories,
        methods=METHODS,
        front=form.FRONT,
        groups=form.GROUPS,
        knob=form.knob,
        examples=EXAMPLES,
        anchors={name: name if name in ("model", "config_text") else f"knob-{name}" for name in filled.errors},
        names={name: form.label(name) for name in filled.errors},
    )


@router.post("/plan")
async def submit(request: Request) -> Response:
    """The form as it was sent: to its plan's address, or back with what is wrong."""
    async with request.form(max_files=1, max_fields=100, max_part_size=2**20) as sent:
        typed = {name: text for name, text in sent.items() if isinstance(text, str) and name != "with"}
        compared_with = [text for text in sent.getlist("with") if isinstance(text, str)]
        uploaded = await _uploaded(sent)
    return await run_in_threadpool(_submit, request, typed, uploaded, compared_with)


async def _uploaded(sent: FormData) -> str:
    file = sent.get("config_file")
    if not isinstance(file, UploadFile) or not file.filename:
        return ""
    return (await file.read()).decode("utf-8", "replace")


def _submit(request: Request, typed: dict[str, str], uploaded: str, compared_with: Sequence[str]) -> Response:
    values = {name: text for name, text in typed.items() if text.strip()}
    if uploaded.strip():
        values["config_text"] = uploaded
    pasted = values.pop("config_text", "")
    try:
        if pasted:
            values = {name: text for name, text in values.items() if name not in ("model", "revision", "config")}
        elif "model" in values:
            values.pop("config", None)
        asked = address.parse(values.items())
        config = _pasted(pasted) if pasted else stored(request, asked)
        plan, _ = _evaluated(request, asked, config)
        digest = _store(request).put(config) if config is not None else None
    except Problem as problem:
        kept = {**values, "config_text": pasted} if pasted else values
        return _form_page(request, form.with_problem({**typed, **kept}, problem), compared_with, problem.status)
    query = address.query(plan.request, digest)
    there = address.comparison([*compared_with, query]) if compared_with else f"/plan?{query}"
    return RedirectResponse(there, status_code=303)


def _pasted(text: str) -> dict[str, Any]:
    try:
        return parse_config(text)
    except ValueError as error:
        raise Problem(
            "invalid_config",
            f"the pasted text is not a config.json: {error}",
            field="model.config",
            accepted="a JSON object, as the model's config.json is",
        ) from error


def _store(request: Request) -> ConfigStore:
    return request.app.state.configs


def stored(request: Request, asked: address.Address) -> dict[str, Any] | None:
    """The pasted configuration that an address names by its hash."""
    return _store(request).get(asked.config_hash) if asked.config_hash else None


def _planned(request: Request, asked: address.Address, config: Mapping[str, Any] | None) -> Plan:
    if config is None and asked.model_id is None:
        raise Problem(
            "invalid_request",
            "no model was given",
            field="model.id",
            accepted="a known model, an id of the Hub, or a pasted config.json",
        )
    plans: Plans = request.app.state.plans
    return plans.plan(parse_request(asked.values(config)))


def _evaluated(
    request: Request, asked: address.Address, config: Mapping[str, Any] | None, *, advice: bool = False
) -> tuple[Plan, Answer]:
    plan = _planned(request, asked, config)
    plans: Plans = request.app.state.plans
    return plan, plans.evaluate(plan, advice=advice)


def plan_of(request: Request) -> tuple[Plan, str | None]:
    """The plan that the address holds, and the hash of its configuration if that was pasted.

    Raises:
        Problem: the address holds none.
    """
    return plan_at(request, request.query_params.multi_items())


def plan_at(request: Request, pairs: Iterable[tuple[str, str]]) -> tuple[Plan, str | None]:
    """The plan that the pairs of a query string mean, and the hash of its configuration if that was pasted.

    Raises:
        Problem: they mean none.
    """
    asked = address.parse(pairs)
    return _planned(request, asked, stored(request, asked)), asked.config_hash


@router.get("/plan")
def plan_page(request: Request) -> Response:
    """The answer to the plan that the address holds; without one, the form."""
    if not request.url.query:
        return RedirectResponse("/", status_code=302)
    try:
        plan, result = _result(request)
    except Problem as problem:
        filled = form.with_problem(dict(request.query_params), problem)
        return _form_page(request, filled, status=problem.status)
    if request.url.query != result.query:
        return RedirectResponse(f"/plan?{result.query}", status_code=302)
    values = _result_values(request, result) | _around_values(request, plan, result)
    return site_page(request, "plan.html", **values)


def _result(request: Request) -> tuple[Plan, Result]:
    asked = address.parse(request.query_params.multi_items())
    config = stored(request, asked)
    plan, answer = _evaluated(request, asked, config, advice=True)
    return plan, result_for(request, plan, answer, asked.config_hash)


def _around_values(request: Request, plan: Plan, result: Result) -> dict[str, Any]:
    """The map of batch and sequence, and the offers that run the plan."""
    plans: Plans = request.app.state.plans
    around = plans.around(plan) if result.answer.memory is not None else None
    if around is None:
        return {"heat": None, "rentals": []}
    hash_ = result.pairs.get("config")
    return {
        "heat": heat_of(around.heat, around.prepared, plan.request, hash_),
        "rentals": [rental_of(found, hash_) for found in around.rentals],
        "prices_as_of": price_dates(),
    }


def result_for(request: Request, plan: Plan, answer: Answer, config_hash: str | None) -> Result:
    """A plan's answer as the pages show it."""
    return result_of(
        answer.model_copy(update={"request": plan.request}),
        config_hash=config_hash,
        model_name=plan.request.model.id or f"pasted {plan.config.get('model_type', 'model')}",
        device_name=machines.name_of(plan.request.machine, site_of(request).machine_label),
    )


def _result_values(request: Request, result: Result) -> dict[str, Any]:
    site = site_of(request)
    asked = result.answer.request
    machine = request.app.state.plans.machine(asked)
    architecture = machine.device.architecture
    return {
        "result": result,
        "sizes": _sizes(machine, asked, result.pairs.get("config")),
        "machine_kind": kind_of(architecture),
        "routes": routes_for(architecture, asked.run.method or result.answer.assumed.get("run.method", "")),
        "today": datetime.now(UTC).date().isoformat(),
        "base_address": str(request.base_url).rstrip("/"),
        "machine_label": site.machine_label,
        "needs_token": needs_token(request.app.state.settings),
        "on_this_machine": result.answer.request.machine.device == "this-machine" and asked.machine.offer is None,
    }


def _sizes(machine: Machine, asked: EstimateRequest, config_hash: str | None) -> Sequence[tuple[int, str]]:
    """(GiB, address) of each size that the device is sold with, where nobody said which it has."""
    if "machine.device_memory_gib" not in machine.assumed:
        return ()
    sizes = [option // GIB for option in machine.device.memory_options_bytes]
    return [(size, f"/plan?{address.query(_with_memory(asked, size), config_hash)}") for size in sizes]


def _with_memory(asked: EstimateRequest, gib: int) -> EstimateRequest:
    machine = asked.machine.model_copy(update={"device_memory_gib": float(gib)})
    return asked.model_copy(update={"machine": machine})


@router.get("/plan.json")
def plan_json(request: Request) -> Response:
    """The answer as the API gives it."""
    return Response(_result(request)[1].answer.model_dump_json(), media_type="application/json")


@router.get("/plan.md")
def plan_markdown(request: Request) -> Response:
    """The answer for issues and model cards."""
    text = render("plan.markdown", **_result_values(request, _result(request)[1]))
    return PlainTextResponse(text, media_type="text/markdown")


@router.get("/models")
def models_page(request: Request, q: str = "", cursor: str | None = None) -> HTMLResponse:
    """The catalogue of models."""
    try:
        found = find_models(q[:200], limit=50, cursor=cursor)
    except UnknownModel as error:
        raise Problem("not_found", "the list has no such place", field="cursor", value=cursor) from error
    return site_page(request, "models.html", here="/models", page=found, q=q[:200], total=len(all_models()))


@router.get("/models/{model_id:path}")
def model_page(request: Request, model_id: str) -> HTMLResponse:
    """One model."""
    try:
        entry = model(model_id)
    except UnknownModel as error:
        raise Problem("unknown_model", "the catalogue has no model of that id", field="id", value=model_id) from error
    text = json.dumps(entry.config, indent=2, ensure_ascii=False)
    return site_page(request, "model.html", here="/models", entry=entry, config_text=text)


@router.get("/methodology")
@router.get("/glossary")
def document(request: Request) -> HTMLResponse:
    """How each number is computed, and what the words mean."""
    name = request.url.path.strip("/")
    text = (assets_directory("docs") / f"{name}.md").read_text(encoding="utf-8")
    title = text.partition("\n")[0].lstrip("# ")
    return site_page(request, "document.html", title=title, body=markdown.to_html(text))


@router.get("/errors")
def errors(request: Request) -> HTMLResponse:
    """Every error code and what to do."""
    return site_page(request, "errors.html", kinds=KINDS)


@router.get("/devices")
def devices_page(request: Request, q: str = "", cursor: str | None = None) -> HTMLResponse:
    """The catalogue of devices."""
    try:
        found = find_devices(q[:200], limit=50, cursor=cursor)
    except ValueError as error:
        raise Problem("not_found", "the list has no such place", field="cursor", value=cursor) from error
    return site_page(request, "devices.html", here="/devices", page=found, q=q[:200], total=len(all_devices()))


@router.get("/devices/{device_id}")
def device_page(request: Request, device_id: str) -> HTMLResponse:
    """One device."""
    try:
        item = device(device_id)
    except UnknownDevice as error:
        raise Problem("unknown_device", str(error), field="id", value=device_id, status=404) from error
    return site_page(request, "device.html", here="/devices", item=item)


@router.get("/about")
def about(request: Request) -> HTMLResponse:
    """What trainfit is."""
    return site_page(
        request,
        "about.html",
        here="/about",
        base_address=str(request.base_url).rstrip("/"),
        model_count=len(all_models()),
        device_count=len(all_devices()),
    )
