"""An example for every operation of the API's description: what one sends, or where nothing is sent, what comes back.

They stand in one table, so that an operation without one is seen at once; a test sends each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PLAN: Final[Mapping[str, Any]] = {
    "model": {"id": "meta-llama/Llama-3.1-8B"},
    "machine": {"device": "nvidia-rtx-4090-24gb", "host_memory_gib": 64},
    "run": {"method": "qlora", "sequence_length": 4096, "micro_batch_size": 2, "tokens": 10_000_000},
}
_SMALLER: Final[Mapping[str, Any]] = {
    "model": {"id": "Qwen/Qwen2.5-0.5B"},
    "machine": {"device": "amd-rx-7900-xtx-24gb"},
    "run": {"method": "lora"},
}
_JOB: Final = "01980a5e-3f4b-7c21-9d6a-2f6d1c0b7a11"
_REPORT: Final = "9Zx4Qm1tTn2bVw8cRk5LsA"

BODIES: Final[Mapping[tuple[str, str], Any]] = {
    ("post", "/api/v1/estimates"): PLAN,
    ("post", "/api/v1/estimates/batch"): {"requests": [PLAN, _SMALLER]},
    ("post", "/api/v1/jobs"): {"kind": "measure", "request": _SMALLER, "steps": 10},
}
"""Bodies of the operations that do not show one of their own."""

PARAMETERS: Final[Mapping[str, Any]] = {
    "advice": "none",
    "q": "qwen",
    "limit": 20,
    "cursor": "the `next` of the page before",
    "model_id": "meta-llama/Llama-3.1-8B",
    "device_id": "nvidia-rtx-4090-24gb",
    "offer_id": "kaggle-gpu-t4-x2",
    "job_id": _JOB,
    "calibration_id": _JOB,
    "report_id": _REPORT,
    "state": "running",
    "after": 0,
    "model": "meta-llama/Llama-3.1-8B",
    "device": "nvidia-rtx-4090-24gb",
    "method": "qlora",
    "verdict": "fits",
    "tier": "estimate",
    "Prefer": "wait=2",
    "Idempotency-Key": "nightly-2026-11-24",
    "authorization": "Bearer the-edit-token",
}
"""By name: one name means one thing in all of the API."""

ANSWERS: Final[Mapping[tuple[str, str], Any]] = {
    ("get", "/livez"): {"status": "ok"},
    ("get", "/readyz"): {"status": "ok"},
    ("get", "/metrics"): "# TYPE trainfit_jobs gauge\\n",
    ("get", "/api/v1/calibrations"): {"items": [], "next": None},
    ("get", "/api/v1/workers"): {"items": [], "next": None},
    ("get", "/api/v1/software"): {"machines": [], "avoid": []},
}
"""Answers of the operations to which nothing is sent."""


def with_examples(document: dict[str, Any]) -> dict[str, Any]:
    """The API's description with an example at each operation; what has one of its own keeps it."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                _add(parameter, PARAMETERS.get(parameter["name"]))
            for media in operation.get("requestBody", {}).get("content", {}).values():
                _add(media, BODIES.get((method, path)))
            answer = operation.get("responses", {}).get("200", {})
            for media in answer.get("content", {}).values():
                _add(media, ANSWERS.get((method, path)))
    return document


def _add(described: dict[str, Any], example: Any) -> None:
    if example is not None and "examples" not in described and "examples" not in described.get("schema", {}):
        described["example"] = example
