"""The yardstick: a bare FastAPI endpoint with our request and our response schema, and nothing behind it."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query

from planner.contract import Answer, EstimateRequest


def create_bare_app(canned: str) -> FastAPI:
    """POST /api/v1/estimates answers every request with one canned answer."""
    application = FastAPI()
    answer = Answer.model_validate_json(canned)

    @application.post("/api/v1/estimates")
    async def estimates(request: EstimateRequest, advice: Annotated[str, Query()] = "full") -> Answer:  # noqa: ARG001  # pyright: ignore[reportUnusedFunction]
        return answer

    @application.get("/livez")
    async def live() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    return application
