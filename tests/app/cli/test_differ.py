from __future__ import annotations

import json

import pytest

from planner.estimate import estimate
from tests.app.cli.conftest import Trainfit
from tests.planner.observed import texts


def test_the_command_reads_standard_input(trainfit: Trainfit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.plans.estimate", estimate)
    words = ("differ", "meta-llama/Llama-3.1-8B", "--device", "nvidia-rtx-4090-24gb", "--method", "qlora")
    outcome = trainfit(*words, "--observed", "-", stdin=texts.SUMMARY + texts.NVIDIA_SMI)
    assert outcome.code == 1
    assert "What would explain the figure" in outcome.out
    assert "Other processes" in outcome.out
    as_json = trainfit(*words, "--observed", "-", "--json", stdin=texts.SUMMARY)
    assert json.loads(as_json.out)["measured_bytes"] == 18_841 * 2**20
    assert trainfit(*words, "--observed", "nowhere.log").code == 2
    assert trainfit(*words, "--observed", "-", stdin="?").code == 2
