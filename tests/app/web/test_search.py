from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

SEARCH = "/search?model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb"


def test_without_a_model_there_is_the_form(client: TestClient) -> None:
    text = client.get("/search").text
    assert '<form id="question"' in text
    assert 'id="found"' not in text
    assert re.search(r'name="free.method" value="qlora" checked', text)


def test_what_is_best_is_shown_with_links_to_its_plans(real_client: TestClient) -> None:
    text = real_client.get(SEARCH + "&method=full&tokens=10000000").text
    assert "does not fit" in text
    assert "Smallest change to yes" in text
    assert "it needs more memory or disk than there is" in text
    links = re.findall(r'<th scope="row"><a href="(/plan\?[^"]+)">', text)
    assert len(links) > 5
    for link in links[:2]:
        there = real_client.get(link.replace("&amp;", "&"), follow_redirects=False)
        assert there.status_code == 200
        assert '<p class="word">Fits</p>' in there.text


def test_what_is_best_is_put_side_by_side(real_client: TestClient) -> None:
    text = real_client.get(SEARCH + "&method=full&tokens=10000000").text
    (there,) = re.findall(r'<a class="button quiet" href="(/compare\?[^"]+)">Put these side by side', text)
    page = real_client.get(there.replace("&amp;", "&"), follow_redirects=False)
    assert page.status_code == 200
    assert 2 <= page.text.count('class="plan-card') <= 8


def test_the_chart_has_its_numbers_in_the_table(real_client: TestClient) -> None:
    text = real_client.get(SEARCH).text
    front = text[text.index('id="frontier"') :].partition("</section>")[0]
    dots = re.findall(r'<a href="([^"]+)" aria-label=', front)
    rows = re.findall(r'<th scope="row"><a href="([^"]+)"', front)
    assert set(dots) == set(rows)


def test_offers_are_searched_when_ticked(real_client: TestClient) -> None:
    free = "&method=qlora&tokens=10000000&free.offer=*&limit.budget_usd=3"
    text = real_client.get(SEARCH + free).text
    assert "Cheapest" in text
    assert "Kaggle GPU T4 x2" in text
    assert "it costs more, or has no price" in text


def test_what_was_ticked_and_typed_stays(real_client: TestClient) -> None:
    text = real_client.get(SEARCH + "&free.method=lora&free.micro_batch_size=1,3&limit.minimum_rank=8").text
    assert re.search(r'name="free.method" value="lora" checked', text)
    assert not re.search(r'name="free.method" value="qlora" checked', text)
    assert 'name="free.micro_batch_size" value="1,3"' in text
    assert 'name="limit.minimum_rank" value="8"' in text


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("&free.micro_batch_size=1,two", "micro_batch_size"),
        ("&limit.hours=5", "tokens"),
        ("&free.nonsense=1", "nonsense"),
        ("&limit.hours=many&tokens=1000", "hours"),
        ("&free.device=*&free.method=*&free.optimizer=*", "combinations"),
    ],
)
def test_what_is_wrong_is_said_above_the_form(real_client: TestClient, added: str, said: str) -> None:
    answer = real_client.get(SEARCH + added)
    assert answer.status_code == 422
    problem = answer.text[answer.text.index('id="problem"') :].partition("</div>")[0]
    assert said in problem


def test_the_result_page_leads_to_a_search_around_it(real_client: TestClient) -> None:
    text = real_client.get("/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora").text
    assert (
        'href="/search?v=1&amp;model=meta-llama/Llama-3.1-8B&amp;device=nvidia-rtx-4090-24gb&amp;method=qlora"' in text
    )
