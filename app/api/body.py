"""Reading a JSON body with suspicion, once, without FastAPI's second pass over it."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import from_json

from app.problems import Problem
from app.refusals import from_validation
from planner.contract import EstimateRequest


async def read_json(request: Request) -> Any:
    """The body as JSON values.

    Raises:
        Problem: the body is no JSON, or does not say that it is; NaN, Infinity and 200 levels of nesting are no JSON.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise Problem(
            "unsupported_media_type",
            "the Content-Type header does not say JSON",
            field="Content-Type",
            value=media_type or None,
            accepted="application/json",
        )
    return parse_json(await request.body())


def parse_json(text: bytes | str) -> Any:
    """JSON values of a text.

    Raises:
        Problem: the text is not JSON.
    """
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # TypeError: a text with lone surrogates
        raise Problem(
            "invalid_json", f"the body is not JSON: {error}", field="body", accepted="one JSON object in UTF-8"
        ) from error


def parse_request(values: Any) -> EstimateRequest:
    """A request of the contract.

    Raises:
        Problem: a field breaks the contract.
    """
    try:
        return EstimateRequest.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from error
