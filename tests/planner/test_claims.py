from __future__ import annotations

import re
from functools import cache

import pytest

from planner.catalog.models import model
from planner.claims import CLAIMS, Judged, judged
from planner.estimate import estimate
from planner.hardware import resolve_machine
from planner.units import format_bytes

VERDICTS = {
    "longcat-size": "corrected",
    "seventy-gigabytes": "holds when",
    "four-bit-on-cpu": "holds when",
    "qlora-on-24-gb": "confirmed",
    "slower-without-nvidia": "corrected",
    "decoding-on-cpu": "holds when",
    "small-models-on-cpu": "holds when",
    "longcat-on-cpu": "corrected",
    "rx-6900-xt": "holds when",
    "apple-memory": "corrected",
    "openvino": "corrected",
    "tpu-code": "corrected",
    "free-hours": "holds when",
    "checkpointing": "confirmed",
    "smaller-model": "confirmed",
}


@cache
def found(claim_id: str) -> Judged:
    return judged(next(claim for claim in CLAIMS if claim.id == claim_id))


@pytest.mark.parametrize("claim_id", VERDICTS)
def test_each_claim_has_its_verdict_and_evidence(claim_id: str) -> None:
    answer = found(claim_id)
    assert answer.verdict == VERDICTS[claim_id]
    assert len(answer.why) > 60
    assert answer.rows
    assert all(row.text for row in answer.rows)


def test_all_claims_are_here() -> None:
    assert [claim.id for claim in CLAIMS] == list(VERDICTS)


def test_the_published_facts_are_met() -> None:
    assert "560,664,958,976" in found("longcat-size").rows[0].text
    gigabytes = float(re.search(r"take ([0-9.]+) GB in 16 bit", found("seventy-gigabytes").why)[1])  # pyright: ignore[reportOptionalSubscript]
    assert gigabytes == pytest.approx(14, rel=0.05)
    assert "512" in found("apple-memory").why
    assert "no trainer has code" in found("longcat-on-cpu").why


@pytest.mark.parametrize("claim_id", ["qlora-on-24-gb", "small-models-on-cpu", "longcat-on-cpu"])
def test_a_row_says_what_its_plan_answers(claim_id: str) -> None:
    for row in found(claim_id).rows:
        assert row.request is not None
        assert row.request.model.id is not None
        answer = estimate(
            row.request,
            config=model(row.request.model.id).config,
            machine=resolve_machine(row.request.machine),
            advice=False,
        )
        assert answer.memory is not None
        assert format_bytes(answer.memory.device.required_bytes) in row.text
