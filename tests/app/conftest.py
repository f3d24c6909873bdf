"""The application with a made-up engine and a made-up machine, so that faces are tested and not numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.hub import HubClient
from app.main import create_app
from app.plans import Plans
from app.settings import Settings
from planner.contract import MachineRequest
from planner.hardware import Machine, resolve_machine
from tests.app.fakes import FakeVerifier, fake_document, fake_estimate


def fake_machine() -> Machine:
    seen = resolve_machine(MachineRequest(device="nvidia-rtx-4090-24gb", host_memory_gib=64, disk_free_gib=500))
    return replace(seen, is_this_machine=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def unreachable_hub(settings: Settings) -> HubClient:
    """A Hub that nobody reaches, whatever the network of the machine that tests."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    return HubClient(settings, httpx.MockTransport(refuse))


def fake_plans(settings: Settings) -> Plans:
    return Plans(settings, look=fake_machine, hub=unreachable_hub(settings), verifier=FakeVerifier())


@pytest.fixture
def application(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The engine is `fake_estimate`; this machine has one RTX 4090."""
    monkeypatch.setattr("app.plans.estimate", fake_estimate)
    monkeypatch.setattr("app.plans.document", fake_document)
    return create_app(settings, fake_plans(settings))


@pytest.fixture
def client(application: FastAPI) -> Iterator[TestClient]:
    with TestClient(application, base_url="http://localhost:8000") as opened:
        yield opened


@pytest.fixture
def real_client(settings: Settings) -> Iterator[TestClient]:
    """The real engine on the made-up machine."""
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost:8000") as opened:
        yield opened
