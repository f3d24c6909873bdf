"""Every model and every device of the catalogues gets an answer; what has no step program is refused by name."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from planner.architecture.count import counted_modules, module_elements, stack_modules
from planner.architecture.registry import read_config
from planner.architecture.spec import ModelSpec, layer_modules, reads_encoder
from planner.catalog.models import all_models, model
from planner.contract import Answer
from planner.hardware import all_devices
from tests.planner.asking import ask, terms

SMALL = "Qwen/Qwen3-0.6B"
REFUSED = {  # models whose blocks are counted and whose forward pass has no description
    "deepseek-ai/DeepSeek-V4-Flash-Base": "DeepSeek V4 .4 residual streams",
    "google/gemma-3n-E4B-it": "Gemma 3n .residual streams",
}


@pytest.mark.parametrize("model_id", REFUSED)
def test_what_is_not_described_is_refused_by_name_with_its_parameters(model_id: str) -> None:
    given = ask(model_id, method="full")
    assert given.verdict == "not_modelled"
    assert re.search(REFUSED[model_id], given.reasons[0].message)
    assert given.parameters is not None
    assert given.parameters.total > 0


def test_litgpt_is_refused_where_values_have_no_projection() -> None:
    given = ask("google/gemma-4-31B-it", method="full", framework="litgpt")
    assert given.verdict == "not_modelled"
    assert "litgpt" in given.reasons[0].message


@pytest.mark.parametrize("method", ["lora", "full", "qlora"])
def test_every_device_gives_an_answer(method: str) -> None:
    for device in all_devices():
        given = ask(SMALL, device.id, method=method)
        assert given.memory is not None, device.id


def test_a_model_with_towers_says_that_they_stand_idle() -> None:
    towers = [entry.id for entry in all_models() if read_config(entry.config).encoders]
    noted = [entry.id for entry in all_models() if "towers_idle" in {n.code for n in read_config(entry.config).notes}]
    sequence_to_sequence = {"t5", "mt5", "whisper"}
    assert noted == [name for name in towers if model(name).config["model_type"] not in sequence_to_sequence]
    assert any("of text alone" in warning for warning in ask("Qwen/Qwen2.5-VL-7B-Instruct").warnings)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_model_gives_an_answer(method: str) -> None:
    given: dict[str, Answer] = {entry.id: ask(entry.id, method=method) for entry in all_models()}
    verdicts = Counter(answer.verdict for answer in given.values())
    refused = Counter(answer.reasons[0].message for answer in given.values() if answer.verdict == "not_modelled")
    print(method, dict(verdicts), *(f"{count} x {why}" for why, count in refused.most_common()), sep="\n  ")  # noqa: T201  shown by pytest -s
    assert set(verdicts) == {"fits", "tight", "does_not_fit", "not_modelled"}
    assert all(answer.parameters is not None for answer in given.values())
    assert {answer.reasons[0].code for answer in given.values() if answer.verdict == "not_modelled"} == {
        "block_not_modelled"
    }


def played_elements(spec: ModelSpec) -> tuple[int, int, int]:
    """Elements of all tensors that a step trains, those of bare parameters among them, and the number of tensors."""
    idle = {id(module) for tower in spec.encoders if spec.task == "causal_lm" for module, _ in stack_modules(tower)}
    idle |= {
        id(m)
        for run in spec.text.runs
        if reads_encoder(run.layer) and spec.task == "causal_lm"
        for m in layer_modules(run.layer)
    }
    idle |= {
        id(m)
        for tower in spec.encoders
        if spec.task == "speech_seq2seq_lm"
        for m in tower.before
        if m.kind == "embedding"
    }
    idle |= {id(module) for module, _ in counted_modules(spec) if module.name.startswith("indexer.")}
    pairs = [(module, times) for module, times in counted_modules(spec) if id(module) not in idle]
    every = sum(times * module_elements(spec, module) for module, times in pairs)
    bare = sum(times * module.elements for module, times in pairs if module.kind == "parameter")
    return every, bare, sum(2 * times for _, times in pairs)


@pytest.mark.slow
def test_full_training_leaves_a_gradient_of_every_tensor() -> None:
    """A module that the step forgets to play would leave none. Bare parameters (A_log, sinks) may; they are small.

    With accumulation all gradients are alive at the peak, each rounded up to 512 bytes, the allocator's unit.
    """
    run: dict[str, Any] = {"method": "full", "gradient_accumulation_steps": 2}
    run |= {"weights_dtype": "bfloat16", "gradient_dtype": "bfloat16"}
    for entry in all_models():
        given = ask(entry.id, **run)
        if given.memory is None:
            continue
        every, bare, tensors = played_elements(read_config(entry.config))
        found = terms(given)["gradients"] // 2
        assert every - bare <= found <= every + 256 * tensors, entry.id
