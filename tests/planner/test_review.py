"""What a hostile reading of the engine found, so that it stays found."""

from __future__ import annotations

from typing import Any

import pytest

from planner.advice import merge_patch
from planner.architecture.registry import read_config
from planner.catalog.models import all_models, model
from planner.contract import EstimateRequest
from planner.errors import PlanError
from planner.hardware import resolve_machine
from planner.memory.sharding import Sharding, communication
from planner.plan import resolve
from tests.planner.asking import H100, LLAMA_8B, RTX_4090, answer, ask, request

MI300A = "amd-mi300a-128gb"


@pytest.mark.parametrize(
    ("run", "field"),
    [
        ({"method": "lora", "lora": {"target_modules": ["no_such_module"]}}, "run.lora.target_modules"),
        ({"method": "freeze", "freeze": {"trainable_layers": 0}}, "run.freeze.trainable_layers"),
    ],
)
def test_a_run_that_trains_nothing_is_refused(run: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as refused:
        ask(LLAMA_8B, H100, machine={"device_count": 2}, **run)
    assert refused.value.field == field


def test_a_classification_head_alone_may_be_trained() -> None:
    given = ask(method="freeze", freeze={"trainable_layers": 0}, objective="sequence_classification")
    assert given.parameters is not None
    assert given.parameters.trainable == 2 * 4096


def test_each_apu_has_a_pool_of_its_own() -> None:
    one, four = (ask(LLAMA_8B, MI300A, machine={"device_count": n}) for n in (1, 4))
    assert one.memory is not None
    assert four.memory is not None
    assert four.memory.host.usable_bytes == 4 * (one.memory.host.usable_bytes or 0)
    assert one.verdict == four.verdict == "fits"


def test_a_sharded_run_sends_no_less_than_a_replicated_one() -> None:
    seconds: list[float] = []
    for stage in (1, 2, 3):
        given = ask(LLAMA_8B, H100, method="full", machine={"device_count": 8}, parallelism={"zero_stage": stage})
        assert given.throughput is not None
        seconds.append(sum(o.bytes for o in given.throughput.operations if "communication" in o.operation))
    assert seconds[0] == pytest.approx(seconds[1], rel=1e-3)
    assert seconds[2] > seconds[1] > 0


def test_a_saved_checkpoint_is_whole_whatever_is_sharded() -> None:
    needed: list[int] = []
    for stage in (0, 3):
        given = ask(
            LLAMA_8B, H100, method="full", framework="deepspeed", machine={"device_count": 8},
            parallelism={"zero_stage": stage},
        )  # fmt: skip
        assert given.memory is not None
        needed.append(given.memory.disk.needed_bytes)
    assert needed[1] == pytest.approx(needed[0], rel=1e-3)


def test_sharded_adapters_are_rounded_one_by_one() -> None:
    given = ask(LLAMA_8B, H100, machine={"device_count": 7}, parallelism={"zero_stage": 3})
    assert given.memory is not None
    assert given.memory.device.terms.adapters % 512 == 0


def test_another_model_is_advised_without_the_old_ones_revision() -> None:
    asked = EstimateRequest.model_validate(
        {"model": {"id": "meta-llama/Llama-3.1-70B", "revision": "0" * 40}, "machine": {"device": RTX_4090},
         "run": {"method": "full", "gradient_dtype": "bfloat16"}}
    )  # fmt: skip
    others = [a for a in answer(asked, advice=True).advice if "model" in a.change]
    assert others
    for advice in others:
        changed = EstimateRequest.model_validate(merge_patch(asked.model_dump(exclude_unset=True), advice.change))
        assert changed.model.revision is None
        assert answer(changed).verdict == "fits"


def test_advice_names_no_step_that_changes_nothing() -> None:
    asked = request(LLAMA_8B, RTX_4090, method="qlora", sequence_length=65536, activation_checkpointing="full")
    given = answer(asked, advice=True)
    assert given.advice
    assert not any("heckpoint" in advice.title for advice in given.advice)


def test_selective_checkpoints_can_become_full_ones() -> None:
    given = ask(LLAMA_8B, H100, framework="torchtitan", advice=True)
    assert any(advice.change == {"run": {"activation_checkpointing": "full"}} for advice in given.advice)


@pytest.mark.parametrize("device", ["apple-m2-pro", "nvidia-v100-sxm2-32gb", "google-tpu-v5p-chip", MI300A])
def test_no_lever_leads_to_what_no_software_runs(device: str) -> None:
    given = ask("Qwen/Qwen2.5-0.5B", device, advice=True)
    if given.verdict in {"fits", "tight"}:
        assert all(advice.verdict != "unsupported" for advice in given.advice)


def test_a_tight_host_is_named_by_its_own_figures() -> None:
    base = ask(LLAMA_8B, H100, method="full")
    assert base.memory is not None
    needed_gib = base.memory.host.peak_bytes / 2**30
    given = ask(LLAMA_8B, "nvidia-b200-180gb", method="full", machine={"host_memory_gib": needed_gib + 2.01})
    assert given.verdict == "tight"
    assert f"{needed_gib:.1f} GiB of" in given.summary


@pytest.mark.parametrize("parallelism", [{"tensor": 3}, {"tensor": 2, "data": 5}, {"pipeline": 16}])
def test_a_product_that_does_not_match_is_refused_before_what_is_not_modelled(parallelism: dict[str, int]) -> None:
    with pytest.raises(PlanError) as refused:
        ask(LLAMA_8B, H100, machine={"device_count": 8}, parallelism=parallelism)
    assert refused.value.code == "parallelism_mismatch"


def test_a_lever_names_every_field_that_changes_with_it() -> None:
    given = answer(request(LLAMA_8B, RTX_4090, method="lora"), advice=True)
    lever = next(advice for advice in given.advice if advice.title.startswith("QLoRA"))
    changed = EstimateRequest.model_validate(
        merge_patch(given.request.model_dump(exclude_unset=True, mode="json"), lever.change)
    )
    after = answer(changed)
    for name in ("activation_checkpointing", "gradient_dtype", "optimizer_impl"):
        before, now = given.assumed.get(f"run.{name}"), after.assumed.get(f"run.{name}")
        assert before == now or f"{name.replace('_', ' ')} {now} (was {before})" in lever.why
    assert "activation checkpointing full (was none)" in lever.why


def test_the_time_to_finish_has_the_steps_relative_range() -> None:
    time = answer(request(LLAMA_8B, RTX_4090, method="qlora", tokens=10_000_000)).throughput
    assert time is not None
    assert time.seconds_to_finish is not None
    assert time.finish_interval is not None
    assert time.finish_interval[0] / time.seconds_to_finish == pytest.approx(time.interval[0] / time.step_seconds)
    assert time.finish_interval[1] / time.seconds_to_finish == pytest.approx(time.interval[1] / time.step_seconds)


def test_a_full_dump_of_a_request_asks_the_same_question() -> None:
    asked = request(LLAMA_8B, RTX_4090, framework="torchtune", method="lora", lora={"rank": 8})
    dumped = EstimateRequest.model_validate(asked.model_dump(mode="json"))
    first, second = answer(asked), answer(dumped)
    assert first.memory == second.memory
    assert first.assumed["run.lora.adapter_dtype"] == second.assumed["run.lora.adapter_dtype"] == "bfloat16"


@pytest.mark.parametrize("optimizer", ["adafactor", "lion", "muon", "adamw_8bit", "paged_adamw", "adamw"])
def test_the_optimizers_implementation_is_always_listed(optimizer: str) -> None:
    assert "run.optimizer_impl" in ask(LLAMA_8B, H100, optimizer=optimizer).assumed


def test_a_classifier_counts_its_own_head_and_peft_copies_it() -> None:
    full, adapted = (
        ask("mistralai/Mistral-7B-v0.1", H100, method=method, objective="sequence_classification", num_labels=5)
        for method in ("full", "lora")
    )
    language = ask("mistralai/Mistral-7B-v0.1", H100, method="full")
    assert full.parameters is not None
    assert language.parameters is not None
    assert language.parameters.total - full.parameters.total == (32_000 - 5) * 4096
    assert full.parameters.by_component["lm_head"] == 5 * 4096
    assert full.parameters.total == full.parameters.trainable == sum(full.parameters.by_component.values())
    plain = ask("mistralai/Mistral-7B-v0.1", H100, method="lora")
    assert adapted.parameters is not None
    assert plain.parameters is not None
    assert adapted.memory is not None
    assert plain.memory is not None
    assert adapted.parameters.trainable - plain.parameters.trainable == 5 * 4096
    assert adapted.memory.device.terms.adapters - plain.memory.device.terms.adapters == 5 * 4096 * 4


def test_a_parameter_without_a_gradient_is_never_trained() -> None:
    ernie = next(m for m in all_models() if m.config["model_type"] == "ernie4_5_moe")
    answered = ask(ernie.id, H100, method="full")
    assert answered.parameters is not None
    config = ernie.config
    sparse = config["num_hidden_layers"] - config["moe_layer_start_index"]
    assert answered.parameters.total - answered.parameters.trainable == sparse * config["moe_num_experts"]


def test_a_smaller_model_is_suggested_with_the_method_that_was_asked_for() -> None:
    asked = request("meta-llama/Llama-3.1-70B", RTX_4090, method="full")
    suggestions = [advice for advice in answer(asked, advice=True).advice if "model" in advice.change]
    assert suggestions[0].title.endswith(", the same run")
    assert "run" not in suggestions[0].change
    assert suggestions[-1].title.endswith("with QLoRA")
    assert all(advice.makes_it_fit for advice in suggestions)


def test_a_packed_checkpoint_is_downloaded_packed() -> None:
    entry = next(m for m in all_models() if m.id == "openai/gpt-oss-20b")
    packed = {**entry.config, "quantization_config": {"quant_method": "mxfp4"}}
    wide, narrow = (ask(config, H100) for config in (dict(entry.config), packed))
    assert wide.memory is not None
    assert narrow.memory is not None
    assert wide.memory.disk.terms["downloaded_weights"] == pytest.approx(41.8e9, rel=0.01)
    assert narrow.memory.disk.terms["downloaded_weights"] == pytest.approx(
        13.8e9, rel=0.01
    )  # 13,761,300,984 on the Hub


def test_every_moment_is_listed_even_when_only_the_head_is_trained() -> None:
    memory = ask(
        "Qwen/Qwen2.5-0.5B", RTX_4090,
        method="freeze", freeze={"trainable_layers": 0}, objective="sequence_classification",
    ).memory  # fmt: skip
    assert memory is not None
    names = [moment.name for moment in memory.device.moments]
    assert names == ["load", "forward", "loss", "backward", "optimizer_step", "evaluation", "save"]


def test_paged_states_of_one_pool_stay_in_it() -> None:
    machine = {"host_memory_gib": 64}
    memory = ask("Qwen/Qwen2.5-0.5B", "amd-epyc-9654", machine=machine, method="full", optimizer="paged_adamw").memory
    assert memory is not None
    assert memory.host.terms == {}
    assert memory.host.peak_bytes == memory.device.required_bytes
    assert memory.device.headroom_bytes == memory.device.usable_bytes - memory.host.peak_bytes
    assert memory.device.terms.optimizer_states == pytest.approx(8 * 494_032_768, rel=0.01)


def test_shards_of_gradients_are_storages_of_their_own() -> None:
    two = ask(LLAMA_8B, H100, machine={"device_count": 7}, method="full", parallelism={"zero_stage": 2}).memory
    assert two is not None
    assert two.device.terms.gradients % 512 == 0


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("amd-epyc-9654", "bfloat16"), ("amd-ryzen-5950x", "float32"), ("nvidia-t4-16gb", "float16")],
)
def test_a_float16_checkpoint_is_not_trained_in_emulated_float16(device: str, dtype: str) -> None:
    given = ask("meta-llama/Llama-2-7b-hf", device, machine={"host_memory_gib": 512}, method="lora", tokens=10**7)
    assert given.assumed["run.compute_dtype"] == dtype
    assert given.throughput is not None
    assert given.throughput.tokens_per_second > 5


def test_fsdp_gathers_4_bit_layers_packed() -> None:
    spec, machine = read_config(model(LLAMA_8B).config), resolve_machine(request(LLAMA_8B, H100).machine)
    sharded = Sharding(zero_stage=3, ranks=8)

    def gathered(method: str, framework: str) -> int:
        plan = resolve(request(LLAMA_8B, H100, method=method, framework=framework), spec, machine)
        return communication(spec, plan.rules, [], sharded).forward

    matrices = 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336
    assert gathered("lora", "transformers") - gathered("qlora", "transformers") == 2 * (matrices * 2 - matrices // 2)
    assert gathered("lora", "deepspeed") == gathered("qlora", "deepspeed")


def test_sharded_int8_is_refused_by_name() -> None:
    given = ask(LLAMA_8B, H100, method="qlora", quantization={"scheme": "int8"}, parallelism={"zero_stage": 3})
    assert given.verdict == "not_modelled"
    assert given.reasons[0].field == "run.quantization.scheme"
