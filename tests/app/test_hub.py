from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from pydantic import SecretStr

from app.hub import MAXIMUM_CONFIG_BYTES, HubClient, parse_config
from app.problems import Problem
from app.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {"model_type": "llama", "hidden_size": 8}
Handler = Callable[[httpx.Request], httpx.Response]


def hub(handler: Handler, token: str | None = None) -> HubClient:
    settings = Settings(
        hub_endpoint="https://hub.example", hf_token=SecretStr(token) if token else None, data_dir=Path("unused")
    )
    return HubClient(settings, httpx.MockTransport(handler))


def refused(handler: Handler, model_id: str = "owner/name", revision: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        hub(handler).config(model_id, revision)
    return caught.value


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"asked {request.url}")


def test_the_config_and_its_commit_are_read() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://hub.example/owner/name/resolve/main/config.json"
        assert "authorization" not in request.headers
        return httpx.Response(200, json=CONFIG, headers={"x-repo-commit": COMMIT})

    found = hub(handler).config("owner/name")
    assert (found.config, found.revision) == (CONFIG, COMMIT)


def test_a_commit_is_asked_for_once() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json=CONFIG, headers={"x-repo-commit": COMMIT})

    client = hub(handler)
    for revision in (None, COMMIT, COMMIT):
        client.config("owner/name", revision)
    assert asked == ["/owner/name/resolve/main/config.json"]


def test_a_redirect_on_the_same_host_is_followed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/resolve-cache"):
            return httpx.Response(200, json=CONFIG)
        return httpx.Response(307, headers={"location": "/api/resolve-cache/x", "x-repo-commit": COMMIT})

    assert hub(handler).config("owner/name").revision == COMMIT


@pytest.mark.parametrize(
    "location", ["https://evil.example/x", "http://hub.example/x", "//evil.example/x", "https://hub.example:444/x", ""]
)
def test_a_redirect_elsewhere_is_not_followed(location: str) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": location})

    problem = refused(handler)
    assert problem.document.code == "hub_unavailable"
    assert set(asked) == {"hub.example"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_names_the_token(status: int) -> None:
    problem = refused(lambda _: httpx.Response(status))
    assert problem.document.code == "model_gated"
    assert "HF_TOKEN" in problem.document.detail


def test_the_token_goes_to_the_endpoint() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer secret"
        return httpx.Response(200, json=CONFIG)

    hub(handler, "secret").config("owner/name")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(404), "unknown_model"),
        (httpx.Response(500), "hub_unavailable"),
        (httpx.Response(200, text="<html>"), "hub_unavailable"),
        (httpx.Response(200, text="[1]"), "hub_unavailable"),
        (httpx.Response(200, text=" " * (MAXIMUM_CONFIG_BYTES + 1)), "hub_unavailable"),
    ],
)
def test_what_is_no_config_is_refused(response: httpx.Response, code: str) -> None:
    assert refused(lambda _: response).document.code == code


def test_no_network_says_what_to_do_instead() -> None:
    assert "paste the model's config.json" in refused(unreachable).document.detail


@pytest.mark.parametrize(
    "model_id",
    [
        "../etc",
        "a/b/c",
        "a/../b",
        "",
        "a b",
        "a/b?x",
        "http://x/y",
        "a/b#c",
        "a//b",
        "-a/b",
        "a/b\n",
        "é/b",
        "a/..",
        "/a",
    ],
)
def test_only_ids_of_the_hubs_form_are_asked_for(model_id: str) -> None:
    assert refused(never, model_id).document.code == "unknown_model"


@pytest.mark.parametrize("revision", ["../x", "a b", "", "a?b", "a//b", "x" * 129, "-x"])
def test_only_revisions_of_gits_form_are_asked_for(revision: str) -> None:
    assert refused(never, "owner/name", revision).document.field == "model.revision"


def test_infinity_in_a_published_config_is_read_as_not_given() -> None:
    assert parse_config('{"time_step_limit": [0.0, Infinity], "x": NaN}') == {"time_step_limit": [0.0, None], "x": None}


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "[" * 10_000, '{"a":' * 5000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_config(text)


def test_the_parsed_config_is_json_again() -> None:
    json.dumps(parse_config('{"a": [1e400, {"b": -Infinity}]}'), allow_nan=False)
