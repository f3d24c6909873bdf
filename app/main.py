"""The web application: routes, and how every error is answered."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.api import (
    adapters,
    calibrations,
    catalog,
    differences,
    estimates,
    health,
    jobs,
    metrics,
    offers,
    reports,
    searches,
    software,
    verifications,
)
from app.api.examples import with_examples
from app.api.hot import HotRoute
from app.assets import assets_directory
from app.calibrations import CalibrationBook
from app.db.errors import DatabaseUnavailable
from app.db.opened import OpenedDatabase
from app.guard import Guard, is_loopback
from app.jobs.handed_over import HandedOver
from app.jobs.service import JobService
from app.pace import all_paces
from app.plans import Plans
from app.problems import Problem, shorten
from app.refusals import from_parameters
from app.reports.service import Reports
from app.responses import PROBLEM_RESPONSES, respond
from app.settings import Settings
from app.web import accuracy, claims, compare, differ, machine, pages, verification
from app.web import calibrations as calibration_pages
from app.web import jobs as job_pages
from app.web import offers as offers_page
from app.web import reports as report_pages
from app.web import search as search_page
from app.web import software as software_page
from app.web.configs import ConfigStore

NEW_OBJECTS_BEFORE_COLLECTION = 50_000
"""An answer is some thousand objects in no cycle, which the default of 700 would look through several times over."""
_API = (
    estimates, searches, verifications, differences, jobs, calibrations, reports, catalog, adapters, offers, software,
)  # fmt: skip
_PAGES = (
    pages, verification, job_pages, compare, report_pages, calibration_pages, software_page, offers_page, search_page,
    accuracy, claims, differ, machine,
)  # fmt: skip
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def product_version() -> str:
    """The installed version; a checkout that was never installed has none."""
    try:
        return version("trainfit")
    except PackageNotFoundError:
        return "0+checkout"


def create_app(settings: Settings | None = None, plans: Plans | None = None) -> FastAPI:
    """The application, ready for uvicorn."""
    settings = settings or Settings()
    gc.set_threshold(NEW_OBJECTS_BEFORE_COLLECTION)
    application = FastAPI(
        title="trainfit",
        summary="Can I train or fine-tune this model on this machine? How, how fast and at what price?",
        version=product_version(),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        lifespan=_lifespan,
    )
    _equip(application, settings, plans)
    for module in (health, metrics):
        application.include_router(module.router)
    for module in _API:
        application.include_router(module.router, prefix="/api/v1", responses=PROBLEM_RESPONSES)
    for module in _PAGES:
        application.include_router(module.router)
    application.mount("/static", _Static(directory=assets_directory("static")))
    _describe(application)
    _answer_errors(application)
    application.add_middleware(HotRoute)
    application.add_middleware(
        Guard,
        respond=respond,
        loopback_only=is_loopback(settings.host),
        allowed_hosts=settings.allowed_hosts,
    )
    return application


def _equip(application: FastAPI, settings: Settings, plans: Plans | None) -> None:
    """What the routes find in the application's state."""
    application.state.database = OpenedDatabase(settings)
    application.state.plans = plans or Plans(settings, calibrations=CalibrationBook(application.state.database))
    application.state.jobs = JobService(application.state.plans, application.state.database)
    application.state.handed_over = HandedOver(application.state.jobs, application.state.plans.verification_limits())
    application.state.settings = settings
    application.state.configs = ConfigStore(settings.data_dir / "configs")
    application.state.paces = {} if is_loopback(settings.host) else all_paces()
    machine_label = "This machine" if is_loopback(settings.host) else "This server"
    application.state.reports = Reports(
        application.state.plans, application.state.database, application.state.jobs.get, machine_label
    )
    application.state.site = pages.Site(product_version(), machine_label, settings.local_directories)


def _describe(application: FastAPI) -> None:
    """The API's description, made on first use and kept, with an example of each operation."""
    described = application.openapi

    def with_each() -> dict[str, Any]:
        return described() if application.openapi_schema else with_examples(described())

    application.openapi = with_each


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncGenerator[None]:
    """Processes that requests started end with the server, and connections are given back."""
    yield
    await run_in_threadpool(application.state.plans.close)
    await run_in_threadpool(application.state.jobs.close)
    await run_in_threadpool(application.state.database.close)


class _Static(StaticFiles):
    """Static files, whose addresses hold the hash of their content: a browser may keep them for good."""

    async def get_response(self, path: str, scope: dict[str, object]) -> Response:  # pyright: ignore[reportIncompatibleMethodOverride]
        response = await super().get_response(path, scope)  # pyright: ignore[reportArgumentType]
        if response.status_code == 200 and b"v=" in bytes(scope.get("query_string", b"")):  # pyright: ignore[reportArgumentType]
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def _parameter_schemas(request: Request) -> dict[str, dict[str, Any]]:
    """The JSON schemas of the parameters that the route of a request reads, by name."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return {}
    fields = [*dependant.query_params, *dependant.path_params, *dependant.header_params]
    return {field.alias: _schema_of(field.field_info) for field in fields}


def _schema_of(parameter: FieldInfo) -> dict[str, Any]:
    described: Any = Annotated[parameter.annotation, parameter]  # pyright: ignore
    return TypeAdapter[Any](described).json_schema()


def _method_problem(method: str, allowed: str) -> Problem:
    return Problem(
        "method_not_allowed",
        f"{method} is not answered here; accepted: {allowed or 'another method'}",
        field="method",
        value=method,
        accepted=allowed or None,
    )


def _answer_errors(application: FastAPI) -> None:
    """Every error, expected or not, is a problem with a code."""

    async def problem(request: Request, error: Problem) -> Response:
        return respond(request, error)

    async def parameters(request: Request, error: RequestValidationError) -> Response:
        return respond(request, from_parameters(error.errors(), _parameter_schemas(request)))

    async def http(request: Request, error: HTTPException) -> Response:
        code = _STATUS_CODES.get(error.status_code, "bad_request")
        if code == "method_not_allowed":
            found = _method_problem(request.method, (error.headers or {}).get("Allow", ""))
        else:
            known = error.detail == "Not Found"
            detail = f"there is nothing at {shorten(request.url.path)}" if known else str(error.detail)
            found = Problem(code, detail, status=error.status_code)
        response = respond(request, found)
        response.headers.update(error.headers or {})
        return response

    async def database(request: Request, error: DatabaseUnavailable) -> Response:
        return respond(request, Problem("database_unavailable", f"the database does not answer: {error}"))

    async def fault(request: Request, _: Exception) -> Response:
        return respond(request, Problem("internal", "trainfit failed to answer; the log of the server has the details"))

    application.add_exception_handler(Problem, problem)  # pyright: ignore[reportArgumentType]
    application.add_exception_handler(RequestValidationError, parameters)  # pyright: ignore[reportArgumentType]
    application.add_exception_handler(HTTPException, http)  # pyright: ignore[reportArgumentType]
    application.add_exception_handler(DatabaseUnavailable, database)  # pyright: ignore[reportArgumentType]
    application.add_exception_handler(Exception, fault)
