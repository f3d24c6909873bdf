"""The table that a person reads."""

import json
from pathlib import Path

import pytest

from planner.verify.trace_cli import main
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow


def test_the_table_names_the_peak_and_what_is_alive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tiny.LLAMA))
    options = "--method lora --lora-rank 4 --sequence-length 64 --target-modules q_proj,v_proj --at optimizer_step"
    assert main([str(config), *options.split()]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("peak ")
    assert "optimizer_step" in printed
    assert "MiB (native), " in printed.splitlines()[1]
    assert "model.layers.*.self_attn.q_proj.base_layer" in printed
