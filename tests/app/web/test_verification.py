"""The button on the result page and the page behind it, without JavaScript."""

from __future__ import annotations

import csv
import html
import io
import json
import re

from starlette.testclient import TestClient

from app.jobs.isolated import Ticket, WorkFailed
from app.jobs.verifier import Question
from app.main import create_app
from app.plans import Plans
from app.settings import Settings
from planner.contract import Answer, Evidence, Reason
from tests.app.conftest import fake_machine, unreachable_hub
from tests.app.fakes import TIMELINE, FakeVerifier, fake_estimate

HTML = {"accept": "text/html"}
QUERY = "v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora"


class Uncovered(FakeVerifier):
    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:  # noqa: ARG002
        answer = fake_estimate(question.request, config=question.config, machine=question.machine)
        reason = Reason(code="not_verifiable", field="run", message="the trace doesn't run <this>")
        return answer.model_copy(update={"reasons": [reason], "evidence": Evidence()})


class Broken(FakeVerifier):
    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:  # noqa: ARG002
        raise WorkFailed("timed_out", "no result within 60 s")


def serve(settings: Settings, verifier: FakeVerifier) -> TestClient:
    plans = Plans(settings, look=fake_machine, hub=unreachable_hub(settings), verifier=verifier)
    return TestClient(create_app(settings, plans), base_url="http://localhost:8000", headers=HTML)


def test_the_button_leads_from_the_answer_to_its_verification(client: TestClient) -> None:
    text = client.get(f"/plan?{QUERY}", headers=HTML).text
    (action,) = re.findall(r'<form[^>]*method="post" action="(/plan/verify[^"]*)"', text)
    answer = client.post(action.replace("&amp;", "&"), headers=HTML)
    assert answer.status_code == 200
    assert answer.text.rstrip().endswith("</html>")
    assert len(re.findall(r"<h1\b", answer.text)) == 1
    assert "Evidence: <strong>verified</strong>" in answer.text
    assert "traced 2 and 3 layers" in answer.text
    row = re.search(r"<tr[^>]*><th[^>]*>Peak allocated.*?</tr>", answer.text)
    assert row is not None
    cells = re.sub(r"<[^>]+>", " ", row[0]).split()
    assert cells[:10] == ["Peak", "allocated", "13.0", "GiB", "14.0", "GiB", "−", "1.00", "GiB", "trace"]


def test_a_verified_plan_keeps_its_tier_in_a_comparison_and_in_a_report(client: TestClient) -> None:
    page = client.post(f"/plan/verify?{QUERY}", headers=HTML).text
    (there,) = re.findall(r'href="(/compare[?]plan=[^"]*verified)"', page)
    assert ">verified</span>" in client.get(html.unescape(there), headers=HTML).text
    sent = {"plan": [f"{QUERY}&evidence=verified", QUERY]}
    saved = client.post("/compare/save", data=sent, headers=HTML)
    document = client.get(saved.url.path + ".json").json()
    assert [plan["tier"] for plan in document["plans"]] == ["verified", "estimate"]
    assert document["answers"][0]["evidence"]["differences"]
    assert document["answers"][0]["evidence"]["timeline"] is None
    assert "What was found out" in saved.text


def test_a_report_over_rest_verifies_what_it_is_told_to(client: TestClient) -> None:
    plan = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": {"device": "nvidia-rtx-4090-24gb"}}
    made = client.post("/api/v1/reports", json={"requests": [{"verify": plan}, plan]})
    assert made.status_code == 201, made.text
    kept = client.get(f"/api/v1/reports/{made.json()['id']}").json()
    assert [one["tier"] for one in kept["plans"]] == ["verified", "estimate"]


def test_what_is_not_modelled_has_no_button(client: TestClient) -> None:
    digest = client.post("/plan", data={"config_text": '{"model_type": "martian"}'}, headers=HTML)
    assert digest.status_code == 200
    assert "/plan/verify" not in digest.text


def test_a_pasted_configuration_can_be_verified(client: TestClient) -> None:
    shown = client.post("/plan", data={"config_text": '{"model_type": "llama"}'}, headers=HTML)
    (action,) = re.findall(r'action="(/plan/verify[^"]*)"', shown.text)
    assert "config=" in action
    assert client.post(action.replace("&amp;", "&"), headers=HTML).status_code == 200


def test_a_bookmark_leads_back_to_the_plan(client: TestClient) -> None:
    answer = client.get(f"/plan/verify?{QUERY}", headers=HTML, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/plan?{QUERY}")


def test_what_cannot_be_verified_says_why_and_keeps_the_estimate(settings: Settings) -> None:
    with serve(settings, Uncovered()) as client:
        text = client.post(f"/plan/verify?{QUERY}").text
    assert "Not verified: the trace doesn&#39;t run &lt;this&gt;" in text
    assert "Estimate and trace" not in text


def test_a_bad_end_is_a_page_with_the_way_back_to_the_estimate(settings: Settings) -> None:
    with serve(settings, Broken()) as client:
        answer = client.post(f"/plan/verify?{QUERY}")
    assert answer.status_code == 424
    assert "took too long" in answer.text
    assert "/plan?v=1&amp;model=meta-llama/Llama-3.1-8B" in answer.text


def test_another_sites_form_is_refused(client: TestClient) -> None:
    answer = client.post(f"/plan/verify?{QUERY}", headers={**HTML, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_an_address_without_a_model_is_a_problem(client: TestClient) -> None:
    assert client.post("/plan/verify?v=1", headers=HTML).status_code == 422


def test_the_timeline_is_drawn_said_and_handed_out(client: TestClient) -> None:
    text = client.post(f"/plan/verify?{QUERY}", headers=HTML).text
    assert "The peak is 14.0 GiB in loss, in lm_head, when" in re.sub(r"<[^>]+>|\s", " ", text).replace(
        "  ", " "
    ).replace(" ,", ",")
    assert text.count('class="t-logits_and_loss"') >= 2
    assert '<tr><th scope="row">optimizer step</th>' in text
    assert "style=" not in text
    (block,) = re.findall(r'<script type="application/json" id="timeline-data">(.*?)</script>', text)
    assert json.loads(block)["modules"][6] == "<c>"
    rows = list(csv.DictReader(io.StringIO(client.post(f"/plan/verify.csv?{QUERY}", headers=HTML).text)))
    assert [row["moment"] for row in rows][3:6] == ["forward", "loss", "backward"]
    assert int(rows[4]["allocated_bytes"]) == sum(int(rows[4][f"{term}_bytes"]) for term in TIMELINE.terms)
    answer = client.post(f"/plan/verify.json?{QUERY}", headers=HTML)
    assert answer.headers["content-disposition"] == 'attachment; filename="verification.json"'
    assert Answer.model_validate_json(answer.text).evidence.timeline == TIMELINE


def test_without_a_timeline_there_is_no_chart_and_no_file(settings: Settings) -> None:
    with serve(settings, Uncovered()) as client:
        assert "timeline" not in client.post(f"/plan/verify?{QUERY}").text
        answer = client.post(f"/plan/verify.csv?{QUERY}")
    assert answer.status_code == 404
