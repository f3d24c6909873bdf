from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from planner.estimate import estimate
from tests.app.cli.conftest import Trainfit

LLAMA = ("check", "meta-llama/Llama-3.1-8B", "--device", "nvidia-rtx-4090-24gb")


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        ((), 0, "FITS"),
        (("--method", "full"), 1, "DOES NOT FIT"),
        (("--micro-batch-size", "4"), 1, "TIGHT"),
    ],
)
def test_the_exit_code_is_the_verdict(trainfit: Trainfit, flags: tuple[str, ...], code: int, word: str) -> None:
    outcome = trainfit(*LLAMA, *flags)
    assert outcome.code == code
    assert outcome.out.splitlines()[0].endswith(word)
    assert outcome.error == ""


def test_not_modelled_is_2(trainfit: Trainfit, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "martian"}', encoding="utf-8")
    outcome = trainfit("check", str(tmp_path))
    assert (outcome.code, "NOT MODELLED" in outcome.out) == (2, True)


def test_the_report_says_what_people_ask(trainfit: Trainfit) -> None:
    text = trainfit(*LLAMA, "--method", "full").out
    for part in ("usable", "Weights", "Missing", "← highest", "What would change", "makes it fit", "Time", "Assumed"):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text


def test_colour_is_for_terminals(trainfit: Trainfit) -> None:
    assert "\x1b[" in trainfit(*LLAMA, colour=True).out


def test_json_is_the_apis_answer(trainfit: Trainfit) -> None:
    outcome = trainfit(*LLAMA, "--json", "--lora-rank", "8", "--lora-target-modules", "q_proj,v_proj", "--compile")
    answer = json.loads(outcome.out)
    assert answer["request"]["run"]["lora"]["target_modules"] == ["q_proj", "v_proj"]
    assert answer["request"]["run"]["compile"] is True
    assert answer["request"]["machine"]["device"] == "nvidia-rtx-4090-24gb"


def test_advice_can_be_left_out(trainfit: Trainfit) -> None:
    assert json.loads(trainfit(*LLAMA, "--json", "--no-advice").out)["advice"] == []


def test_a_device_of_ones_own(trainfit: Trainfit) -> None:
    flags = ("--custom-device-memory-gib", "48", "--custom-device-memory-bandwidth-gb-s", "900")
    answer = json.loads(trainfit("check", "meta-llama/Llama-3.1-8B", *flags, "--json").out)
    assert answer["memory"]["device"]["total_bytes"] == 48 * 2**30


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_plan_file_and_flags_over_it(trainfit: Trainfit, tmp_path: Path, suffix: str) -> None:
    plan = {"model": {"id": "meta-llama/Llama-3.1-8B"}, "run": {"method": "full", "lora": {"rank": 4}}}
    path = tmp_path / f"plan{suffix}"
    path.write_text(json.dumps(plan), encoding="utf-8")
    assert trainfit("check", str(path)).code == 1
    run = json.loads(trainfit("check", str(path), "--method", "lora", "--json").out)["request"]["run"]
    assert (run["method"], run["lora"]["rank"]) == ("lora", 4)


def test_a_bare_config_file(trainfit: Trainfit, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "llama", "x": Infinity}'.replace(', "x": Infinity', ""), encoding="utf-8")
    assert json.loads(trainfit("check", str(path), "--json").out)["request"]["model"]["config"] == {
        "model_type": "llama"
    }


def test_a_plan_from_standard_input(trainfit: Trainfit) -> None:
    assert trainfit("check", "-", stdin='{"model": {"id": "meta-llama/Llama-3.1-8B"}}').code == 0


def test_a_plan_in_yaml_from_standard_input_reads_suffixes_as_the_flags_do(trainfit: Trainfit) -> None:
    plan = "model: {id: meta-llama/Llama-3.1-8B}\nrun: {sequence_length: 4k, tokens: 1.5M}\nmachine:\n"
    run = json.loads(trainfit("check", "-", "--json", stdin=plan).out)["request"]["run"]
    assert (run["sequence_length"], run["tokens"]) == (4096, 1_500_000)


@pytest.mark.parametrize(
    ("plan", "words", "says"),
    [
        ('{"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": "nvidia-rtx-4090-24gb"}', (), "`machine`"),
        ('{"model": {"id": "meta-llama/Llama-3.1-8B"}, "run": "full"}', ("--method", "lora"), "`run`"),
        ('{"model": {"id": "meta-llama/Llama-3.1-8B"}, "machine": ""}', (), "`machine`"),
        ('{"model": "meta-llama/Llama-3.1-8B"}', ("--revision", "main"), "`model`"),
        ("{}", ("--revision", "main"), "`model`"),
        (b"\x80\xff\x00", (), "standard input is not UTF-8"),
        (" \n", (), "standard input is empty"),
        ("{", (), "not JSON"),
        ("a: [1", (), "standard input is not YAML"),
        ("a: 2026-13-45", (), "standard input is not YAML"),
        ("[" * 9000, (), "standard input is not YAML"),
        ('{"model": {"id": "meta-llama/Llama-3.1-8B"}}', ("--sequence-length", "-5"), "`run.sequence_length` is -5"),
    ],
)
def test_a_wrong_plan_is_never_answered(
    trainfit: Trainfit, plan: str | bytes, words: tuple[str, ...], says: str
) -> None:
    outcome = trainfit("check", "-", *words, stdin=plan)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith("error: ")
    assert says in outcome.error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("check", "a b"), "not one of the Hub's form"),
        (("check", "./nowhere"), "cannot be read as a config.json"),
        ((*LLAMA, "--sequence-length", "many"), "`run.sequence_length` is 'many'"),
        ((*LLAMA, "--lora-rank", "0", "--loss", "x"), "one of full_logits, chunked, fused_linear"),
        (("check", "meta-llama/Llama-3.1-8B", "--device", "rtx"), "no device 'rtx'"),
    ],
)
def test_errors_say_what_is_wrong_and_return_2(trainfit: Trainfit, words: tuple[str, ...], says: str) -> None:
    outcome = trainfit(*words)
    assert outcome.code == 2
    assert says in outcome.error
    assert outcome.out == ""


def test_errors_are_problems_with_json(trainfit: Trainfit) -> None:
    outcome = trainfit(*LLAMA, "--sequence-length", "many", "--json")
    assert (outcome.code, json.loads(outcome.out)["field"]) == (2, "run.sequence_length")


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "a: [1"), ("b.json", "{"), ("c.yaml", "- 1"), ("d.json", "5")])
def test_a_broken_plan_file_is_an_error(trainfit: Trainfit, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    outcome = trainfit("check", str(tmp_path / name))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.error.startswith("error: ")


def test_help_names_every_field(capsys: pytest.CaptureFixture[str], trainfit: Trainfit) -> None:
    with pytest.raises(SystemExit) as caught:
        trainfit("check", "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--device", "--method", "--lora-rank", "--parallelism-zero-stage", "--custom-device-memory-gib"):
        assert flag in text


def test_suffixes_of_numbers_are_understood_and_said_so(trainfit: Trainfit) -> None:
    outcome = trainfit(*LLAMA, "--json", "--tokens", "1.5M", "--sequence-length", "4k", "--micro-batch-size", "2")
    run = json.loads(outcome.out)["request"]["run"]
    assert (run["tokens"], run["sequence_length"]) == (1_500_000, 4096)
    assert outcome.error.splitlines() == [
        "--sequence-length 4k understood as 4,096",
        "--tokens 1.5M understood as 1,500,000",
    ]


def test_a_plan_file_that_is_not_there_is_called_so(trainfit: Trainfit) -> None:
    outcome = trainfit("check", "nowhere.yaml")
    assert outcome.code == 2
    assert "there is no plan file nowhere.yaml" in outcome.error


def test_the_report_tells_what_the_allocator_hands_out_from_what_the_process_needs(trainfit: Trainfit) -> None:
    assert "more than the highest of them" in " ".join(trainfit(*LLAMA).out.split())


def test_money_is_said_with_its_range_and_its_date(trainfit: Trainfit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.plans.estimate", estimate)
    rented = ("check", "meta-llama/Llama-3.1-8B", "--offer", "verda-l40s-spot", "--spot", "--tokens", "10M")
    text = trainfit(*rented, "--purchase-usd", "9000", "--method", "lora").out
    assert re.search(r"  price: \$0\.94 an hour \(spot\), Verda .*, of 20\d\d-", text)
    assert re.search(r"  cost to finish: \$[\d.]+ \(\$[\d.]+ to \$[\d.]+\)", text)
    assert re.search(r"  energy: at most .* kWh", text)
    assert "  rent against buy: " in text
    lent = trainfit("check", "Qwen/Qwen2.5-0.5B", "--offer", "kaggle-gpu-t4-x2", "--tokens", "10M").out
    assert "  sessions: it fits one session" in lent
    assert "cost to finish" not in lent


def test_the_time_to_finish_has_a_range(trainfit: Trainfit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.plans.estimate", estimate)
    line = next(line for line in trainfit(*LLAMA, "--tokens", "10M").out.splitlines() if "to finish" in line)
    assert re.fullmatch(r"  to finish: .+ \(.+ to .+\)", line)
