"""The estimate against the library's own code, as an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.contract import Answer, Difference, EstimateRequest
from planner.hardware import resolve_machine
from planner.verify import verification
from planner.verify.extend import ExtendedTrace, MomentPeak
from planner.verify.stream import NotExtendable, Stream
from planner.verify.verification import verify
from tests.planner.step.reduced import reduced_config
from tests.planner.verify import tiny

pytestmark = pytest.mark.slow

LLAMA = {**tiny.LLAMA, "num_hidden_layers": 6}
# Real widths, at which a rounded small tensor is no percent of anything; they cost a trace nothing.
WIDE = {**LLAMA, "hidden_size": 2048, "intermediate_size": 5632, "vocab_size": 32000, "num_attention_heads": 16}


def verified(config: dict[str, Any], device: str = "nvidia-rtx-4090-24gb", **run: Any) -> Answer:
    request = EstimateRequest.model_validate(
        {"model": {"config": config}, "machine": {"device": device}, "run": {"sequence_length": 256, **run}}
    )
    return verify(request, config=config, machine=resolve_machine(request.machine), advice=False)


HELD = ("fragmentation", "peak_reserved")


def rows(answer: Answer) -> dict[str, Difference]:
    return {row.term: row for row in answer.evidence.differences}


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "dora", "freeze"])
def test_the_tiers_agree_on_a_small_llama(method: str) -> None:
    answer = verified(WIDE, method=method, sequence_length=1024)
    assert answer.evidence.tier == "verified"
    for row in answer.evidence.differences[: -len(HELD)]:
        assert abs(row.difference_bytes) <= rows(answer)["peak_allocated"].trace_bytes / 100, row
        assert row.believed == "estimate"
        assert row.difference_bytes == row.estimate_bytes - row.trace_bytes
    assert answer.parameters is not None
    assert f"{answer.parameters.total:,} parameters, as LlamaForCausalLM builds them" in answer.evidence.notes[0]
    assert "traced 2 and 3 layers, extended to 6" in answer.evidence.notes[1] or method == "freeze"
    assert not [warning for warning in answer.warnings if "parameters" in warning]


@pytest.mark.parametrize(
    "run",
    [
        {"method": "qlora"},
        {"method": "qlora", "activation_checkpointing": "full", "lora": {"dropout": 0.05}},
        {"method": "lora", "activation_checkpointing": "full", "lora": {"dropout": 0.05}},
        {"method": "lora", "framework": "transformers", "weights_dtype": "float32", "compute_dtype": "bfloat16"},
    ],
)
def test_the_tiers_agree_on_adapters_under_autocast(run: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"framework": "axolotl", "sequence_length": 1024, **run}
    answer = verified(WIDE, **asked)
    total = rows(answer)["peak_allocated"]
    assert abs(total.difference_bytes) <= total.trace_bytes / 1000


def test_the_terms_and_their_sum_are_the_answers() -> None:
    answer = verified(LLAMA, method="full")
    assert answer.memory is not None
    terms = answer.memory.device.terms.model_dump()
    *of_terms, total, _fragmentation, _reserved = answer.evidence.differences
    assert {row.term: row.estimate_bytes for row in of_terms} == {row.term: terms[row.term] for row in of_terms}
    assert total.estimate_bytes == answer.memory.device.peak_allocated_bytes
    assert total.trace_bytes == sum(row.trace_bytes for row in of_terms)


def test_phantom_experts_are_explained_and_the_closed_form_is_believed() -> None:
    answer = verified({**tiny.LONGCAT, "zero_expert_num": 64}, method="full")
    assert answer.evidence.tier == "verified"
    assert answer.parameters is not None
    found = rows(answer)
    for term in ("weights", "optimizer_states"):
        assert found[term].believed == "estimate"
        assert "zero experts" in found[term].why
        assert "they agree" in found[term].why
        assert found[term].difference_bytes < 0
    weights = found["weights"]
    assert "of parameters that no checkpoint has" in answer.evidence.notes[-1]
    counted = [warning for warning in answer.warnings if warning.startswith("LongcatFlashForCausalLM has")]
    assert len(counted) == 1
    assert "zero experts" in counted[0]
    assert "closed form is believed" in counted[0]
    assert answer.memory is not None
    assert answer.memory.device.terms.weights == pytest.approx(weights.estimate_bytes, rel=0.01)


def with_trace(monkeypatch: pytest.MonkeyPatch, *, grown_by: int) -> None:
    """Lets the trace find activations that the estimate doesn't know."""
    real = verification.traced

    def traced(*arguments: Any) -> tuple[ExtendedTrace, Stream | NotExtendable]:
        found, stream = real(*arguments)
        peak = found.peak
        terms = peak.by_term | {"activations": peak.by_term["activations"] + grown_by}
        higher = replace(peak, bytes=peak.bytes + grown_by, by_term=terms)
        return ExtendedTrace(found.layers, found.peaks | {peak.moment: higher}), stream

    monkeypatch.setattr(verification, "traced", traced)


def test_where_they_disagree_the_answer_has_the_traces_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = verified(LLAMA, method="lora")
    with_trace(monkeypatch, grown_by=30 * 2**30)
    answer = verified(LLAMA, method="lora")
    assert estimated.memory is not None
    assert answer.memory is not None
    assert (estimated.verdict, answer.verdict) == ("fits", "does_not_fit")
    peak, activations = rows(answer)["peak_allocated"], rows(answer)["activations"]
    assert (peak.believed, activations.believed) == ("trace", "trace")
    device = answer.memory.device
    assert device.peak_allocated_bytes == peak.trace_bytes
    assert device.terms.activations == activations.trace_bytes
    terms = device.terms.model_dump()
    assert sum(terms.values()) == device.peak_process_bytes
    assert device.required_bytes >= device.peak_process_bytes
    assert device.headroom_bytes == device.usable_bytes - device.required_bytes


def test_the_replay_says_what_is_reserved() -> None:
    answer = verified(WIDE, method="qlora", sequence_length=1024)
    assert answer.memory is not None
    device = answer.memory.device
    fragmentation, reserved = (rows(answer)[name] for name in HELD)
    assert fragmentation.believed == "trace"
    assert "births and deaths through PyTorch's caching allocator" in fragmentation.why
    assert device.terms.fragmentation == fragmentation.trace_bytes
    assert device.peak_reserved_bytes == device.peak_allocated_bytes + fragmentation.trace_bytes
    assert sum(device.terms.model_dump().values()) == device.peak_process_bytes
    assert reserved.trace_bytes == rows(answer)["peak_allocated"].trace_bytes + fragmentation.trace_bytes
    timeline = answer.evidence.timeline
    assert timeline is not None
    assert timeline.layers == LLAMA["num_hidden_layers"]
    assert max(timeline.reserved_bytes) == max(peak.bytes for peak in timeline.peaks) + fragmentation.trace_bytes


def test_expandable_segments_are_another_replay() -> None:
    native, expandable = (
        rows(verified(WIDE, method="full", sequence_length=1024, allocator=allocator))["fragmentation"]
        for allocator in ("native", "expandable_segments")
    )
    assert expandable.trace_bytes < native.trace_bytes


def test_on_a_processor_the_measured_rule_is_believed() -> None:
    answer = verified(LLAMA, device="generic-laptop-cpu-4c", method="full")
    assert rows(answer)["fragmentation"].believed == "estimate"


def test_events_that_cannot_be_continued_leave_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    def extended(*_: Any) -> Stream:
        raise NotExtendable("a storage of layers.* (mm) does not repeat from layer to layer")

    monkeypatch.setattr(verification, "extended_stream", extended)
    answer = verified(LLAMA, method="full")
    assert answer.evidence.tier == "verified"
    assert answer.evidence.timeline is None
    assert "fragmentation" not in rows(answer)
    assert "fragmentation is the prior: a storage of layers.*" in answer.evidence.notes[-1]


def test_a_small_disagreement_leaves_the_estimates_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = verified(LLAMA, method="lora")
    with_trace(monkeypatch, grown_by=512)
    answer = verified(LLAMA, method="lora")
    assert answer.memory == estimated.memory
    assert rows(answer)["activations"].believed == "estimate"


def test_a_parameter_count_that_differs_is_named_by_component(monkeypatch: pytest.MonkeyPatch) -> None:
    real = verification.built_parameters

    def built(config: dict[str, Any]) -> verification.Built:
        found = real(config)
        return replace(found, by_component=found.by_component | {"mlp": found.by_component["mlp"] + 7})

    monkeypatch.setattr(verification, "built_parameters", built)
    warnings = [warning for warning in verified(LLAMA).warnings if "parameters" in warning]
    assert len(warnings) == 1
    assert "the difference of +7 is in mlp +7" in warnings[0]


@pytest.mark.parametrize(
    ("config", "run", "said"),
    [
        (LLAMA, {"framework": "torchtitan"}, "torchtitan has its own loop"),
        ({**LLAMA, "hidden_act": "no_such_function"}, {}, "KeyError"),
        ({**LLAMA, "model_type": "baichuan"}, {}, "baichuan"),
    ],
    ids=["framework", "activation", "no class"],
)
def test_what_is_not_covered_keeps_its_estimate_and_says_why(
    config: dict[str, Any], run: dict[str, Any], said: str
) -> None:
    answer = verified(config, **run)
    if answer.memory is None:
        pytest.skip("not modelled: there is no estimate to verify")
    assert answer.evidence.tier == "estimate"
    assert answer.evidence.differences == []
    assert [said in reason.message for reason in answer.reasons if reason.code == "not_verifiable"] == [True]


def test_where_the_librarys_code_gave_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    def forward(self: Any, *_: Any, **__: Any) -> Any:  # noqa: ARG001
        raise RuntimeError("aten.no_such_op has no fake form\nand more")

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", forward)
    (reason,) = [reason for reason in verified(LLAMA).reasons if reason.code == "not_verifiable"]
    assert "in LlamaMLP: RuntimeError: aten.no_such_op has no fake form" in reason.message


def test_memory_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def hoard(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(verification, "traced", hoard)
    with pytest.raises(MemoryError):
        verified(LLAMA)


def test_two_moments_that_are_nearly_as_high_are_compared_at_the_same_one() -> None:
    low = MomentPeak("loss", 995, {"activations": 995}, "")
    high = MomentPeak("backward", 1000, {"activations": 1000}, "")
    trace = ExtendedTrace(4, {"loss": low, "backward": high})
    ledger: Any = type("Ledger", (), {"peak_moment": "loss"})
    assert verification.comparable_peak(ledger, trace) is low
    assert verification.comparable_peak(ledger, ExtendedTrace(4, {"loss": replace(low, bytes=900), "b": high})) is high


TWO_STACKS = {
    "t5": {"num_layers": 3, "num_decoder_layers": 5},
    "mt5": {"num_layers": 4},
    "whisper": {"encoder_layers": 5, "decoder_layers": 2, "num_hidden_layers": 5},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("run", [
    {"method": "full"}, {"method": "lora", "activation_checkpointing": "full"}, {"method": "freeze"},
    {"method": "full", "loss": "chunked"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("model_type", TWO_STACKS)
def test_an_encoder_and_a_decoder_are_traced_at_their_own_depths(model_type: str, run: dict[str, Any]) -> None:
    config = {**reduced_config(model_type), **TWO_STACKS[model_type]}
    answer = verified(config, "nvidia-a100-sxm-80gb", sequence_length=128, weights_dtype="bfloat16", **run)
    assert answer.evidence.tier == "verified", answer.reasons
    decoder = {"t5": 5, "mt5": 4, "whisper": 2}[model_type]
    assert f"traced {decoder} layers" in answer.evidence.notes[-1]
    peak = rows(answer)["peak_allocated"]  # of models so small that a matrix of 2 MiB is 1 % of it
    assert abs(peak.difference_bytes) <= 0.03 * peak.trace_bytes
    assert not any("the closed form counts" in warning for warning in answer.warnings)
