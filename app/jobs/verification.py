"""The work of a verification. Only processes that verify import this: it loads torch and transformers."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import TypeAdapter

from app.remote_code import with_code_warning
from planner.contract import EstimateRequest
from planner.hardware import Machine, resolve_machine
from planner.verify.verification import Tell, tell_nobody, verify

_MACHINES: Final = TypeAdapter(Machine)
_WARM_UP: Final[dict[str, Any]] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}


def prepare() -> None:
    """Verify a tiny model once, so that what the libraries import and build on first use is there before a fork."""
    request = EstimateRequest.model_validate(
        {"model": {"config": _WARM_UP}, "machine": {"device": "nvidia-a100-sxm-80gb"}, "run": {"sequence_length": 16}}
    )
    verify(request, config=_WARM_UP, machine=resolve_machine(request.machine), advice=False)


def work(payload: Any, tell: Tell = tell_nobody) -> Any:
    """The verified answer to a request, as JSON text."""
    given = cast("dict[str, Any]", payload)
    answer = verify(
        EstimateRequest.model_validate(given["request"]),
        config=given["config"],
        machine=_MACHINES.validate_python(given["machine"]),
        advice=given["advice"],
        tell=tell,
    )
    return with_code_warning(answer, given["config"]).model_dump_json()
