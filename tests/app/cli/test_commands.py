from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.cli import COMMANDS
from app.cli.console import Console
from app.cli.doctor import TorchBuild, advice, missing_for_methods, read_torch_version, torch_build
from planner.contract import MachineRequest
from planner.hardware import resolve_machine
from tests.app.cli.conftest import Trainfit


def test_without_a_command_help_is_shown(trainfit: Trainfit, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainfit().code == 2
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "exit codes" in text


@pytest.mark.parametrize("words", [("--version",), ("--help",), *[(name, "--help") for name in COMMANDS]])
def test_help_and_version_exit_with_0(
    trainfit: Trainfit, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as caught:
        trainfit(*words)
    assert caught.value.code == 0
    assert "trainfit" in capsys.readouterr().out


def test_an_unknown_command_exits_with_2(trainfit: Trainfit, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        trainfit("verify")
    assert caught.value.code == 2
    assert "verify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("chek", "a/b"), "there is no command 'chek' (did you mean check?)"),
        (("zzz",), "there is no command 'zzz'\n"),
        (("check", "a/b", "--metod", "lora"), "unrecognized arguments: --metod (did you mean --method?) lora"),
        (("check", "a/b", "--sequence-lenght=4k"), "--sequence-lenght=4k (did you mean --sequence-length?)"),
        (("report", "list", "--limt", "3"), "--limt (did you mean --limit?)"),
        (("devices", "--qqqqqq"), "unrecognized arguments: --qqqqqq\n"),
    ],
)
def test_a_misspelt_word_gets_the_nearest(
    trainfit: Trainfit, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        trainfit(*words)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_models_are_found(trainfit: Trainfit) -> None:
    outcome = trainfit("models", "llama", "8b")
    assert outcome.code == 0
    assert "8.03 B  meta-llama/Llama-3.1-8B" in outcome.out
    first = json.loads(trainfit("models", "llama", "8b", "--json").out.splitlines()[0])
    assert first["parameters"] > 7e9


def test_all_models_are_listed(trainfit: Trainfit) -> None:
    assert len(trainfit("models").out.splitlines()) > 200


def test_devices_are_found(trainfit: Trainfit) -> None:
    outcome = trainfit("devices", "4090")
    assert outcome.code == 0
    assert "nvidia-rtx-4090-24gb" in outcome.out
    assert json.loads(trainfit("devices", "4090", "--json").out.splitlines()[0])["vendor"] == "nvidia"


@pytest.mark.parametrize("kind", ["models", "devices"])
def test_nothing_found_is_2(trainfit: Trainfit, kind: str) -> None:
    outcome = trainfit(kind, "nothing", "like", "it")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no" in outcome.error


def test_doctor_looks_at_this_machine(trainfit: Trainfit) -> None:
    outcome = trainfit("doctor")
    assert outcome.code in (0, 1)
    assert "torch" in outcome.out
    assert json.loads(trainfit("doctor", "--json").out)["packages"].keys() >= {"torch", "peft"}


CUDA = "__version__ = '2.13.0'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
ROCM = "__version__ = '2.13.0+rocm7'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0'\n"
CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("text", "accelerator"),
    [(CUDA, "cuda"), (ROCM, "hip"), (CPU, None), (CPU.replace("xpu: Optional[str] = None", "xpu = '1'"), "xpu")],
)
def test_torchs_version_file_says_what_it_was_built_for(text: str, accelerator: str | None) -> None:
    build = read_torch_version(text)
    assert build.accelerator == accelerator
    assert build.version.startswith("2.13.0")


def test_the_installed_torch_is_found_without_importing_it() -> None:
    build = torch_build()
    assert build is None or build.version[0].isdigit()


@pytest.mark.parametrize(
    ("device", "accelerator", "todo"),
    [
        ("nvidia-rtx-4090-24gb", "cuda", 0),
        ("nvidia-rtx-4090-24gb", None, 1),
        ("amd-rx-7900-xtx-24gb", "cuda", 1),
        ("amd-rx-7900-xtx-24gb", "hip", 0),
    ],
)
def test_a_build_that_cannot_see_the_card_is_said_so(device: str, accelerator: str | None, todo: int) -> None:
    machine = resolve_machine(MachineRequest(device=device))
    assert len(list(advice(machine, TorchBuild("2.13.0", accelerator)))) == todo


@pytest.mark.parametrize(
    ("device", "installed", "words"),
    [
        ("nvidia-rtx-4090-24gb", None, ["QLoRA and 8-bit optimizers need bitsandbytes"]),
        ("nvidia-rtx-4090-24gb", "0.50", []),
        ("apple-m4-max", None, ["QLoRA need bitsandbytes", "adamw or adafactor"]),
        ("google-tpu-v5e-chip", None, ["does not run on"]),
    ],
)
def test_what_only_some_methods_need_is_said_apart(device: str, installed: str | None, words: list[str]) -> None:
    machine = resolve_machine(MachineRequest(device=device, host_memory_gib=64))
    lines = list(missing_for_methods(machine, {"peft": "0.21", "bitsandbytes": installed}))
    assert [any(word in line for line in lines) for word in words] == [True] * len(words)
    assert bool(lines) == bool(words)


def test_adapters_need_peft() -> None:
    assert "peft" in next(missing_for_methods(None, {"peft": None, "bitsandbytes": None}))


def test_a_reader_who_has_seen_enough_makes_no_noise(
    trainfit: Trainfit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError

    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(Console, "write", closed)
        monkeypatch.setattr("sys.stdout", out)
        outcome = trainfit("models")
        out.write("this goes nowhere")
    assert (outcome.code, outcome.error, capsys.readouterr().err) == (141, "", "")
    assert (tmp_path / "out").read_text() == ""


def test_devices_are_listed_in_one_unit(trainfit: Trainfit) -> None:
    text = trainfit("devices").out
    assert "GeForce RTX 4090 24 GiB" in text
    assert not re.search(r"\d ?GB\b", text)


def test_what_is_missing_is_said_so() -> None:
    assert len(list(advice(None, None))) == 2
