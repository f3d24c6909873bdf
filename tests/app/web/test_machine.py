from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.testclient import TestClient

from app.detect.pasted import COMMANDS
from tests.app.detect import printed


def test_the_page_has_the_lines_to_run(client: TestClient) -> None:
    text = client.get("/machine").text
    assert all(command.split(";")[0] in text for command in COMMANDS.values())
    assert "/static/adapter.js" in text


def test_a_pasted_machine_fills_the_form(real_client: TestClient) -> None:
    text = real_client.post("/machine", data={"printed": printed.NVIDIA + printed.HOST}).text
    assert "2 × GeForce RTX 4090 24 GiB" in text
    href = text.split('class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    told = dict(parse_qsl(urlsplit(href).query))
    assert told["device"] == "nvidia-rtx-4090-24gb"
    form = real_client.get(href).text
    assert '<option value="nvidia-rtx-4090-24gb" selected>' in form
    assert f'value="{told["host_memory_gib"]}"' in form


@pytest.mark.parametrize("text", ["", "nothing", "<b>bold</b>", "NVIDIA GeForce RTX 9090, "])
def test_what_describes_nothing_comes_back_with_the_reason(real_client: TestClient, text: str) -> None:
    response = real_client.post("/machine", data={"printed": text})
    assert response.status_code == 422
    assert "no machine was recognised" in response.text
    assert "<b>bold" not in response.text


def test_the_home_page_reads_the_adapter_only_on_a_click(client: TestClient) -> None:
    text = client.get("/").text
    assert 'href="/machine" data-adapter' in text


def test_the_api_names_the_devices_of_an_adapter(client: TestClient) -> None:
    found = client.get("/api/v1/adapters", params={"said": "NVIDIA GeForce RTX 4060 Ti/PCIe/SSE2"}).json()
    assert [item["id"] for item in found["devices"]] == ["nvidia-rtx-4060-ti-8gb", "nvidia-rtx-4060-ti-16gb"]
    assert client.get("/api/v1/adapters", params={"said": "Apple GPU"}).json()["devices"] == []
    assert client.get("/api/v1/adapters", params={"said": "x" * 301}).status_code == 422
