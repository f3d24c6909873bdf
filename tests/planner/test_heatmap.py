"""The map's cells are the estimate's verdicts, and its frontier lies exactly between yes and no."""

from __future__ import annotations

from typing import Any

import pytest

from planner.contract import Answer
from planner.evaluation import VERDICTS, prepare
from planner.hardware import resolve_machine
from planner.heatmap import heat_map
from tests.planner.asking import LLAMA_8B, RTX_4090, answer, request, required
from tests.planner.search.test_search import Catalogue

CASES: list[tuple[str, str, dict[str, Any]]] = [
    (LLAMA_8B, RTX_4090, {"method": "qlora", "activation_checkpointing": "full"}),
    (LLAMA_8B, RTX_4090, {"method": "lora", "attention": "eager", "micro_batch_size": 3, "sequence_length": 1000}),
    (LLAMA_8B, "amd-epyc-9654", {"method": "lora"}),
    ("openai-community/gpt2", RTX_4090, {"method": "full"}),
]


@pytest.mark.parametrize(("model_id", "device", "run"), CASES)
def test_cells_and_frontier_are_what_estimates_say(model_id: str, device: str, run: dict[str, Any]) -> None:
    asked = request(model_id, device, **run)
    plan = prepare(asked, Catalogue().spec(asked.model), resolve_machine(asked.machine))
    found = heat_map(plan)
    assert plan.micro_batch_size in found.batches
    assert plan.sequence_length in found.sequences

    def sized(batch: int, sequence: int) -> Answer:
        return answer(request(model_id, device, **(run | {"micro_batch_size": batch, "sequence_length": sequence})))

    def verdict(batch: int, sequence: int) -> str:
        return sized(batch, sequence).verdict

    for row, sequence in enumerate(found.sequences[:4]):
        for column, batch in enumerate(found.batches[:3]):
            single = sized(batch, sequence)
            assert VERDICTS[found.grades[row, column]] == single.verdict
            assert found.required_bytes[row, column] == required(single)
        largest = found.largest_batches[row]
        assert largest == 0 or verdict(largest, sequence) == "fits"
        assert verdict(largest + 1, sequence) != "fits"
    longest = found.longest_sequence
    assert longest == 0 or verdict(plan.micro_batch_size, longest) == "fits"
    assert longest == found.sequence_limit or verdict(plan.micro_batch_size, longest + 1) != "fits"


def test_positions_that_the_model_does_not_have_are_not_on_the_map() -> None:
    asked = request("openai-community/gpt2", RTX_4090)
    found = heat_map(prepare(asked, Catalogue().spec(asked.model), resolve_machine(asked.machine)))
    assert max(found.sequences) == found.sequence_limit == 1024
