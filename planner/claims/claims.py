"""The claims, in the order in which they are usually met, each with what decides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from planner.catalog.models import siblings
from planner.catalog.offers import all_offers
from planner.claims.judging import TOKENS, Asked, Claim, Row, Verdict, ask
from planner.hardware import all_devices, device
from planner.support import all_rows
from planner.throughput.factors import factors
from planner.units import GIB, format_bytes, format_count, format_seconds

Judgement = tuple[Verdict, str, Sequence[Row]]
LONGCAT: Final = "meituan-longcat/LongCat-Flash-Chat"
SEVEN_B: Final = "mistralai/Mistral-7B-v0.1"
ONE_B: Final = "meta-llama/Llama-3.2-1B"
SEVENTY_B: Final = "Qwen/Qwen2.5-72B"
DESKTOP: Final = "amd-ryzen-7950x"
SERVER: Final = "amd-epyc-9654"
SERVER_MEMORY: Final = {"host_memory_gib": 1536}
NF4_BYTES: Final = 0.5625
"""4 bits and a float32 scale per 64 weights (arXiv 2305.14314); the common GGUF formats of 4 bits are of this size."""
BFLOAT16_BYTES: Final = 2


def _rows(asked: Sequence[Asked]) -> list[Row]:
    return [one.row for one in asked]


def _longcat_size() -> Judgement:
    asked = ask("LongCat-Flash, QLoRA on a server", LONGCAT, SERVER, machine=SERVER_MEMORY, method="qlora")
    counted = asked.parameters
    right = 0.9 < counted.total / 56e9 < 1.1
    why = (
        f"Its configuration holds {format_count(counted.total)} parameters, of which a token uses "
        f"{format_count(counted.active)} on average: {counted.total / 56e9:.0f} times the figure."
    )
    rows = [Row("Parameters, counted", f"{counted.total:,}", asked.request), asked.row]
    return ("confirmed" if right else "corrected"), why, rows


def _seventy_gigabytes() -> Judgement:
    h200 = "nvidia-h200-sxm-141gb"
    policies = [
        ask("all in bfloat16", SEVEN_B, h200, method="full"),
        ask("all in bfloat16, 8-bit moments", SEVEN_B, h200, method="full", optimizer="adamw_8bit"),
        ask(
            "float32 with autocast to bfloat16",
            SEVEN_B,
            h200,
            method="full",
            weights_dtype="float32",
            compute_dtype="bfloat16",
        ),
        ask("bfloat16 with a float32 master copy (DeepSpeed)", SEVEN_B, h200, method="full", framework="deepspeed"),
    ]
    weights = policies[0].device.terms.weights
    sizes = [one.bytes for one in policies]
    why = (
        f"The weights take {weights / 1e9:.1f} GB in 16 bit, as said. Training takes {format_bytes(min(sizes))} to "
        f"{format_bytes(max(sizes))} by the number formats of weights, gradients and moments; {sizes[0] / 1e9:.0f} GB "
        "is pure bfloat16 with AdamW at batch 1, the policy nearest to 70 GB."
    )
    return "holds when", why, _rows(policies)


def _four_bit_on_cpu() -> Judgement:
    small = ask("a 1 B model, LoRA on a desktop processor", ONE_B, DESKTOP, method="lora")
    seven = ask("a 7 B model, QLoRA on a desktop processor", SEVEN_B, DESKTOP, method="qlora")
    feasible = seven.fits and seven.bytes <= 12 * GIB
    why = (
        f"QLoRA of a 7 B model takes {format_bytes(seven.bytes)} of memory there, and "
        f"{format_seconds(seven.hours * 3600)} "
        f"for 10 M tokens; a 1 B model takes {format_seconds(small.hours * 3600)}. Memory is not what stops it, time "
        "is."
    )
    return ("holds when" if feasible else "corrected"), why, _rows([seven, small])


def _qlora_on_24_gigabytes() -> Judgement:
    cards = ("nvidia-rtx-3090-24gb", "nvidia-rtx-4090-24gb", "amd-rx-7900-xtx-24gb")
    asked = [ask(device(card).display_name, SEVEN_B, card, method="qlora") for card in cards]
    largest = max(one.bytes for one in asked)
    why = f"With batch 1 x 2,048 tokens it needs at most {format_bytes(largest)}, on AMD's card as on NVIDIA's."
    return ("confirmed" if all(one.fits for one in asked) else "corrected"), why, _rows(asked)


def _slower_without_nvidia() -> Judgement:
    base = ask("GeForce RTX 4090", ONE_B, "nvidia-rtx-4090-24gb", method="lora")
    others = [
        ask(device(name).display_name, ONE_B, name, method="lora")
        for name in ("amd-rx-7900-xtx-24gb", "intel-arc-a770-16gb", "apple-m4-max", SERVER, DESKTOP)
    ]
    times = [other.hours / base.hours for other in others]
    inside = sum(10 <= factor <= 30 for factor in times)
    why = (
        f"LoRA on a 1 B model takes {min(times):.1f} to {max(times):.0f} times as long as on an RTX 4090; {inside} of "
        "these "
        f"{len(others)} devices {'lies' if inside == 1 else 'lie'} in the stated range. Each time has a range of its "
        "own, "
        "which its page shows."
    )
    rows = [
        Row(other.label, f"{factor:.1f} times as long; {other.row.text}", other.request)
        for other, factor in zip(others, times, strict=True)
    ]
    return ("confirmed" if inside == len(others) else "corrected"), why, [base.row, *rows]


def _decoding_on_cpu() -> Judgement:
    """Each token reads every weight once, so that memory bandwidth is the limit."""
    share = factors()["bandwidth_fraction"].of("cpu")
    elements = 7_241_732_096
    rows: list[Row] = []
    rates: list[float] = []
    for name in (DESKTOP, SERVER, "intel-xeon-8480plus"):
        profile = device(name)
        bandwidth = (profile.memory_bandwidth_bytes_per_second or 0) * share
        four, sixteen = bandwidth / elements / NF4_BYTES, bandwidth / elements / BFLOAT16_BYTES
        rates.append(four)
        rows.append(Row(profile.display_name, f"{four:.0f} tokens/s in 4 bits, {sixteen:.1f} in 16 bits, at most"))
    why = (
        f"A token reads all weights once: {rates[0]:.0f} tokens/s on a desktop with two memory channels in 4 bits, as "
        f"said; a server with twelve channels reaches {max(rates):.0f}. This is bandwidth over bytes; inference is not "
        "what trainfit models."
    )
    return "holds when", why, rows


def _small_models_on_cpu() -> Judgement:
    asked = [
        ask("1 B, every weight, desktop with 64 GiB", ONE_B, DESKTOP, method="full"),
        ask("7 B, QLoRA, desktop with 64 GiB", SEVEN_B, DESKTOP, method="qlora"),
        ask("7 B, every weight, server with 1.5 TiB", SEVEN_B, SERVER, machine=SERVER_MEMORY, method="full"),
        ask("72 B, LoRA, server with 1.5 TiB", SEVENTY_B, SERVER, machine=SERVER_MEMORY, method="lora"),
        ask("72 B, LoRA, desktop with 64 GiB", SEVENTY_B, DESKTOP, method="lora"),
    ]
    trillion = asked[2].hours * 1e12 / TOKENS / 24 / 365
    why = (
        "Fine-tuning 1 to 7 B models on processors works, from hours to days for 10 M tokens; larger ones too, where "
        "the "
        f"memory is there: 72 B takes {format_bytes(asked[3].bytes)} and {format_seconds(asked[3].hours * 3600)}. "
        f"Pre-training is another matter: a trillion tokens through 7 B would take {trillion:,.0f} years on that "
        "server."
    )
    return "holds when", why, _rows(asked)


def _longcat_on_cpu() -> Judgement:
    asked = [
        ask("LongCat-Flash, QLoRA, processor with 64 GiB", LONGCAT, DESKTOP, method="qlora"),
        ask("LongCat-Flash, QLoRA, one TPU v5e", LONGCAT, "google-tpu-v5e-chip", method="qlora"),
    ]
    experts = asked[0].parameters.by_component["experts"]
    why = (
        f"{format_count(experts)} of its parameters are fused experts, which 4-bit loading leaves in 16 bits: it needs "
        f"{format_bytes(asked[0].bytes)}. And no trainer has code for it."
    )
    return ("confirmed" if any(one.fits for one in asked) else "corrected"), why, _rows(asked)


def _radeon_6900() -> Judgement:
    asked = [
        ask("7 B, QLoRA, batch 1 x 2,048", SEVEN_B, "amd-rx-6900-xt-16gb", method="qlora"),
        ask("1 B, LoRA, batch 1 x 2,048", ONE_B, "amd-rx-6900-xt-16gb", method="lora"),
    ]
    backward = device("amd-rx-6900-xt-16gb").supports.fused_attention_backward
    why = (
        f"It does: 7 B with QLoRA needs {format_bytes(asked[0].bytes)} there. "
        + (
            "PyTorch has no fused attention backward for it, so that memory grows with the square of the sequence. "
            if backward != "yes"
            else ""
        )
        + "ROCm on this generation works without AMD's support."
    )
    return ("holds when" if asked[0].fits else "corrected"), why, _rows(asked)


def _apple_memory() -> Judgement:
    macs = [item for item in all_devices() if item.kind == "apple"]
    options = {item.name: max((item.memory_total_bytes or 0), *item.memory_options_bytes) for item in macs}
    name = max(options, key=options.__getitem__)
    asked = ask(
        "72 B, LoRA, Apple M3 Ultra with 512 GiB",
        SEVENTY_B,
        "apple-m3-ultra",
        machine={"host_memory_gib": 512},
        method="lora",
    )
    right = options[name] <= 128 * GIB
    why = (
        f"{name} goes up to {format_bytes(options[name])}. The GPU's share of it depends on macOS, not on the chip: "
        f"{format_bytes(asked.device.usable_bytes)} of 512 GiB by the rule of the catalogue's macOS."
    )
    rows = [
        Row(item.name, f"up to {format_bytes(options[item.name])}") for item in macs if options[item.name] > 128 * GIB
    ]
    return ("confirmed" if right else "corrected"), why, [*rows, asked.row]


def _openvino() -> Judgement:
    asked = ask("1 B, LoRA, Arc A770, PyTorch XPU", ONE_B, "intel-arc-a770-16gb", method="lora")
    facts = [row for row in all_rows() if "openvino" in row.software.casefold()]
    why = (
        "OpenVINO runs models and trains none; training on Arc goes through PyTorch's XPU build, which fits this plan."
    )
    rows = [asked.row, *(Row(f"{row.software} {row.version}", row.detail) for row in facts[:2])]
    return "corrected", why, rows


def _tpu_code() -> Judgement:
    asked = ask("1 B, LoRA, one TPU v5e", ONE_B, "google-tpu-v5e-chip", method="lora")
    facts = [row for row in all_rows() if "tpu" in row.hardware.casefold()]
    trained = [row for row in facts if any(name in row.software for name in ("MaxText", "torch_xla"))]
    why = (
        "Not TensorFlow, and not by hand: MaxText trains the common families in JAX from their checkpoints, and "
        "PyTorch/XLA "
        "runs PyTorch code with changes. The usual stack of transformers, PEFT and bitsandbytes has no TPU build."
    )
    rows = [Row(f"{row.software} {row.version}", f"{row.status}: {row.detail}") for row in trained[:4]]
    return "corrected", why, [asked.row, *rows]


def _free_hours() -> Judgement:
    asked = [
        ask(
            "7 B, QLoRA on a T4, as Kaggle and Colab lend it",
            SEVEN_B,
            "nvidia-t4-16gb",
            machine={"host_memory_gib": 29},
            method="qlora",
        ),
        ask("7 B, QLoRA on an RTX 3090", SEVEN_B, "nvidia-rtx-3090-24gb", method="qlora"),
    ]
    offers = [item for item in all_offers() if item.provider in ("Kaggle", "Google Colab") and item.free]
    kaggle = next(item for item in offers if item.provider == "Kaggle" and item.device_id == "nvidia-t4-16gb")
    weekly, hours = kaggle.weekly_hours or 30, asked[0].hours
    why = (
        f"Kaggle lends {weekly:g} hours a week, in sessions of {kaggle.session_hours or 12:g} ({kaggle.as_of}). 10 M "
        "tokens "
        f"through 7 B take {hours:.1f} hours on one T4, so that the run "
        f"{'fits into' if hours <= weekly else 'does not fit into'} "
        f"a week{'' if hours <= (kaggle.session_hours or 12) else ' but must be resumed'}. Of RunPod's RTX 3090 no "
        "current price "
        "is known here; others' stand below with their dates."
    )
    rented = [item for item in all_offers() if item.device_id == "nvidia-rtx-3090-24gb" and item.usd_per_hour]
    rows = [Row(item.full_name, item.limits or "free") for item in offers if item.device_id == "nvidia-t4-16gb"]
    rows += [Row(item.full_name, f"{item.usd_per_hour} USD an hour, {item.as_of}") for item in rented[:4]]
    return "holds when", why, [*_rows(asked), *rows]


def _checkpointing() -> Judgement:
    card = "nvidia-rtx-4090-24gb"
    base = ask("LoRA, batch 4, no checkpointing", ONE_B, card, method="lora", micro_batch_size=4)
    changes = [
        ask(
            "checkpointed activations", ONE_B, card, method="lora", micro_batch_size=4, activation_checkpointing="full"
        ),
        ask("batch 1, four accumulated", ONE_B, card, method="lora", gradient_accumulation_steps=4),
        ask(
            "fused loss (Liger's; Unsloth has its own)",
            ONE_B,
            card,
            method="lora",
            micro_batch_size=4,
            loss="fused_linear",
        ),
    ]
    saved = [base.bytes - one.bytes for one in changes]
    times = [one.hours / base.hours for one in changes]
    right = all(size > 0 for size in saved[:2]) and all(factor > 1 for factor in times[:2])
    rows = [
        Row(one.label, f"saves {format_bytes(size)}, {factor:.2f} times the time", one.request)
        for one, size, factor in zip(changes, saved, times, strict=True)
    ]
    why = (
        f"Checkpointing saves {format_bytes(saved[0])} for {times[0] - 1:.0%} more time, batch 1 saves "
        f"{format_bytes(saved[1])} for {times[1] - 1:.0%}. Unsloth's kernels are its own and not modelled; the fused "
        f"loss alone saves {format_bytes(saved[2])} at {times[2]:.2f} times the time."
    )
    return ("confirmed" if right else "holds when"), why, [base.row, *rows]


def _smaller_model() -> Judgement:
    card = "nvidia-rtx-4090-24gb"
    big = ask(f"{SEVENTY_B}, QLoRA", SEVENTY_B, card, method="qlora")
    smaller = [entry for entry in siblings(SEVENTY_B) if entry.kind == "dense"]
    asked = [ask(f"{entry.id}, QLoRA", entry.id, card, method="qlora") for entry in smaller]
    fitting = [one for one in asked if one.fits]
    why = f"On 24 GiB {big.label} does not fit, it needs {format_bytes(big.bytes)}. " + (
        f"{fitting[0].label}, the largest sibling that fits, needs {format_bytes(fitting[0].bytes)}."
        if fitting
        else "No sibling fits either."
    )
    return ("confirmed" if fitting and not big.fits else "corrected"), why, _rows([big, *asked[:4]])


CLAIMS: Final[Sequence[Claim]] = (
    Claim("longcat-size", "LongCat-Flash has 56 B parameters.", _longcat_size),
    Claim(
        "seventy-gigabytes",
        "A 7 B model needs about 14 GB for inference and about 70 GB for training at batch 1.",
        _seventy_gigabytes,
    ),
    Claim(
        "four-bit-on-cpu",
        "A 4-bit 7 B model runs in about 12 GB of RAM, which makes training small models on a CPU feasible.",
        _four_bit_on_cpu,
    ),
    Claim("qlora-on-24-gb", "QLoRA fine-tunes a 7 B model on a single 24 GB GPU.", _qlora_on_24_gigabytes),
    Claim(
        "slower-without-nvidia",
        "Training on a CPU or other hardware than NVIDIA's is 10 to 30 times slower.",
        _slower_without_nvidia,
    ),
    Claim("decoding-on-cpu", "CPU inference makes 4.5 to 17.5 tokens/s for models of 7 B to 11 B.", _decoding_on_cpu),
    Claim("small-models-on-cpu", "Models of 1 B to 7 B can be trained on CPUs; 56 B can't.", _small_models_on_cpu),
    Claim(
        "longcat-on-cpu",
        "LongCat can be fine-tuned with QLoRA on a CPU with 64 GB of RAM, or on a cloud TPU.",
        _longcat_on_cpu,
    ),
    Claim("rx-6900-xt", "An RX 6900 XT (16 GB) can train with ROCm.", _radeon_6900),
    Claim("apple-memory", "Apple Macs go up to 128 GB.", _apple_memory),
    Claim("openvino", "Intel Arc with OpenVINO can do some training.", _openvino),
    Claim("tpu-code", "TPUs need code rewritten for TensorFlow or JAX.", _tpu_code),
    Claim(
        "free-hours",
        "Kaggle gives 30 free hours a week, Colab a T4 for a session; RunPod rents an RTX 3090 for 0.43 USD an hour.",
        _free_hours,
    ),
    Claim(
        "checkpointing",
        "Gradient checkpointing and batch 1 to 4 save memory for speed; Unsloth trains faster with less.",
        _checkpointing,
    ),
    Claim("smaller-model", "Use a smaller or distilled model instead.", _smaller_model),
)
