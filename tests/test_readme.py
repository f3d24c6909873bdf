"""What the README tells people to type, typed against a running server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SERVE = [sys.executable, "-c", "import sys; from app.cli import main; sys.exit(main(sys.argv[1:]))", "serve"]
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has nothing in it."""
    words = [*SERVE, "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[3]
        process.kill()


def block(heading: str, language: str) -> str:
    """The first block of a language under a heading."""
    section = README.partition(f"### {heading}")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found[1]


def typed(command: list[str], text: str, server: str, folder: Path) -> str:
    """What a program says when it is given a text of the README, with our server in the place of theirs."""
    text = text.replace("http://127.0.0.1:8000", server)
    done = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_three_commands_lead_from_nothing_to_a_comparison(server: str, tmp_path: Path) -> None:
    commands = block("From nothing to a comparison", "sh")
    assert len(re.findall(r"^curl ", commands, re.MULTILINE)) == 3
    said = typed(["bash", "-euo", "pipefail"], commands, server, tmp_path)
    assert '"id":"kaggle-gpu-t4-x2"' in said
    comparison = (tmp_path / "comparison.md").read_text()
    assert comparison.startswith("# My laptop, a rented 4090, or Kaggle?")
    assert "2 × Tesla T4" in comparison
    url = httpx.get(f"{server}/api/v1/reports", trust_env=False).json()["items"][0]["url"]
    page = httpx.get(server + url, headers={"accept": "text/html"}, trust_env=False)
    assert "GeForce RTX 4090" in page.text


def test_the_python_client_works_as_shown(server: str, tmp_path: Path) -> None:
    said = typed([sys.executable, "-"], block("From Python", "python"), server, tmp_path)
    lines = said.splitlines()
    assert [line.split()[0] for line in lines] == ["full", "lora", "qlora", "kept"]
    assert lines[0].split()[1] == "does_not_fit"
    assert re.fullmatch(r"kept at /r/[a-z2-7]{26}", lines[3])
