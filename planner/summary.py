"""The one sentence that a person reads first."""

from __future__ import annotations

from planner.contract import Reason
from planner.evaluation import Evaluation, host_peak_bytes
from planner.hardware import Machine
from planner.plan import Plan
from planner.units import format_bytes, format_seconds

DECISIVE = ("device_memory", "host_memory", "disk_space", "single_allocation")
METHOD_NAMES = {
    "full": "full fine-tuning",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "dora": "DoRA",
    "freeze": "training the last layers",
}


def not_modelled_sentence(reason: Reason) -> str:
    """Why there is no answer."""
    return f"Not modelled: {reason.message}. No number is given rather than a guess."


def sentence(evaluation: Evaluation) -> str:
    """Verdict, plan, machine and margin in one sentence."""
    plan, machine = evaluation.plan, evaluation.plan.machine
    what = _described(plan)
    where = machine_name(machine) + _assumed_size(machine)
    if evaluation.verdict == "fits":
        return f"Yes: {what} fits on {where}, {format_bytes(_margin(evaluation))} to spare{_finish(evaluation)}."
    if evaluation.verdict == "tight":
        amounts = f"{format_bytes(_needed(evaluation))} of {format_bytes(_usable(evaluation))} usable"
        return f"Tight: {what} on {where} needs about {amounts}{_finish(evaluation)}."
    if evaluation.verdict == "unsupported":
        reason = next(r for r in evaluation.reasons if r.code.startswith("unsupported"))
        return f"Unsupported: {what} would fit on {where}, but {reason.message}."
    return f"No: {what} does not fit on {where}; it {_shortage(evaluation)}."


def _described(plan: Plan) -> str:
    return f"{METHOD_NAMES[plan.rules.method]} at micro-batch {plan.micro_batch_size} x {plan.sequence_length:,} tokens"


def machine_name(machine: Machine) -> str:
    """The machine as people say it: `2 x GeForce RTX 4090 24 GiB`, `this machine (AMD EPYC)`."""
    counted = f"{machine.device_count} x {machine.device.display_name}"
    if not machine.is_this_machine:
        return counted
    return f"this machine ({machine.device.display_name if machine.device_count == 1 else counted})"


def _assumed_size(machine: Machine) -> str:
    """The size of memory where a device is sold with several and nobody said which: a guess that decides the answer."""
    if "machine.device_memory_gib" not in machine.assumed or len(machine.device.memory_options_bytes) < 2:
        return ""
    return f" with {format_bytes(machine.memory_total_bytes)}, the largest that it is sold with"


def _shortage(evaluation: Evaluation) -> str:
    first = next(reason for reason in evaluation.reasons if reason.code in DECISIVE)
    others = sum(reason.code in DECISIVE or reason.code.startswith("unsupported") for reason in evaluation.reasons) - 1
    more = f" ({others} more {'reason' if others == 1 else 'reasons'} below)" if others else ""
    return first.message + more


def _margin(evaluation: Evaluation) -> int:
    return _usable(evaluation) - _needed(evaluation)


def _needed(evaluation: Evaluation) -> int:
    plan, ledger = evaluation.plan, evaluation.ledger
    return host_peak_bytes(plan, ledger) if _host_decides(evaluation) else ledger.required_bytes


def _usable(evaluation: Evaluation) -> int:
    machine = evaluation.plan.machine
    return machine.host_usable_bytes or 0 if _host_decides(evaluation) else machine.usable_bytes


def _host_decides(evaluation: Evaluation) -> bool:
    """Whether the host's memory is the narrower limit: the shared pool, or a host that alone makes the plan tight."""
    plan, machine = evaluation.plan, evaluation.plan.machine
    if machine.host_usable_bytes is None:
        return False
    if not machine.shared_with_host:
        codes = {reason.code for reason in evaluation.reasons}
        return "host_memory_tight" in codes and "device_memory_tight" not in codes
    return machine.host_usable_bytes - host_peak_bytes(plan, evaluation.ledger) < evaluation.headroom_bytes


def _finish(evaluation: Evaluation) -> str:
    plan, time = evaluation.plan, evaluation.time
    if time is None:
        return ""
    if plan.tokens is None:
        return f", about {time.tokens_per_second:,.0f} tokens/s"
    return f", about {format_seconds(plan.tokens / time.tokens_per_second)} for {plan.tokens:,} tokens"
