"""The pages of comparisons and reports."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.reports.document import ReportDocument
from app.web import address
from app.web.compare import MODEL_EXAMPLES, OFTEN
from planner.catalog.models import model
from planner.catalog.offers import offer
from planner.hardware import device

HTML = {"accept": "text/html"}
MODEL = "meta-llama/Llama-3.1-8B"
QLORA = f"v=1&model={MODEL}&device=nvidia-rtx-4090-24gb&method=qlora"
FULL = f"v=1&model={MODEL}&device=nvidia-rtx-4090-24gb&method=full"
T4 = f"v=1&model={MODEL}&device=nvidia-t4-16gb&method=qlora"
COMPARISON = address.comparison([QLORA, FULL, T4])
PAGES = ["/compare", address.comparison([QLORA]), COMPARISON, COMPARISON + "&add=1", "/reports"]
TYPED = {
    "model": MODEL,
    "method": "qlora",
    "machine": ["this-machine", "nvidia-rtx-4090-24gb", "offer:kaggle-gpu-t4-x2"],
}


def page(client: TestClient, there: str, status: int = 200) -> str:
    answer = client.get(there, headers=HTML, follow_redirects=False)
    assert answer.status_code == status, answer.text[:500]
    return answer.text


def visible(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def save(client: TestClient, queries: tuple[str, ...] = (QLORA, FULL, T4), **words: str) -> str:
    """Where a saved comparison is."""
    sent = {"plan": list(queries), "baseline": "0", "title": "", "notes": "", **words}
    answer = client.post("/compare/save", data=sent, headers=HTML, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


@pytest.mark.parametrize("there", [*PAGES, "report"])
def test_every_page_is_whole_and_obeys_its_own_policy(client: TestClient, there: str) -> None:
    text = page(client, save(client) + "?current=1" if there == "report" else there)
    assert text.rstrip().endswith("</html>")
    assert len(re.findall(r"<h1\b", text)) == 1
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    if there in (COMPARISON, "report"):  # the form shows offers by the providers' own names, some with GB
        assert not re.search(r"\d\s?[GM]B\b", text)
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert len(text.encode()) < 150_000


# --- comparing -------------------------------------------------------------------------------------------------------


def test_machines_and_models_that_stand_in_front_are_known() -> None:
    for value in OFTEN:
        assert offer(value[6:]) if value.startswith("offer:") else device(value)
    assert all(model(model_id) for model_id in MODEL_EXAMPLES)


def test_several_machines_are_compared_in_one_step(client: TestClient) -> None:
    answer = client.post("/compare", data=TYPED, headers=HTML, follow_redirects=False)
    assert answer.status_code == 303
    plans = [dict(parse_qsl(text)) for _, text in parse_qsl(urlsplit(answer.headers["location"]).query)]
    assert [plan.get("device") for plan in plans] == [None, "nvidia-rtx-4090-24gb", None]
    assert plans[2]["offer"] == "kaggle-gpu-t4-x2"
    assert {plan["method"] for plan in plans} == {"qlora"}
    said = visible(page(client, answer.headers["location"]))
    assert "3 of 3 fit: A, B and C." in said
    assert "Kaggle GPU T4 x2: 2 × Tesla T4 15 GiB" in said
    assert "Llama-3.1-8B on this machine, GeForce RTX 4090 24 GiB or Kaggle GPU T4 x2" in said


def test_this_machine_is_chosen_at_first_and_every_other_can_be(client: TestClient) -> None:
    text = page(client, "/compare?model=a/b")
    assert re.findall(r'name="machine" value="([^"]+)" checked', text) == ["this-machine"]
    assert 'value="a/b"' in text
    assert text.count('name="machine"') > 180
    chosen = re.findall(r'value="([^"]+)" checked>', page(client, "/compare?machine=nvidia-l4-24gb"))
    assert "nvidia-l4-24gb" in chosen
    assert "this-machine" not in chosen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ""}, "no model was given"),
        ({"machine": ["this-machine"]}, "1 plan is no comparison"),
        ({"machine": [], "more": "abacus, this-machine"}, "Plan A: no device"),
        ({"machine": [f"nvidia-rtx-4090-24gb*{n}" for n in range(1, 10)]}, "9 plans are no comparison"),
        ({"machine": ["this-machine", "nvidia-t4-16gb*two"]}, "Plan B: "),
        ({"sequence_length": "long"}, "Plan A: `run.sequence_length`"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    client: TestClient, change: dict[str, object], message: str
) -> None:
    answer = client.post("/compare", data={**TYPED, **change}, headers=HTML)
    assert answer.status_code in (404, 422)
    assert message in visible(answer.text)
    assert 'role="alert"' in answer.text
    for machine in change.get("machine", TYPED["machine"]):  # pyright: ignore[reportGeneralTypeIssues]
        if machine in {*OFTEN, "this-machine"}:
            assert f'value="{machine}" checked' in answer.text


def test_the_address_is_the_whole_comparison(client: TestClient) -> None:
    text = page(client, COMPARISON)
    assert "Difference from A" in text
    assert "Difference from C" in page(client, COMPARISON + "&baseline=2")
    assert text.count("<tr>") > page(client, COMPARISON + "&only=differences").count("<tr>")


def test_an_address_that_is_not_canonical_leads_to_the_one_that_is(client: TestClient) -> None:
    loose = "/compare?" + "&".join(f"plan={quote(query)}" for query in (f"method=qlora&model={MODEL}", QLORA))
    answer = client.get(loose, headers=HTML, follow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["location"] == address.comparison([f"v=1&model={MODEL}&method=qlora", QLORA])
    assert client.get(answer.headers["location"], headers=HTML, follow_redirects=False).status_code == 200


@pytest.mark.parametrize("baseline", ["3", "-1", "x", "²", "9" * 9999, "0009", "00099"])
def test_a_baseline_that_is_none_is_refused(client: TestClient, baseline: str) -> None:
    assert "the baseline is none of the plans" in page(client, f"{COMPARISON}&baseline={baseline}", 422)


def test_a_plan_that_cannot_be_is_named(client: TestClient) -> None:
    wrong = address.comparison([QLORA, FULL.replace("full", "magic")])
    assert "Plan B: `run.method`" in visible(page(client, wrong, 422))


def test_nine_plans_are_refused(client: TestClient) -> None:
    assert "9 plans are no comparison" in page(client, address.comparison([QLORA] * 9), 422)


def test_a_result_leads_to_comparisons(client: TestClient) -> None:
    text = page(client, f"/plan?{FULL}")
    links = [html.unescape(there) for there in re.findall(r'href="(/compare\?[^"]+)"', text)]
    assert links[0] == address.comparison([FULL])
    assert address.comparison([FULL, FULL.replace("full", "qlora")]) in links
    for there in links[1:]:
        page(client, there)


def test_a_plan_from_the_form_is_put_beside_those_brought_along(client: TestClient) -> None:
    basket = page(client, address.comparison([QLORA]))
    change = html.unescape(re.findall(r'href="(/\?v=1[^"]+)">Compare with a change', basket)[0])
    text = page(client, change)
    assert re.findall(r'name="with" value="([^"]+)"', text) == [html.escape(QLORA)]
    sent = {"model": MODEL, "device": "nvidia-rtx-4090-24gb", "method": "full", "with": QLORA}
    answer = client.post("/plan", data=sent, headers=HTML, follow_redirects=False)
    assert answer.headers["location"] == address.comparison([QLORA, FULL])
    wrong = client.post("/plan", data={**sent, "method": "magic"}, headers=HTML)
    assert 'name="with"' in wrong.text


def test_the_run_of_the_first_plan_is_put_on_other_machines(client: TestClient) -> None:
    custom = "v=1&model=a&device.memory_gib=24&device.memory_bandwidth_gb_s=900&host_memory_gib=64&method=qlora"
    custom = custom.replace("model=a", f"model={MODEL}")
    answer = client.post(
        "/compare", data={"plan": custom, "machine": "nvidia-t4-16gb"}, headers=HTML, follow_redirects=False
    )
    plans = [text for _, text in parse_qsl(urlsplit(answer.headers["location"]).query)]
    assert plans[1] == T4


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_a_saved_comparison_belongs_to_the_browser_that_made_it(client: TestClient, application: FastAPI) -> None:
    there = save(client, title="Which <one>?", notes="<b>first</b>\r\nsecond")
    cookie = next(cookie for cookie in client.cookies.jar if cookie.name == "trainfit-edit")
    assert cookie.path == there
    text = page(client, there)
    assert "Which &lt;one&gt;?" in text
    assert "&lt;b&gt;first&lt;/b&gt;\nsecond" in text
    assert "computed with estimator 0.1 and catalogue 2026.1 on" in visible(text)
    assert "Yours to edit" in text
    client.post(f"{there}/edit", data={"title": "Other", "notes": ""}, headers=HTML)
    assert "<h1>Other</h1>" in page(client, there)
    stranger = TestClient(application, base_url="http://localhost:8000")
    assert "Yours to edit" not in page(stranger, there)
    for what in ("edit", "delete"):
        refused = stranger.post(f"{there}/{what}", data={"title": "x"}, headers=HTML)
        assert (refused.status_code, "somebody else" in refused.text) == (403, True)
    assert client.post(f"{there}/delete", headers=HTML, follow_redirects=False).headers["location"] == "/reports"
    assert client.get(there, headers=HTML).status_code == 404


def test_the_cookie_is_kept_from_scripts_and_other_sites(client: TestClient) -> None:
    answer = client.post("/compare/save", data={"plan": [QLORA, FULL]}, headers=HTML, follow_redirects=False)
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert "secure" not in said  # plain http on loopback


def test_another_sites_form_is_refused(client: TestClient) -> None:
    there = save(client)
    foreign = {**HTML, "sec-fetch-site": "cross-site"}
    assert client.post(f"{there}/delete", headers=foreign).status_code == 403
    assert client.post("/compare/save", data={"plan": [QLORA, FULL]}, headers=foreign).status_code == 403
    assert client.get(there).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"title": "x" * 201}, 422),
        ({"notes": "x" * 10_001}, 422),
        ({"plan": [QLORA]}, 422),
        ({"plan": [QLORA] * 9}, 422),
        ({"baseline": "2"}, 422),
        ({"plan": [QLORA, "v=1"]}, 422),
        ({"notes": "x" * 200_000}, 400),
    ],
)
def test_what_is_too_much_is_not_kept(client: TestClient, change: dict[str, object], status: int) -> None:
    answer = client.post("/compare/save", data={"plan": [QLORA, FULL], **change}, headers=HTML)
    assert answer.status_code == status
    assert "None is kept yet" in page(client, "/reports")


def test_the_saved_numbers_stay_and_the_current_estimator_speaks_beside_them(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.app import fakes

    there = save(client)
    before = page(client, there)

    def newer(*given: object, **named: object) -> object:
        answer = fakes.fake_estimate(*given, **named)  # pyright: ignore[reportArgumentType]
        assert answer.memory is not None
        device_ = answer.memory.device
        heavier = device_.model_copy(update={"required_bytes": device_.required_bytes + 2**30})
        memory = answer.memory.model_copy(update={"device": heavier})
        return answer.model_copy(update={"estimator_version": "0.2", "verdict": "tight", "memory": memory})

    monkeypatch.setattr("app.plans.estimate", newer)
    assert page(client, there) == before
    text = visible(page(client, there + "?current=1"))
    assert "The current estimator is 0.2" in text
    assert "Fits Tight 13.9 GiB 14.9 GiB +1.00 GiB" in text
    assert "computed with estimator 0.1" in text


def test_a_plan_that_cannot_be_asked_again_keeps_its_page(
    client: TestClient, application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = save(client)
    reports = application.state.reports
    document = reports.get(there.rpartition("/")[2])
    without_figures = document.model_copy(update={"machines": [{}, {}, {}]})

    def get(_: str) -> ReportDocument:
        return without_figures

    monkeypatch.setattr(reports, "get", get)
    said = visible(page(client, there + "?current=1"))
    assert "cannot be asked the same. Plan A: the saved machine lacks figures that are needed today." in said
    assert "Side by side" in said


def test_a_pasted_configuration_is_kept_with_the_report(client: TestClient, application: FastAPI) -> None:
    sent = {"config_text": '{"model_type": "llama", "hidden_size": 7}', "device": "nvidia-t4-16gb"}
    there = client.post("/plan", data=sent, headers=HTML, follow_redirects=False).headers["location"]
    pasted = urlsplit(there).query
    report = save(client, (pasted, QLORA))
    for file in application.state.configs._directory.iterdir():
        file.unlink()
    text = page(client, report)
    assert "pasted llama" in text
    plan = html.unescape(re.findall(r'href="(/plan\?v=1&amp;config=[^"]+)"', text)[0])
    page(client, plan)  # put back where the plan's page finds it


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        (".json", "application/json"),
        (".csv", "text/csv; charset=utf-8"),
        (".md", "text/markdown; charset=utf-8"),
        (".svg", "image/svg+xml"),
        (".png", "image/png"),
        ("/badge.svg", "image/svg+xml"),
        ("/badge.json", "application/json"),
    ],
)
def test_a_report_comes_in_other_forms(client: TestClient, suffix: str, media_type: str) -> None:
    there = save(client)
    answer = client.get(there + suffix, headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    missing = client.get("/r/" + "a" * 26 + suffix, headers=HTML)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_report")


def test_a_program_that_asks_for_json_gets_it(client: TestClient) -> None:
    there = save(client)
    assert client.get(there, headers={"accept": "application/json"}).json()["url"] == there


def test_the_list_is_searched_narrowed_and_exported(client: TestClient) -> None:
    first = save(client, title="First")
    save(client, (QLORA, T4), title="Second")
    text = page(client, "/reports?verdict=does_not_fit")
    assert first in text
    assert "Second" not in text
    assert "1 report, narrowed" in visible(text)
    facets = [html.unescape(there) for there in re.findall(r'<li><a href="(/reports\?[^"]+)"', text)]
    assert facets
    for there in facets:
        page(client, there)
    assert "No report matches" in page(client, "/reports?q=mamba")
    lines = client.get("/reports.csv?verdict=does_not_fit").text.splitlines()
    assert len(lines) == 1 + 3
    assert [item["title"] for item in client.get("/reports.json?q=second").json()["items"]] == ["Second"]


def test_a_long_list_goes_on(client: TestClient) -> None:
    for number in range(21):
        save(client, title=f"Report {number:02}x")
    text = page(client, "/reports?q=report")
    assert "21 reports" in visible(text)
    older = html.unescape(re.findall(r'href="(/reports\?q=report&amp;cursor=[^"]+)"', text)[0])
    assert "Report 00x" in page(client, older)
    assert "Older" not in page(client, older)
    assert page(client, "/reports?cursor=nonsense", 422)


def test_a_text_in_a_list_is_only_text(client: TestClient) -> None:
    save(client, title="<script>alert(1)</script>")
    assert "<script" not in page(client, "/reports?q=<script>&device=<b>")


@pytest.mark.parametrize("query", ["x", "v%3D1", "method%3Dlora"])
def test_a_plan_that_names_no_model_is_not_carried_along(client: TestClient, query: str) -> None:
    text = page(client, f"/compare?plan={query}", 422)
    assert "Plan A: " in visible(text)
    assert "pasted model" not in text
