from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.estimate import documents
from tests.app.cli.conftest import Trainfit

FITS = '{"model": {"id": "meta-llama/Llama-3.1-8B"}}'
NO = '{"model": {"id": "meta-llama/Llama-3.1-8B"}, "run": {"method": "full"}}'
MARTIAN = '{"model": {"config": {"model_type": "martian"}}}'


def test_one_object_gives_one_answer(trainfit: Trainfit) -> None:
    outcome = trainfit("estimate", "-", stdin=json.dumps(json.loads(NO), indent=2))
    assert outcome.code == 1
    assert json.loads(outcome.out)["verdict"] == "does_not_fit"


def test_lines_are_answered_in_order_with_problems_in_their_place(trainfit: Trainfit) -> None:
    outcome = trainfit("estimate", "-", stdin="\n".join([FITS, "", "{bad}", NO, '{"model": {}}', MARTIAN]))
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line.get("verdict") or line["code"] for line in lines] == [
        "fits",
        "invalid_json",
        "does_not_fit",
        "invalid_request",
        "not_modelled",
    ]
    assert outcome.code == 2
    assert outcome.error == ""


@pytest.mark.parametrize(("lines", "code"), [([FITS, FITS], 0), ([FITS, NO], 1), ([MARTIAN, FITS], 2), ([""], 2)])
def test_the_exit_code_is_the_highest(trainfit: Trainfit, lines: list[str], code: int) -> None:
    assert trainfit("estimate", "-", "--no-advice", stdin="\n".join(lines)).code == code


def test_a_file(trainfit: Trainfit, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(f"{FITS}\n{FITS}\n", encoding="utf-8")
    assert len(trainfit("estimate", str(path)).out.splitlines()) == 2
    assert trainfit("estimate", str(tmp_path / "none")).code == 2


def test_what_is_not_utf_8_is_an_error(trainfit: Trainfit, tmp_path: Path) -> None:
    path = tmp_path / "bin.json"
    path.write_bytes(b"\x80\xff")
    for outcome in (trainfit("estimate", str(path)), trainfit("estimate", "-", stdin=b"\x80\xff")):
        assert (outcome.code, outcome.out) == (2, "")
        assert "cannot be read: it is not UTF-8" in outcome.error


@pytest.mark.parametrize(
    ("text", "count"),
    [("{}", 1), ("{}\n{}", 2), ("\n{}\n\n{}\n", 2), ("{\n}", 1), ('{"a":\n1}', 1), ("{bad}\n{}", 2), ("", 1), ("x", 1)],
)
def test_documents(text: str, count: int) -> None:
    assert len(list(documents(text.splitlines(keepends=True)))) == count
