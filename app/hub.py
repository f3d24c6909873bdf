"""A model's config.json from the Hub: one endpoint, no redirect to anywhere else, small answers only."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pydantic_core import from_json

from app.problems import Problem

if TYPE_CHECKING:
    import httpx2 as httpx

    from app.settings import Settings

MAXIMUM_CONFIG_BYTES = 2**20
MAXIMUM_REDIRECTS = 3
_CACHE_ENTRIES = 256
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PASTE = "paste the model's config.json instead"


@dataclass(frozen=True, slots=True)
class HubConfig:
    """A config.json and the commit that it was read at, when the Hub said it."""

    config: Mapping[str, Any]
    revision: str | None


class HubClient:
    """Reads config.json files, and remembers those that were asked for by commit: a commit never changes."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._endpoint = settings.hub_endpoint.rstrip("/")
        self._timeout_seconds = settings.hub_timeout_seconds
        self._token = settings.hf_token.get_secret_value() if settings.hf_token else None
        self._transport = transport
        self._cache: dict[tuple[str, str], HubConfig] = {}
        self._lock = threading.Lock()

    def config(self, model_id: str, revision: str | None = None) -> HubConfig:
        """The config.json of a model.

        Raises:
            Problem: the id is not one of the Hub's form, the Hub does not answer, says no, or sends no usable file.
        """
        _check(model_id, revision)
        cached = self._cache.get((model_id, revision or ""))
        if cached is not None:
            return cached
        found = self._fetch(model_id, revision or "main")
        if found.revision is not None:
            self._remember(model_id, found)
        return found

    def _remember(self, model_id: str, found: HubConfig) -> None:
        with self._lock:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[(model_id, found.revision or "")] = found

    def _fetch(self, model_id: str, revision: str) -> HubConfig:
        import httpx2 as httpx

        url = f"{self._endpoint}/{model_id}/resolve/{revision}/config.json"
        headers = {"user-agent": "trainfit", "accept": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            with httpx.Client(
                timeout=self._timeout_seconds,
                follow_redirects=False,
                trust_env=self._transport is None,
                transport=self._transport,
            ) as client:
                return self._follow(client, url, headers, model_id)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            host = urlsplit(self._endpoint).hostname
            raise Problem(
                "hub_unavailable",
                f"{host} cannot be reached ({type(error).__name__}); {_PASTE}",
                field="model.id",
                value=model_id,
            ) from error

    def _follow(self, client: httpx.Client, url: str, headers: dict[str, str], model_id: str) -> HubConfig:
        commit: str | None = None
        for _ in range(MAXIMUM_REDIRECTS + 1):
            with client.stream("GET", url, headers=headers) as response:
                commit = _commit_of(response) or commit
                if response.status_code not in (301, 302, 303, 307, 308):
                    _check_status(response.status_code, model_id)
                    return HubConfig(_parse(_read_capped(response, model_id), model_id), commit)
                url = self._redirected(url, response.headers.get("location", ""), model_id)
        raise _refused("the Hub redirects in a circle", model_id)

    def _redirected(self, url: str, location: str, model_id: str) -> str:
        target = urljoin(url, location)
        if _origin(target) != _origin(self._endpoint):
            raise _refused("the Hub redirects to another server, which is not followed", model_id)
        return target


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _check(model_id: str, revision: str | None) -> None:
    if not _ID.fullmatch(model_id) or ".." in model_id:
        raise Problem(
            "unknown_model",
            "the model is not in the catalogue, and its id is not one of the Hub's form",
            field="model.id",
            value=model_id,
            accepted="a catalogue id, `owner/name` on the Hub, or a directory that holds a config.json",
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise Problem(
            "invalid_request",
            "the revision is not a branch, a tag or a commit",
            field="model.revision",
            value=revision,
            accepted="letters, digits and . _ - / of a branch, a tag or a commit",
        )


def _commit_of(response: httpx.Response) -> str | None:
    commit = response.headers.get("x-repo-commit", "")
    return commit if _COMMIT.fullmatch(commit) else None


def _check_status(status: int, model_id: str) -> None:
    if status in (401, 403):
        raise Problem(
            "model_gated",
            f"{model_id} is gated, private or not there: accept its licence on the Hub and set HF_TOKEN, or {_PASTE}",
            field="model.id",
            value=model_id,
        )
    if status == 404:
        raise Problem(
            "unknown_model",
            f"the Hub has no config.json for {model_id} at this revision; {_PASTE}",
            field="model.id",
            value=model_id,
            accepted="a catalogue id, or a repository of the Hub with a config.json",
        )
    if status != 200:
        raise _refused(f"the Hub answered with status {status}", model_id)


def _read_capped(response: httpx.Response, model_id: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAXIMUM_CONFIG_BYTES:
            raise _refused("the file is larger than any config.json", model_id)
    return bytes(body)


def _parse(body: bytes, model_id: str) -> Mapping[str, Any]:
    try:
        return parse_config(body)
    except ValueError as error:
        raise _refused(f"the file is not a config.json ({error})", model_id) from error


def _refused(why: str, model_id: str) -> Problem:
    return Problem("hub_unavailable", f"{why}; {_PASTE}", field="model.id", value=model_id)


def parse_config(body: bytes | str) -> dict[str, Any]:
    """A config.json as an object, without NaN, Infinity or depth beyond reason.

    Some published files hold Infinity (`time_step_limit` of Mamba-2), which no JSON parser need accept; it is read as
    null, which every reader takes as "not given".

    Raises:
        ValueError: the text is not a JSON object.
    """
    found = from_json(body, allow_inf_nan=True)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return _finite(found)  # pyright: ignore[reportUnknownArgumentType]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_finite(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return None if isinstance(value, float) and value - value != 0 else value


def canonical_json(config: Mapping[str, Any]) -> str:
    """The text that a configuration's hash is taken of: sorted keys, no spaces."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
