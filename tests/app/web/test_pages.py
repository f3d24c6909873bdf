from __future__ import annotations

import re
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.assets import assets_directory
from app.hub import HubClient
from app.main import create_app
from app.plans import Plans
from app.settings import Settings
from planner.catalog.models import all_models
from planner.hardware import all_devices
from tests.app.conftest import fake_machine

HTML = {"accept": "text/html"}
NO = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=full"
YES = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora"
PAGES = [
    "/",
    NO,
    YES,
    "/models",
    "/models/meta-llama/Llama-3.1-8B",
    "/devices",
    "/devices/nvidia-rtx-4090-24gb",
    "/software",
    "/software?q=nothing+like+it",
    "/about",
    "/errors",
    "/methodology",
    "/models?q=nothing+like+it",
    "/devices?q=nothing+like+it",
]


def page(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address, headers=HTML, follow_redirects=False)
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_whole_and_obeys_its_own_policy(client: TestClient, address: str) -> None:
    text = page(client, address)
    assert text.rstrip().endswith("</html>")
    assert len(re.findall(r"<h1\b", text)) == 1
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


@pytest.mark.parametrize("address", PAGES)
def test_ids_are_unique_and_inner_links_lead_somewhere(client: TestClient, address: str) -> None:
    text = page(client, address)
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


@pytest.mark.parametrize("address", PAGES[:4])
def test_memory_is_in_gib_only(client: TestClient, address: str) -> None:
    assert not re.search(r"\d\s?[GM]B\b", page(client, address))


def test_the_form_offers_this_machine_and_every_known_one(client: TestClient) -> None:
    text = page(client, "/")
    assert '<option value="this-machine">This machine: GeForce RTX 4090 24 GiB</option>' in text
    assert "23.6 GiB usable" in text
    assert text.count("<option value=") >= len(all_models()) + len(all_devices())


def test_on_another_address_this_machine_is_the_servers(application: FastAPI, tmp_path: Path) -> None:
    plans: Plans = application.state.plans
    client = TestClient(
        create_app(Settings(host="0.0.0.0", data_dir=tmp_path), plans), base_url="http://planner.example"
    )
    text = page(client, "/")
    assert "This server: GeForce RTX 4090" in text
    assert "This machine" not in text
    assert "this server" in page(client, "/plan?v=1&model=meta-llama/Llama-3.1-8B")


def test_a_machine_that_cannot_be_looked_at_is_said_so(settings: Settings) -> None:
    client = TestClient(create_app(settings, Plans(settings, look=lambda: None)), base_url="http://localhost")
    assert "could not be looked at" in page(client, "/")


def test_the_form_is_filled_from_the_address(client: TestClient) -> None:
    text = page(client, "/?model=a/b&method=full&sequence_length=512&loss=chunked&device=nvidia-rtx-4090-24gb")
    assert 'value="a/b"' in text
    assert 'value="512"' in text
    assert 'value="full" checked' in text
    assert '<option value="chunked" selected>' in text
    assert '<option value="nvidia-rtx-4090-24gb" selected>' in text


def test_a_sent_form_leads_to_the_plans_address(client: TestClient) -> None:
    sent = {
        "model": "meta-llama/Llama-3.1-8B",
        "device": "nvidia-rtx-4090-24gb",
        "method": "qlora",
        "tokens": "",
        "loss": "",
    }
    answer = client.post("/plan", data=sent, headers=HTML, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, YES)


def test_a_wrong_form_comes_back_filled_with_each_error_beside_its_input(client: TestClient) -> None:
    sent = {"model": "meta-llama/Llama-3.1-8B", "sequence_length": "many", "lora.rank": "0", "method": "dora"}
    answer = client.post("/plan", data=sent, headers=HTML)
    text = answer.text
    assert answer.status_code == 422
    assert 'value="many"' in text
    assert 'value="dora" checked' in text
    assert 'id="knob-sequence_length-error"' in text
    assert 'id="knob-lora.rank-error"' in text
    assert re.search(r'<details id="adapters" open>', text)
    assert 'role="alert"' in text


@pytest.mark.parametrize(
    ("sent", "anchor"),
    [
        ({}, "model"),
        ({"model": "../etc/passwd"}, "model"),
        ({"model": "meta-llama/Llama-3.1-8B", "device": "nope"}, "knob-device"),
        ({"config_text": "{"}, "config_text"),
        ({"config_text": "[1]"}, "config_text"),
    ],
)
def test_the_error_summary_leads_to_the_input(client: TestClient, sent: dict[str, str], anchor: str) -> None:
    answer = client.post("/plan", data=sent, headers=HTML)
    assert answer.status_code in (404, 422)
    assert f'href="#{anchor}"' in answer.text


def test_a_pasted_config_is_kept_in_the_address_by_its_hash(client: TestClient) -> None:
    sent = {"config_text": '{"model_type": "llama", "hidden_size": 8}', "device": "nvidia-rtx-4090-24gb"}
    answer = client.post("/plan", data=sent, headers=HTML, follow_redirects=False)
    location = answer.headers["location"]
    assert re.fullmatch(r"/plan\?v=1&config=[0-9a-f]{64}&device=nvidia-rtx-4090-24gb", location)
    assert "pasted llama" in page(client, location)
    assert re.search(r"/plan\?v=1&amp;config=[0-9a-f]{64}&amp;device=[^\"]*method=qlora", page(client, location))


def test_an_uploaded_config_wins_over_a_model(client: TestClient) -> None:
    files = {"config_file": ("config.json", b'{"model_type": "llama"}', "application/json")}
    answer = client.post("/plan", data={"model": "a/b"}, files=files, headers=HTML, follow_redirects=False)
    assert "config=" in answer.headers["location"]
    assert "model=" not in answer.headers["location"]


def test_an_address_is_made_canonical(client: TestClient) -> None:
    answer = client.get(f"{YES}&sequence_length=&compile=false".replace("v=1&", ""), follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, YES)


def test_a_no_says_what_makes_it_a_yes_first(client: TestClient) -> None:
    text = page(client, NO)
    assert "Does not fit" in text
    fix = text.index("The smallest change that makes it a yes")
    assert text.index('id="verdict"') < fix < text.index('id="memory"') < text.index('id="levers"')
    assert text.index('id="levers"') < text.index('id="time"') < text.index('id="ledger"')
    assert re.search(r'href="/plan\?v=1&amp;model=meta-llama/Llama-3.1-8B[^"]*method=qlora"', text)


def test_a_lever_that_saves_nothing_says_so(client: TestClient) -> None:
    assert "saves nothing" in page(client, NO)


def test_every_chart_has_a_title_a_description_and_a_table(client: TestClient) -> None:
    text = page(client, YES)
    charts = re.findall(r'<svg[^>]*role="img".*?</svg>', text, re.DOTALL)
    assert charts
    for chart in charts:
        assert "<title id=" in chart
        assert "<desc id=" in chart
    assert text.count("<caption>") == text.count("<table")


def test_a_plan_that_is_not_modelled_has_a_page(client: TestClient) -> None:
    sent = {"config_text": '{"model_type": "martian"}'}
    text = client.post("/plan", data=sent, headers=HTML).text
    assert "Not modelled yet" in text
    assert 'id="memory"' not in text


def test_without_the_hub_the_form_says_to_paste_the_config(client: TestClient) -> None:
    answer = client.post("/plan", data={"model": "owner/unheard-of"}, headers=HTML)
    assert answer.status_code == 424
    assert "paste the model&#39;s config.json instead" in answer.text
    assert 'value="owner/unheard-of"' in answer.text


@pytest.mark.usefixtures("application")
def test_a_model_of_the_hub_is_pinned_to_its_commit(settings: Settings) -> None:
    commit = "c" * 40

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path in (f"/owner/name/resolve/{at}/config.json" for at in ("main", commit))
        return httpx.Response(200, json={"model_type": "llama"}, headers={"x-repo-commit": commit})

    plans = Plans(settings, look=fake_machine, hub=HubClient(settings, httpx.MockTransport(answer)))
    client = TestClient(create_app(settings, plans), base_url="http://localhost")
    sent = client.post("/plan", data={"model": "owner/name"}, headers=HTML, follow_redirects=False)
    assert sent.headers["location"] == f"/plan?v=1&model=owner/name&revision={commit}"
    assert "owner/name" in page(client, sent.headers["location"])


@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_exports_hold_the_same_answer(client: TestClient, suffix: str) -> None:
    answer = client.get(NO.replace("/plan", f"/plan{suffix}"))
    assert answer.status_code == 200
    assert "Does not fit on 1 × RTX 4090" in answer.text


def test_an_export_of_a_wrong_plan_is_a_problem(client: TestClient) -> None:
    answer = client.get("/plan.json?v=1&model=a/b&sequence_length=x", headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nothing", 404),
        ("/models/nobody/nothing", 404),
        ("/devices/nothing", 404),
        ("/models?cursor=x", 404),
        ("/devices?cursor=x", 404),
        ("/plan?v=1", 422),
        ("/plan?v=9&model=a/b", 422),
        (f"/plan?v=1&config={'0' * 64}", 404),
        ("/plan?v=1&model=a/b&bogus=1", 422),
        ("/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nope", 422),
    ],
)
def test_errors_are_pages_too(client: TestClient, address: str, status: int) -> None:
    text = page(client, address, status)
    assert "</html>" in text
    assert len(re.findall(r"<h1\b", text)) == 1


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x>', "{{7*7}}", "a" * 5000, "\x00", "é😀"]
)
def test_what_people_type_is_shown_as_text(client: TestClient, hostile: str) -> None:
    answer = client.post("/plan", data={"model": hostile, "sequence_length": hostile}, headers=HTML)
    assert answer.status_code in (404, 422)
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert ">49<" not in answer.text
    for address in ("/models", "/devices", "/"):
        assert "<script>alert" not in client.get(address, params={"q": hostile, "model": hostile}).text


def test_a_form_with_too_many_fields_is_refused(client: TestClient) -> None:
    answer = client.post("/plan", data={f"field{number}": "x" for number in range(500)}, headers=HTML)
    assert 400 <= answer.status_code < 500


def test_static_files_are_kept_by_browsers(client: TestClient) -> None:
    address = re.search(r'href="(/static/trainfit\.css\?v=[0-9a-f]{12})"', page(client, "/"))
    assert address
    answer = client.get(address[1])
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get("/static/../pyproject.toml").status_code == 404


def test_the_stylesheet_is_small() -> None:
    assert (assets_directory("static") / "trainfit.css").stat().st_size <= 24_000
