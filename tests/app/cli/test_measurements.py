"""Documents go in whole and valid, or not at all, and come out as they went in."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.cli.console import Console

DOCUMENT: dict[str, Any] = {
    "id": "mine-1",
    "publisher": "me",
    "source": "a run of mine",
    "status": "verified",
    "request": {
        "model": {"id": "openai-community/gpt2"},
        "machine": {"device": "nvidia-rtx-4090-24gb"},
        "run": {"method": "full", "sequence_length": 512},
    },
    "peaks": [{"kind": "allocated", "bytes": 3 << 30}],
}


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINFIT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def file_of(path: Path, *documents: dict[str, Any]) -> str:
    path.write_text("\n".join(json.dumps(one) for one in documents), encoding="utf-8")
    return str(path)


def test_what_is_added_is_listed_shown_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measurements", "add", file_of(tmp_path / "a.json", DOCUMENT)]) == 0
    capsys.readouterr()
    assert main(["measurements", "list", "--mine"]) == 0
    assert "mine-1: allocated 3.0 GiB" in capsys.readouterr().out
    assert main(["measurements", "show", "mine-1"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "mine-1"
    assert main(["measurements", "export"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(DOCUMENT))


def test_an_export_can_be_added_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["measurements", "add", file_of(tmp_path / "a.jsonl", DOCUMENT, DOCUMENT | {"id": "mine-2"})])
    capsys.readouterr()
    main(["measurements", "export"])
    exported = capsys.readouterr().out
    monkeypatch.setenv("TRAINFIT_DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("sys.stdin", StringIO(exported))
    assert main(["measurements", "add", "-"]) == 0
    assert capsys.readouterr().out.splitlines() == ["added mine-1, verified", "added mine-2, verified"]


def test_a_published_document_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measurements", "show", "torchtune-llama3.1-8b-lora-4090"]) == 0
    assert json.loads(capsys.readouterr().out)["publisher"] == "torchtune README"


def test_of_two_documents_one_wrong_one_stores_none(
    tmp_path: Path, data_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = DOCUMENT | {"id": "mine-2", "peaks": [{"kind": "vram", "bytes": 1}]}
    assert main(["measurements", "add", file_of(tmp_path / "a.jsonl", DOCUMENT, bad)]) == 2
    assert "line 2: peaks.0.kind" in capsys.readouterr().err
    assert not data_directory.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "empty"),
        (b"not json", "line 1: the document is not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1, 2]", "one JSON object"),
        (b"[" * 3000, "not JSON"),
        (json.dumps(DOCUMENT | {"id": "../evil"}).encode(), "id"),
    ],
)
def test_hostile_files_are_refused_with_a_sentence(
    tmp_path: Path, text: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    assert main(["measurements", "validate", str(path)]) == 2
    assert says in capsys.readouterr().err


def test_an_id_is_taken_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "a.json", DOCUMENT)
    assert main(["measurements", "add", path]) == 0
    assert main(["measurements", "add", path]) == 2
    assert "--replace" in capsys.readouterr().err
    assert main(["measurements", "add", "--replace", path]) == 0
    taken = file_of(tmp_path / "b.json", DOCUMENT | {"id": "torchtune-llama3.1-8b-lora-4090"})
    assert main(["measurements", "add", taken]) == 2
    assert "comes with trainfit" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["show", "nobody"], ["add", "no/such/file"], ["export", "x"]])
def test_what_is_missing_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measurements", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words[0] != "add" or "no/such/file cannot be read: No such file" in error


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Console, "write", full)
    monkeypatch.setattr("app.cli._discard_output", lambda: None)
    assert main(["measurements", "list"]) == 141


def test_evaluate_prints_the_report_with_mine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["measurements", "add", file_of(tmp_path / "a.json", DOCUMENT)])
    capsys.readouterr()
    assert main(["evaluate", "--mine", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert any(row["value"] == "me" and row["quantity"] == "allocated" for row in report["groups"])
    assert main(["evaluate"]) == 0
    out = capsys.readouterr().out
    assert "by source" in out
    assert "said no, but it ran" in out


def job(machine: str = "nvidia-rtx-4090-24gb") -> dict[str, Any]:
    request = DOCUMENT["request"] | {"machine": {"device": machine}}
    measurement = {
        "request": request, "configuration": {}, "model": {}, "device": "a card", "device_class": "cuda", "threads": 1,
        "device_count": 1, "depth": {"layers": 12, "built": [12]}, "steps": None, "phases": [], "terms": [],
        "rows": [{"name": "peak_allocated_bytes", "unit": "bytes", "predicted": 3e9, "measured": 3.1e9}],
        "estimator_version": "1",
    }  # fmt: skip
    stack = {"python": "3.12", "packages": {"torch": "2.13"}, "cuda": None}
    return {"id": "abc", "finished_at": "2026-11-24T12:00:00Z", "result": {"measurement": measurement, "stack": stack}}


@pytest.mark.parametrize("machine", ["nvidia-rtx-4090-24gb", "this-machine"])
def test_a_measuring_job_becomes_a_pending_document(
    machine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path / "job.json", job(machine))
    assert main(["measurements", "from-job", path, "--publisher", "me"]) == 0
    written = capsys.readouterr().out
    document = json.loads(written)
    assert document["peaks"] == [{"kind": "allocated", "bytes": 3_100_000_000}]
    assert document["stack"] == {"python": "3.12", "torch": "2.13"}
    assert document["request"]["machine"]["device"] != "this-machine"
    (tmp_path / "document.json").write_text(written, encoding="utf-8")
    assert main(["measurements", "add", str(tmp_path / "document.json")]) == 0
    assert capsys.readouterr().out == "added job-abc, pending\n"


@pytest.mark.parametrize("values", [{}, {"result": None}, {"id": "a", "result": {"calibration": {}}}])
def test_what_is_no_measuring_job_is_refused(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measurements", "from-job", file_of(tmp_path / "job.json", values), "--publisher", "me"]) == 2
    assert capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    "request_", [{"model": {"id": "no/such"}}, {"model": {"config": {"model_type": "llama", "hidden_size": -1}}}]
)
def test_a_document_that_cannot_be_predicted_is_not_modelled(
    request_: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = DOCUMENT | {"request": request_ | {"machine": {"device": "nvidia-rtx-4090-24gb"}}}
    elsewhere = DOCUMENT | {"id": "mine-2", "request": DOCUMENT["request"] | {"machine": {"device": "no-such-card"}}}
    assert main(["measurements", "add", file_of(tmp_path / "a.jsonl", odd, elsewhere)]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--mine", "--json"]) == 0
    reasons = json.loads(capsys.readouterr().out)["not_modelled"]
    assert any("no-such-card" in reason for reason in reasons)
