"""The map of sizes, the costs and the offers on the pages."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

PLAN = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora&sequence_length=4096"
QLORA = PLAN + "&micro_batch_size=2&activation_checkpointing=full&tokens=10000000"


def test_every_cell_of_the_map_is_the_link_of_its_plan(real_client: TestClient) -> None:
    text = real_client.get(QLORA).text
    table = text[text.index('<table class="heat">') :].partition("</table>")[0]
    cells = re.findall(r'<td class="(\w+)"><a href="([^"]+)"( aria-current="true")?>(\w+)<small>', table)
    assert len(cells) == 7 * 7
    assert {(tone, word) for tone, _, _, word in cells} == {("yes", "fits"), ("maybe", "tight"), ("no", "no")}
    (own,) = [href for _, href, current, _ in cells if current]
    assert "sequence_length=4096&amp;micro_batch_size=2" in own
    for _, href, _, word in (cells[0], cells[-1]):
        there = real_client.get(href.replace("&amp;", "&"), follow_redirects=False)
        assert there.status_code == 200  # the address is the canonical one
        assert f'<p class="word">{"Fits" if word == "fits" else "Does not fit"}' in there.text


def test_the_frontier_is_said_in_words(real_client: TestClient) -> None:
    text = real_client.get(QLORA).text
    assert re.search(r"The largest micro-batch that fits at 4,096 tokens is \d", text)
    assert re.search(r"The longest sequence that fits at micro-batch 2 is \d,\d\d\d tokens", text)
    never = real_client.get(PLAN.replace("method=qlora", "method=full")).text
    assert "No micro-batch fits at 4,096 tokens." in never


def test_offers_that_run_the_plan_have_their_price_and_its_date(real_client: TestClient) -> None:
    text = real_client.get(QLORA).text
    section = text[text.index('id="rent"') :].partition("</section>")[0]
    assert len(re.findall(r"<td>20\d\d[-\d]*</td>", section)) >= 5
    there = re.search(r'<a href="(/plan\?[^"]*offer=[^"]+)"', section)
    assert there is not None
    rented = real_client.get(there[1].replace("&amp;", "&"), follow_redirects=False)
    assert rented.status_code == 200
    assert 'id="money"' in rented.text


def test_a_free_machine_says_whether_the_run_must_be_resumed(real_client: TestClient) -> None:
    address = "/plan?v=1&model=meta-llama/Llama-3.1-8B&offer=kaggle-gpu-t4-x2&method=qlora&tokens="
    text = real_client.get(address + "100000000").text
    assert "on Kaggle GPU T4 x2" in text
    assert "save checkpoints and resume" in text
    assert "fits one session" in real_client.get(address + "1000000").text


def test_the_offers_are_a_page(real_client: TestClient) -> None:
    text = real_client.get("/offers").text
    assert 'href="/?offer=aws-g4dn-xlarge"' in text
    assert "2026-07-20" in text
    assert "Not to plan on" in real_client.get("/offers?q=zerogpu").text
    assert "No offer of the catalogue matches" in real_client.get("/offers?q=nothing-like-it").text
    assert real_client.get("/offers?cursor=nowhere").status_code == 404
