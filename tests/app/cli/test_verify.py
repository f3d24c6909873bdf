from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.jobs.isolated import WorkFailed
from tests.app.cli.conftest import Trainfit
from tests.app.fakes import FakeVerifier

MODEL = "meta-llama/Llama-3.1-8B"


@pytest.fixture(autouse=True)
def verifier(monkeypatch: pytest.MonkeyPatch) -> FakeVerifier:
    """The processes are made up."""
    made = FakeVerifier()

    def verifying(_: object) -> FakeVerifier:
        return made

    monkeypatch.setattr("app.plans.Plans._verifying", verifying)
    return made


def test_the_report_has_a_row_for_each_term(trainfit: Trainfit) -> None:
    outcome = trainfit("verify", MODEL, "--method", "qlora")
    assert outcome.code == 0
    assert "evidence: verified" in outcome.out
    assert "traced 2 and 3 layers, extended to 32" in outcome.out
    lines = [line.split() for line in outcome.out.splitlines() if line.startswith("  peak allocated")]
    assert lines == [["peak", "allocated", "13.0", "GiB", "14.0", "GiB", "trace"]]
    assert "the trace follows each storage" in outcome.out


def test_it_takes_what_check_takes(trainfit: Trainfit, verifier: FakeVerifier, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"model: {{id: {MODEL}}}\nrun: {{method: full, micro_batch_size: 2}}\n")
    outcome = trainfit("verify", str(plan), "--method", "lora", "--json", "--no-advice")
    assert outcome.code == 0
    answer: dict[str, Any] = json.loads(outcome.out)
    assert (answer["evidence"]["tier"], answer["advice"]) == ("verified", [])
    (question,) = verifier.questions
    assert (question.request.run.method, question.request.run.micro_batch_size) == ("lora", 2)
    assert not question.advice


@pytest.mark.parametrize(("words", "code"), [(["--method", "full"], 1), (["--sequence-length", "0"], 2)])
def test_the_exit_code_is_the_verdicts(trainfit: Trainfit, words: list[str], code: int) -> None:
    assert trainfit("verify", MODEL, *words).code == code


def test_a_bad_end_is_said_with_its_kind(
    trainfit: Trainfit, verifier: FakeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise WorkFailed("out_of_memory", "the child reached its memory cap")

    monkeypatch.setattr(verifier, "verify", fail)
    outcome = trainfit("verify", MODEL)
    assert outcome.code == 2
    assert "ran out of its memory" in outcome.error
    assert json.loads(trainfit("verify", MODEL, "--json").out)["value"] == "out_of_memory"
