from __future__ import annotations

import json

import pytest

from tests.app.cli.conftest import Trainfit

LLAMA = "meta-llama/Llama-3.1-8B"
CARD = ("--device", "nvidia-rtx-4090-24gb")


def test_a_search_shows_what_is_best_and_what_was_refused(trainfit: Trainfit) -> None:
    found = trainfit("search", LLAMA, *CARD, "--method", "full", "--tokens", "10000000")
    assert found.code == 0
    for words in (
        "plans weighed",
        "does not fit",
        "smallest change to yes",
        "Beaten by no other",
        "more memory",
        "prices from",
    ):
        assert words in found.out


def test_fields_are_named_as_flags_or_as_paths(trainfit: Trainfit) -> None:
    free = ("--free", "method=lora,qlora", "--free", "run.micro_batch_size=1,2", "--free", "lora.rank=8,16")
    found = json.loads(trainfit("search", LLAMA, *CARD, *free, "--json").out)
    assert found["space"] == found["evaluated"] == 8
    assert set(found["plans"][0]["values"]) == {"run.method", "run.micro_batch_size", "run.lora.rank"}


def test_constraints_decide_the_exit_code(trainfit: Trainfit) -> None:
    none = trainfit("search", LLAMA, *CARD, "--free", "method=qlora", "--minimum-tokens-per-second", "1e9")
    assert none.code == 1
    assert "it is slower" in none.out
    kept = trainfit("search", LLAMA, *CARD, "--free", "method=qlora", "--vendor", "nvidia,amd", "--verdict", "tight")
    assert kept.code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--free", "method"), "has no values"),
        (("--free", "method=magic"), "run.method"),
        (("--free", "nonsense=1"), "nonsense"),
        (("--hours", "3"), "--hours needs to know how much is trained: add --tokens N"),
        (("--budget-usd", "3"), "add --tokens N"),
        (("--budget-usd", "cheap"), "budget_usd"),
    ],
)
def test_errors_name_what_is_wrong(trainfit: Trainfit, words: tuple[str, ...], said: str) -> None:
    found = trainfit("search", LLAMA, *CARD, *words)
    assert found.code == 2
    assert said in found.error


def test_free_tokens_are_enough_for_a_limit_of_time(trainfit: Trainfit) -> None:
    free = ("--free", "method=qlora", "--free", "tokens=1000000,2000000")
    assert trainfit("search", LLAMA, *CARD, *free, "--hours", "1000").code == 0


def test_offers_are_listed_with_price_and_date(trainfit: Trainfit) -> None:
    found = trainfit("offers", "rtx", "4090")
    assert found.code == 0
    assert "$0.69/h  2026-06-24" in found.out
    assert json.loads(trainfit("offers", "kaggle-gpu-t4-x2", "--json").out)["weekly_hours"] == 30
    assert trainfit("offers", "verda-l40s-spot").out.split()[:2] == ["$0.94/h", "spot"]
    assert "(not to plan on: retired" in trainfit("offers", "kaggle-gpu-p100-retired").out
    assert trainfit("offers", "nothing-like-it").code == 2
