from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from app.cli import main
from app.cli.console import Console
from tests.app.conftest import fake_machine
from tests.app.fakes import fake_estimate


@dataclass(frozen=True)
class Outcome:
    """What a command said and returned."""

    code: int
    out: str
    error: str


Trainfit = Callable[..., Outcome]


@pytest.fixture
def trainfit(monkeypatch: pytest.MonkeyPatch) -> Trainfit:
    """The command line with a made-up engine and machine: `trainfit("check", "a/b", stdin="...")`."""
    monkeypatch.setattr("app.plans.estimate", fake_estimate)
    monkeypatch.setattr("app.plans._detect", fake_machine)

    def run(*words: str, stdin: str | bytes = "", colour: bool = False) -> Outcome:
        out, error = io.StringIO(), io.StringIO()
        source = io.StringIO(stdin) if isinstance(stdin, str) else io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        console = Console(source, out, error, width=80, colour=colour)
        monkeypatch.setattr(Console, "standard", lambda: console)
        return Outcome(main(words), out.getvalue(), error.getvalue())

    return run
