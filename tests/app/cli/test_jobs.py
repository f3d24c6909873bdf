"""`trainfit measure` and `calibrate`, with a worker whose runner is pretended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.jobs.fleet import ROOT, Fleet

pytestmark = pytest.mark.slow
CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
}  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A worker on the database that the command finds in its data folder."""
    made = Fleet(f"sqlite:///{tmp_path / 'trainfit.sqlite'}", tmp_path)
    made.start("local")
    yield made
    made.close()


def plan(directory: Path, *do: Any) -> str:
    config = {**CONFIG, "do": do} if do else CONFIG
    request = {"model": {"config": config}, "machine": {"device": "this-machine"}, "run": {"sequence_length": 16}}
    path = directory / "plan.json"
    path.write_text(json.dumps(request))
    return str(path)


def start(directory: Path, *words: str) -> subprocess.Popen[str]:
    program = "import sys; from app.cli import main; sys.exit(main())"
    environment = {**os.environ, "TRAINFIT_DATA_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=listen_to_ctrl_c,  # noqa: PLW1509
    )  # fmt: skip


def listen_to_ctrl_c() -> None:
    """A shell's background command ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_plan_is_measured_and_followed(fleet: Fleet) -> None:
    out, error = start(fleet.directory, "measure", plan(fleet.directory)).communicate(timeout=60)
    assert "succeeded: It was measured." in out
    assert "no worker answers" not in error
    for word in ("queued: ", "starting: ", "running: ", "  warm up"):
        assert word in error


def test_programs_get_the_job_as_json(fleet: Fleet) -> None:
    command = start(fleet.directory, "measure", plan(fleet.directory), "--json", "--steps", "3")
    found = json.loads(command.communicate(timeout=60)[0])
    assert (found["state"], found["steps"], command.returncode) == ("succeeded", 3, 0)
    command = start(fleet.directory, "measure", plan(fleet.directory, "fail", "oom_host"), "--json")
    found = json.loads(command.communicate(timeout=60)[0])
    assert (found["state"], found["failure_kind"], command.returncode) == ("succeeded", "oom_host", 1)


def test_the_device_is_calibrated(fleet: Fleet) -> None:
    command = start(fleet.directory, "calibrate")
    assert "calibrated" in command.communicate(timeout=60)[0]
    assert command.returncode == 0


def test_ctrl_c_cancels_the_job(fleet: Fleet) -> None:
    command = start(fleet.directory, "measure", plan(fleet.directory, "hang"))
    assert command.stderr is not None
    while "running" not in (line := command.stderr.readline()):  # it shows the job, and listens
        assert line
    command.send_signal(signal.SIGINT)
    _, error = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "cancelling" in error
    assert [job.state for job in fleet.jobs.find().items] == ["cancelled"]


def test_a_bad_question_is_an_error(fleet: Fleet) -> None:
    command = start(fleet.directory, "measure", plan(fleet.directory), "--method", "magic")
    assert "magic" in command.communicate(timeout=60)[1]
    assert command.returncode == 2
    assert fleet.jobs.find().items == []
