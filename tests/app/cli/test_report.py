"""`trainfit report` on the database of the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.cli.conftest import Trainfit
from tests.app.conftest import fake_plans

QLORA = "model: {id: meta-llama/Llama-3.1-8B}\nmachine: {device: nvidia-rtx-4090-24gb}\nrun: {method: qlora}\n"


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two plan files, and a data folder of their own."""
    monkeypatch.setenv("TRAINFIT_DATA_DIR", str(tmp_path / "data"))
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(QLORA, encoding="utf-8")
    other.write_text(QLORA.replace("qlora", "full"), encoding="utf-8")
    return str(one), str(other)


def kept(trainfit: Trainfit, plans: tuple[str, str], *words: str) -> dict[str, str]:
    outcome = trainfit("report", "create", *plans, "--json", *words)
    assert outcome.code == 0, outcome.error
    return json.loads(outcome.out)


def test_a_report_is_made_listed_shown_and_deleted(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    outcome = trainfit("report", "create", *plans, "--title", "Which one?", "--baseline", "1")
    assert outcome.code == 0
    assert "A Fits: QLoRA" in outcome.out
    assert "To spare: A +90.0 GiB" in outcome.out
    identifier = trainfit("report", "list").out.split()[0]
    assert f"/r/{identifier}" in outcome.out
    assert "Which one?" in trainfit("report", "show", identifier).out
    assert "Which one?" in trainfit("report", "list", "llama", "4090").out
    assert "no report is kept with these words" in trainfit("report", "list", "mamba").out
    assert trainfit("report", "delete", identifier).out == f"deleted {identifier}\n"
    assert trainfit("report", "show", identifier).code == 2


def test_a_server_on_the_same_folder_has_the_same_reports(
    trainfit: Trainfit, plans: tuple[str, str], tmp_path: Path
) -> None:
    from starlette.testclient import TestClient

    created = kept(trainfit, plans)
    settings = Settings(data_dir=tmp_path / "data")
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost") as client:
        assert client.get(created["url"]).status_code == 200
        headers = {"authorization": f"Bearer {created['edit_token']}"}
        assert client.patch(f"/api/v1/reports/{created['id']}", json={"title": "x"}, headers=headers).status_code == 200
    assert json.loads(trainfit("report", "show", created["id"], "--json").out)["title"] == "x"


@pytest.mark.parametrize("form", ["md", "csv", "json", "svg"])
def test_an_export_goes_to_standard_output(trainfit: Trainfit, plans: tuple[str, str], form: str) -> None:
    identifier = kept(trainfit, plans, "--title", "Which one?")["id"]
    said = trainfit("report", "export", identifier, "--format", form).out
    assert {"md": "# Which one?", "csv": "group,key", "json": "{", "svg": "<svg"}[form] in said[:20]


def test_markdown_without_a_server_names_the_report_without_a_link(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    identifier = kept(trainfit, plans)["id"]
    last = trainfit("report", "export", identifier).out.splitlines()[-1]
    assert last.startswith(f"Report {identifier} · estimator")


def test_the_usage_names_the_action_once(capsys: pytest.CaptureFixture[str], trainfit: Trainfit) -> None:
    with pytest.raises(SystemExit):
        trainfit("report", "show")
    assert capsys.readouterr().err.startswith("usage: trainfit report show [-h] [--json] ID\n")


def test_a_picture_goes_into_a_file(trainfit: Trainfit, plans: tuple[str, str], tmp_path: Path) -> None:
    identifier = kept(trainfit, plans)["id"]
    path = tmp_path / "comparison.png"
    assert trainfit("report", "export", identifier, "--format", "png", "--output", str(path)).code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    outcome = trainfit("report", "export", identifier, "--output", str(tmp_path / "no" / "where.md"))
    assert (outcome.code, "cannot be written" in outcome.error) == (2, True)


def test_a_long_list_says_how_many_are_left(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    for _ in range(3):
        kept(trainfit, plans)
    assert "and 2 older: --limit 3" in trainfit("report", "list", "--limit", "1").out


def test_one_plan_is_no_comparison(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    outcome = trainfit("report", "create", plans[0])
    assert (outcome.code, "1 plan is no comparison" in outcome.error) == (2, True)


def test_a_wrong_plan_is_named(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    Path(plans[1]).write_text(QLORA.replace("qlora", "magic"), encoding="utf-8")
    assert "Plan B: `run.method` is 'magic'" in trainfit("report", "create", *plans).error


def test_a_job_that_is_none_is_named(trainfit: Trainfit, plans: tuple[str, str]) -> None:
    outcome = trainfit("report", "create", plans[0], "job:0")
    assert outcome.code == 2
    assert "there is no such job" in outcome.error
