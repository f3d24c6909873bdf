"""A made-up answer for page tests, so that what a page says does not move with the engine's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.jobs.verifier import Limits, Question, Ticket, Verifier
from app.remote_code import with_code_warning
from planner.contract import (
    Advice,
    Answer,
    DeviceMemory,
    Difference,
    DiskSpace,
    EstimateRequest,
    Evidence,
    HostMemory,
    LedgerRow,
    Memory,
    Moment,
    OperationTime,
    Parameters,
    Reason,
    SoftwareSupport,
    Terms,
    Throughput,
    Timeline,
    TimelinePeak,
    TimelineSpan,
    Verdict,
)
from planner.hardware import Machine

GIB = 2**30
TERMS = Terms(
    weights=int(5.1 * GIB),
    adapters=int(0.31 * GIB),
    quantization_state=int(0.11 * GIB),
    gradients=int(0.16 * GIB),
    optimizer_states=int(0.31 * GIB),
    activations=int(3.4 * GIB),
    logits_and_loss=int(2.9 * GIB),
    temporaries=int(0.62 * GIB),
    fragmentation=int(0.5 * GIB),
    outside_allocator=int(0.45 * GIB),
)


def fake_estimate(
    request: EstimateRequest, *, config: Mapping[str, Any], machine: Machine, advice: bool = True
) -> Answer:
    """`full` does not fit, batches of 4 and more are tight, model_type "martian" is not modelled, the rest fits."""
    if config.get("model_type") == "martian":
        return _not_modelled(request)
    run = request.run
    verdict: Verdict = "does_not_fit" if run.method == "full" else "fits"
    if (run.micro_batch_size or 1) >= 4:
        verdict = "tight"
    return Answer(
        estimator_version="0.1",
        catalog_version="2026.1",
        request=request,
        model_sha256="ab" * 32,
        verdict=verdict,
        summary=_SUMMARIES[verdict],
        reasons=[Reason(code="device_memory", field="machine.device", message="It needs 13.9 GiB of 23.5 GiB.")],
        parameters=Parameters(
            total=8_030_261_248,
            active=8_030_261_248,
            trainable=41_943_040,
            checkpoint_total=8_030_261_248,
            by_component={"embedding": 525_336_576, "attention": 1_342_177_280, "mlp": 5_637_144_576},
        ),
        memory=_memory(machine, 90 * GIB if verdict == "does_not_fit" else 0),
        throughput=_THROUGHPUT,
        software=[SoftwareSupport(component="torch", supported=True, since="2.4", source="release notes")],
        advice=_ADVICE if advice else [],
        assumed={"run.sequence_length": 2048, "run.optimizer": "adamw", "run.lora": {"rank": 16}},
        warnings=["A warning of the engine."],
    )


def fake_document(
    request: EstimateRequest, *, config: Mapping[str, Any], machine: Machine, advice: bool = True
) -> dict[str, Any]:
    """The fields of `fake_estimate`'s answer."""
    return dict(fake_estimate(request, config=config, machine=machine, advice=advice))


_SUMMARIES: Mapping[Verdict, str] = {
    "fits": "Fits on 1 × RTX 4090 24 GiB with 9.6 GiB to spare (QLoRA, batch 1 × 2,048).",
    "tight": "Tight on 1 × RTX 4090 24 GiB: the limit lies inside the range of the estimate.",
    "does_not_fit": "Does not fit on 1 × RTX 4090 24 GiB: 80 GiB are missing (full, batch 1 × 2,048).",
    "unsupported": "",
    "not_modelled": "",
}
_THROUGHPUT = Throughput(
    step_seconds=1.42,
    tokens_per_second=2884.0,
    mfu=0.31,
    interval=(1.1, 2.0),
    basis="catalogue",
    seconds_to_finish=34_680.0,
    operations=[OperationTime(operation="matmul", flops=1.2e14, bytes=4.2e11, seconds=1.2, bound_by="compute")],
)
_ADVICE = [
    Advice(
        change={"run": {"method": "qlora"}},
        bytes_saved=70 * GIB,
        time_factor=1.2,
        makes_it_fit=True,
        why="The frozen base is stored in 4 bits, and only adapters have gradients and moments.",
        title="Train adapters on a 4-bit base (QLoRA)",
        verdict="fits",
    ),
    Advice(
        change={"run": {"activation_checkpointing": "full"}},
        bytes_saved=2 * GIB,
        time_factor=1.3,
        makes_it_fit=False,
        why="Each layer is computed again in backward instead of being kept.",
        title="Checkpoint every layer",
        verdict="does_not_fit",
    ),
    Advice(
        change={"run": {"attention": "flash_attention"}},
        bytes_saved=0,
        time_factor=None,
        makes_it_fit=False,
        why="The kernel keeps no score matrix already, so this saves nothing.",
        title="FlashAttention",
    ),
]


def _memory(machine: Machine, more_bytes: int) -> Memory:
    terms = TERMS.model_copy(update={"weights": TERMS.weights + more_bytes})
    process = sum(terms.model_dump().values())
    reserved = process - terms.outside_allocator
    allocated = reserved - terms.fragmentation
    return Memory(
        device=DeviceMemory(
            total_bytes=machine.memory_total_bytes,
            system_reserved_bytes=machine.system_reserved_bytes,
            in_use_bytes=machine.in_use_bytes,
            usable_bytes=machine.usable_bytes,
            peak_allocated_bytes=allocated,
            peak_reserved_bytes=reserved,
            peak_process_bytes=process,
            interval_bytes=(int(process * 0.95), int(process * 1.1)),
            interval_basis="uncalibrated",
            headroom_bytes=machine.usable_bytes - process,
            peak_moment="loss",
            required_bytes=process,
            highest_moment="loss",
            terms=terms,
            moments=[
                Moment(name=name, allocated_bytes=int(allocated * part))
                for name, part in (
                    ("load", 0.4),
                    ("forward", 0.8),
                    ("loss", 1.0),
                    ("backward", 0.9),
                    ("optimizer_step", 0.6),
                    ("evaluation", 0.7),
                    ("save", 0.4),
                )
            ],
            ledger=[
                LedgerRow(
                    term="weights",
                    what="frozen base, nf4",
                    formula="6,979,321,856 × 0.5 B",
                    bytes=terms.weights,
                    source="bitsandbytes",
                )
            ],
        ),
        host=HostMemory(usable_bytes=machine.host_usable_bytes, peak_bytes=3 * GIB, terms={}, shared_with_device=False),
        disk=DiskSpace(free_bytes=machine.disk_free_bytes, needed_bytes=16 * GIB),
    )


class FakeVerifier(Verifier):
    """Says of every fake estimate that a trace agrees, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(Limits(memory_bytes=2**31, deadline_seconds=60))
        self.questions: list[Question] = []

    def verify(self, question: Question, ticket: Ticket | None = None) -> Answer:  # noqa: ARG002
        self.questions.append(question)
        answer = fake_estimate(
            question.request, config=question.config, machine=question.machine, advice=question.advice
        )
        return with_code_warning(answer.model_copy(update={"evidence": _EVIDENCE}), question.config)


TIMELINE = Timeline(
    layers=32,
    instant_count=9,
    spans=[
        TimelineSpan(moment="forward", first=0, end=4),
        TimelineSpan(moment="loss", first=4, end=5),
        TimelineSpan(moment="backward", first=5, end=8),
        TimelineSpan(moment="optimizer_step", first=8, end=9),
    ],
    peaks=[
        TimelinePeak(moment="forward", instant=3, bytes=8 * GIB, module="model.layers.31.mlp.act_fn", operation="silu"),
        TimelinePeak(moment="loss", instant=4, bytes=14 * GIB, module="lm_head", operation="_to_copy"),
        TimelinePeak(moment="backward", instant=5, bytes=13 * GIB, module="", operation="mm"),
        TimelinePeak(moment="optimizer_step", instant=8, bytes=6 * GIB, module="", operation="_foreach_sqrt"),
    ],
    instants=[0, 1, 2, 3, 4, 5, 6, 7, 8],
    modules=["model.embed_tokens", "a", "b", "model.layers.31.mlp.act_fn", "lm_head", "", "<c>", "d", ""],
    operations=["embedding", "mm", "mm", "silu", "_to_copy", "mm", "mm", "mm", "_foreach_sqrt"],
    allocated_bytes=[size * GIB for size in (6, 7, 7, 8, 14, 13, 9, 6, 6)],
    reserved_bytes=[size * GIB for size in (7, 7, 8, 9, 15, 15, 15, 15, 15)],
    terms={
        "weights": [5 * GIB] * 9,
        "activations": [size * GIB for size in (1, 2, 2, 3, 3, 3, 3, 1, 1)],
        "logits_and_loss": [size * GIB for size in (0, 0, 0, 0, 6, 5, 1, 0, 0)],
    },
)
_EVIDENCE = Evidence(
    timeline=TIMELINE,
    tier="verified",
    differences=[
        Difference(
            term="activations",
            estimate_bytes=int(3.4 * GIB),
            trace_bytes=int(3.5 * GIB),
            difference_bytes=int(-0.1 * GIB),
            believed="estimate",
            why="they agree: 0.80% of the traced peak apart",
        ),
        Difference(
            term="peak_allocated",
            estimate_bytes=13 * GIB,
            trace_bytes=14 * GIB,
            difference_bytes=-GIB,
            believed="trace",
            why="the trace follows each storage of the library's own code",
        ),
    ],
    notes=["traced 2 and 3 layers, extended to 32"],
)


def _not_modelled(request: EstimateRequest) -> Answer:
    message = "model_type `martian` is not modelled: no description of its layers is in the catalogue"
    return Answer(
        estimator_version="0.1",
        catalog_version="2026.1",
        request=request,
        model_sha256="cd" * 32,
        verdict="not_modelled",
        summary="Not modelled yet: nobody has described the layers of `martian`.",
        reasons=[Reason(code="unknown_model_type", field="model.config.model_type", message=message)],
        parameters=None,
        memory=None,
        throughput=None,
    )
