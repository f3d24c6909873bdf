"""The web application."""

from __future__ import annotations

from fastapi import FastAPI


def create_app() -> FastAPI:
    """The application, ready for uvicorn."""
    application = FastAPI(title="trainfit")
    application.add_api_route("/livez", _alive, tags=["health"])
    application.add_api_route("/readyz", _alive, tags=["health"])
    return application


async def _alive() -> dict[str, str]:
    return {"status": "ok"}
