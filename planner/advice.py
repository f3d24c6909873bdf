"""What would change the answer: levers on the run, and what works instead when nothing on this machine does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from planner.architecture import count
from planner.architecture.registry import read_config
from planner.catalog.models import CatalogModel, UnknownModel, model, siblings
from planner.contract import Advice, EstimateRequest
from planner.errors import NotModelledError, PlanError
from planner.evaluation import Evaluation, evaluate
from planner.hardware import DeviceProfile, all_devices, resolve_machine
from planner.plan import Plan
from planner.support import runs_fused_loss
from planner.units import format_bytes, format_count

SHOWN: Final = 12
RUNS: Final = ("fits", "tight")
LADDER: Final = (
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-4B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-0.6B",
)
"""Models of falling size to suggest where the model's own family has nothing that fits."""
CLUSTER_DEVICES: Final = ("nvidia-h100-sxm-80gb", "nvidia-h200-sxm-141gb", "amd-mi300x-192gb", "nvidia-b200-180gb")
_CLUSTER_WHY: Final = (
    "The fewest devices that hold it, tried with H100, H200, MI300X and B200: each keeps its share of weights, "
    "gradients and states."
)
CLUSTER_SIZES: Final = (2, 4, 8, 16, 32, 64, 128, 256)
_OPEN_DTYPES: Final = dict.fromkeys(
    ("weights_dtype", "compute_dtype", "gradient_dtype", "optimizer_state_dtype", "master_weights")
)
"""Another method follows the dtype policy anew: what was given for the old one may contradict it."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A change to the run and what it does in words."""

    title: str
    change: dict[str, Any]
    why: str


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(cast(dict[str, Any], document)) if isinstance(document, dict) else {}
    for name, value in cast(dict[str, Any], patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def advise(request: EstimateRequest, evaluation: Evaluation) -> list[Advice]:
    """Levers, best first: those that make it fit with the least time lost, then by bytes saved.

    For a plan that does not fit the smallest change that makes it a yes leads; where no change of the run does, a
    smaller model of the family and the smallest machine do.
    """
    document = request.model_dump(mode="json", exclude_unset=True)
    singles = [found for lever in _levers(evaluation) if (found := _weighed(document, evaluation, lever))]
    if evaluation.verdict in RUNS:
        return _ranked(singles)[:SHOWN]
    rescue = [] if any(a.makes_it_fit for a in singles) else _combined(document, evaluation)
    if not rescue and not any(a.makes_it_fit for a in singles):
        rescue = _elsewhere(document, evaluation)
    return [*rescue, *_ranked(singles)][:SHOWN]


def _ranked(advice: list[Advice]) -> list[Advice]:
    return sorted(
        advice, key=lambda a: (not a.makes_it_fit, a.time_factor or 9.0 if a.makes_it_fit else 0.0, -a.bytes_saved)
    )


def _weighed(document: dict[str, Any], base: Evaluation, lever: Lever) -> Advice | None:
    found = _try(document, base, lever.change)
    if found is None or (_unsupported(found) and not _unsupported(base)):
        return None
    return _advice(base, found, lever)


def _unsupported(evaluation: Evaluation) -> bool:
    """Whether no software runs the plan there; the verdict says so only where the memory suffices."""
    return any(reason.code.startswith("unsupported") for reason in evaluation.reasons)


def _try(document: dict[str, Any], base: Evaluation, change: dict[str, Any]) -> Evaluation | None:
    try:
        changed = EstimateRequest.model_validate(merge_patch(document, change))
        return evaluate(changed, base.plan.spec, base.plan.machine)
    except (PlanError, NotModelledError, ValueError):
        return None


def _advice(base: Evaluation, found: Evaluation, lever: Lever) -> Advice:
    saved = base.ledger.required_bytes - found.ledger.required_bytes
    elsewhere = "machine" in lever.change or saved > 0
    why = lever.why if elsewhere else f"Saves nothing here: with it {_peak_words(found)} sets the peak."
    return Advice(
        title=lever.title,
        change=lever.change,
        bytes_saved=saved,
        time_factor=_time_factor(base, found),
        makes_it_fit=found.verdict == "fits" and base.verdict != "fits",
        why=why + _along_with_it(base.plan, found.plan, lever.change),
        verdict=found.verdict,
    )


def _along_with_it(base: Plan, found: Plan, change: dict[str, Any]) -> str:
    """What else is different: fields that were left open take the typical values of the changed run."""
    named = {name for name, value in change.get("run", {}).items() if value is not None}
    changed = [
        f"{name.replace('_', ' ')} {after} (was {before})"
        for name, before, after in zip(_FOLLOWING, _following(base), _following(found), strict=True)
        if before != after and name not in named
    ]
    return f" Along with it: {', '.join(changed)}." if changed else ""


_FOLLOWING: Final = (
    "activation_checkpointing", "attention", "weights_dtype", "compute_dtype", "gradient_dtype",
    "optimizer_state_dtype", "optimizer_impl", "loss",
)  # fmt: skip
"""Fields of the run that follow others where nobody says otherwise."""


def _following(plan: Plan) -> tuple[str, ...]:
    rules = plan.rules
    return (
        rules.checkpointing, plan.attention, rules.stored_dtype or rules.weights_dtype, rules.compute_dtype,
        plan.rules.gradient_dtype, plan.optimizer_state_dtype, plan.optimizer_impl, rules.loss,
    )  # fmt: skip


def _peak_words(evaluation: Evaluation) -> str:
    words = {
        "loss": "the loss",
        "backward": "the backward pass",
        "forward": "the forward pass",
        "optimizer_step": "the optimizer step",
    }
    moment = evaluation.ledger.highest_moment
    return words.get(moment, f"the moment `{moment}`")


def _time_factor(base: Evaluation, found: Evaluation) -> float | None:
    """Time for the same tokens, changed over unchanged."""
    if base.time is None or found.time is None:
        return None
    return round(base.time.tokens_per_second / found.time.tokens_per_second, 3)


def _levers(evaluation: Evaluation) -> Iterator[Lever]:
    """Every single change that makes sense for this plan."""
    plan, rules = evaluation.plan, evaluation.plan.rules
    if not _checkpoints_every_layer(evaluation):
        yield Lever(
            "Checkpoint activations",
            _run(activation_checkpointing="full"),
            "Keeps one tensor a layer and computes the rest again in backward.",
        )
    yield from _loss_levers(evaluation)
    if plan.micro_batch_size > 1:
        half = plan.micro_batch_size // 2
        change = _run(micro_batch_size=half, gradient_accumulation_steps=plan.gradient_accumulation_steps * 2)
        yield Lever(f"Micro-batch {half}, twice the accumulation", change, "The same optimizer step in smaller pieces.")
    if plan.sequence_length > 512:
        half = plan.sequence_length // 2
        yield Lever(
            f"Sequence length {half:,}",
            _run(sequence_length=half),
            "Activations and logits shrink with the sequence; examples are cut shorter.",
        )
    yield from _optimizer_levers(evaluation)
    yield from _method_levers(evaluation)
    if rules.kernel in {"eager", "math"}:
        yield Lever(
            "SDPA attention", _run(attention="sdpa"), "A fused kernel keeps no score matrix, where the device has one."
        )
    if plan.data_parallel > 1 and plan.zero_stage < 3:
        yield Lever(
            "ZeRO stage 3",
            {"run": {"parallelism": {"zero_stage": 3}}},
            "Weights, gradients and states are split over the devices.",
        )
    if plan.allocator == "native" and plan.machine.device.allocator_family in {"cuda", "rocm"}:
        yield Lever(
            "Expandable segments",
            _run(allocator="expandable_segments"),
            "The allocator wastes less between blocks of different sizes.",
        )


def _checkpoints_every_layer(evaluation: Evaluation) -> bool:
    rules = evaluation.plan.rules
    return rules.checkpointing == "full" and rules.checkpoint_every == 1


def _run(**changes: Any) -> dict[str, Any]:
    return {"run": changes}


def _may_fuse_loss(evaluation: Evaluation) -> bool:
    rules = evaluation.plan.rules
    open_to_it = rules.loss != "fused_linear" and rules.objective == "causal_lm"
    return open_to_it and runs_fused_loss(evaluation.plan.machine.device)


def _loss_levers(evaluation: Evaluation) -> Iterator[Lever]:
    if _may_fuse_loss(evaluation):
        yield Lever(
            "Fused linear cross-entropy",
            _run(loss="fused_linear"),
            "The logits exist for one chunk of tokens at a time.",
        )


def _optimizer_levers(evaluation: Evaluation) -> Iterator[Lever]:
    plan = evaluation.plan
    if plan.optimizer == "adamw":
        if plan.optimizer_impl == "foreach" and plan.machine.device.supports.fused_optimizer:
            yield Lever(
                "Fused AdamW", _run(optimizer_impl="fused"), "No copy of all second moments in the optimizer step."
            )
        change = _run(optimizer="adamw_8bit", optimizer_impl=None, optimizer_state_dtype=None)
        yield Lever("8-bit AdamW", change, "Two moments of one byte instead of two or four.")
        if plan.machine.device.allocator_family != "cuda":
            return
        paged = _run(optimizer="paged_adamw_8bit", optimizer_impl=None, optimizer_state_dtype=None)
        yield Lever("Paged 8-bit AdamW", paged, "8-bit moments that may live in host memory.")


def _method_levers(evaluation: Evaluation) -> Iterator[Lever]:
    rules, rank = evaluation.plan.rules, evaluation.plan.rank
    if rules.method in {"full", "freeze"}:
        yield Lever(
            "LoRA",
            {"run": {"method": "lora", **_OPEN_DTYPES}},
            "Only low-rank adapters have gradients and optimizer states.",
        )
    if rules.method in {"full", "freeze", "lora", "dora"}:
        change = {"run": {"method": "qlora", **_OPEN_DTYPES}}
        yield Lever("QLoRA (nf4)", change, _quantised_share(evaluation))
    if rules.has_adapters and rank > 8:
        yield Lever(
            f"Rank {rank // 2}", {"run": {"lora": {"rank": rank // 2}}}, "Adapters, their gradients and states halve."
        )
    if rules.has_adapters and rules.adapter_dtype == "float32" and rules.compute_dtype != "float32":
        change = {
            "run": {
                "lora": {"adapter_dtype": rules.compute_dtype},
                "gradient_dtype": None,
                "optimizer_state_dtype": None,
            }
        }
        yield Lever("16-bit adapters", change, "PEFT then makes no float32 copy of each adapter's input.")


def _quantised_share(evaluation: Evaluation) -> str:
    experts = count.by_component(evaluation.plan.spec).get("experts", 0)
    if experts:
        return (
            f"The base's linear layers are stored in 4 bits; {format_count(experts)} expert parameters stay in 16 bit."
        )
    return "The base's linear layers are stored in 4 bits."


def _combined(document: dict[str, Any], base: Evaluation) -> list[Advice]:
    """The shortest run of changes, each added to the last, that makes it fit: first with the method, then without."""
    method = base.plan.rules.method
    for steps in (
        _gentle_steps(base),
        _gentle_steps(base, new_method="lora") if method == "full" else (),
        _gentle_steps(base, new_method="qlora"),
    ):
        titles: list[str] = []
        change: dict[str, Any] = {}
        for title, step in steps:
            titles.append(title)
            change = joined(change, step)
            found = _try(document, base, change)
            if found is not None and found.verdict == "fits":
                lever = Lever(" + ".join(titles), change, "The smallest change of the run that makes it a yes.")
                return [_advice(base, found, lever)]
    return []


def joined(change: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """Two patches as one: unlike applying a patch, nulls are kept."""
    both = dict(change)
    for name, value in step.items():
        old = both.get(name)
        nested = isinstance(value, dict) and isinstance(old, dict)
        both[name] = joined(cast(dict[str, Any], old), cast(dict[str, Any], value)) if nested else value
    return both


def _gentle_steps(base: Evaluation, new_method: str | None = None) -> Iterable[tuple[str, dict[str, Any]]]:
    """Changes in the order in which they hurt least."""
    plan = base.plan
    if new_method == plan.rules.method:
        return
    if new_method is not None:
        yield ("LoRA" if new_method == "lora" else "QLoRA"), {"run": {"method": new_method, **_OPEN_DTYPES}}
    if new_method is not None or not _checkpoints_every_layer(base):
        yield "checkpointed activations", _run(activation_checkpointing="full")
    if _may_fuse_loss(base):
        yield "fused linear cross-entropy", _run(loss="fused_linear")
    if plan.micro_batch_size > 1:
        yield (
            "micro-batch 1",
            _run(
                micro_batch_size=1, gradient_accumulation_steps=plan.gradient_accumulation_steps * plan.micro_batch_size
            ),
        )
    if plan.optimizer == "adamw":
        yield "8-bit AdamW", _run(optimizer="adamw_8bit", optimizer_impl=None, optimizer_state_dtype=None)
    length = plan.sequence_length
    while length > 512:
        length //= 2
        yield f"sequence length {length:,}", _run(sequence_length=length)


# -- elsewhere ------------------------------------------------------------------------------------------------------


def _elsewhere(document: dict[str, Any], base: Evaluation) -> list[Advice]:
    """A smaller model here, the smallest single device, and the smallest number of large devices."""
    found = [*_smaller_models(document, base), _smallest_device(document, base), _cluster(document, base)]
    return [advice for advice in found if advice is not None]


def _smaller_models(document: dict[str, Any], base: Evaluation) -> Iterator[Advice]:
    """The largest model that fits with the method that was asked for, and with LoRA or QLoRA where that is larger."""
    largest = 0
    for method in dict.fromkeys((base.plan.rules.method, "lora", "qlora")):
        found = _smaller_model(document, base, method)
        if found is not None and found[0] > largest:
            largest = found[0]
            yield found[1]


def _smaller_model(document: dict[str, Any], base: Evaluation, method: str) -> tuple[int, Advice] | None:
    """The parameters of the largest candidate that fits with a method, and the advice to take it."""
    same = method == base.plan.rules.method
    run: dict[str, Any] = {} if same else {"run": {"method": method, **_OPEN_DTYPES}}
    for candidate in _candidates(document, base):
        change = {"model": {"id": candidate.id, "revision": None, "config": None}, **run}
        result = _evaluate_other(document, change, candidate, base)
        if result is not None:
            total = count.total(result.plan.spec)
            instead = format_count(count.total(base.plan.spec))
            why = f"{format_count(total)} parameters instead of {instead}: the largest suggestion that fits here."
            title = f"{candidate.id}, the same run" if same else f"{candidate.id} with {_METHOD_TITLES[method]}"
            return total, _advice(base, result, Lever(title, change, why))
    return None


_METHOD_TITLES: Final = {"lora": "LoRA", "qlora": "QLoRA"}


def _candidates(document: dict[str, Any], base: Evaluation) -> Iterator[CatalogModel]:
    total = count.total(base.plan.spec)
    own: list[CatalogModel] = []
    try:
        own = list(siblings(document["model"].get("id") or ""))
    except UnknownModel:
        own = []
    others = [model(name) for name in LADDER]
    for candidate in [*own, *others]:
        if (candidate.meta_total or candidate.meta_proxy_total or 0) < total:
            yield candidate


def _evaluate_other(
    document: dict[str, Any], change: dict[str, Any], candidate: CatalogModel, base: Evaluation
) -> Evaluation | None:
    try:
        changed = EstimateRequest.model_validate(merge_patch(document, change))
        result = evaluate(changed, read_config(candidate.config), base.plan.machine)
    except (PlanError, NotModelledError, ValueError):
        return None
    return result if result.verdict == "fits" else None


def _smallest_device(document: dict[str, Any], base: Evaluation) -> Advice | None:
    """The device with the least memory on which the unchanged run fits."""
    needed = base.ledger.required_bytes
    for profile in _by_memory(needed):
        change = {
            "machine": {"device": profile.id, "device_count": 1, "device_memory_gib": None, "host_memory_gib": None},
            "run": {"parallelism": {"data": None}},
        }
        result = _on_device(document, change, base)
        if result is not None and result.verdict == "fits":
            usable = format_bytes(result.plan.machine.usable_bytes)
            why = f"The smallest device of the catalogue that holds it: {usable} usable."
            return _advice(base, result, Lever(f"The same run on 1 x {profile.display_name}", change, why))
    return None


def _by_memory(needed: int) -> list[DeviceProfile]:
    """Accelerators with one logical device a unit and enough memory, smallest first."""
    enough = [d for d in all_devices() if d.kind == "gpu" and (d.memory_total_bytes or 0) >= needed * 19 // 20]
    return sorted(
        (d for d in enough if d.logical_devices_per_unit == 1), key=lambda d: (d.memory_total_bytes or 0, d.id)
    )[:6]


def _on_device(document: dict[str, Any], change: dict[str, Any], base: Evaluation) -> Evaluation | None:
    try:
        changed = EstimateRequest.model_validate(merge_patch(document, change))
        return evaluate(changed, base.plan.spec, resolve_machine(changed.machine))
    except (PlanError, NotModelledError, ValueError):
        return None


def _cluster(document: dict[str, Any], base: Evaluation) -> Advice | None:
    """The smallest number of one large device that holds it under ZeRO-3."""
    known = {profile.id for profile in all_devices()}
    best: tuple[int, Advice] | None = None
    for name in (d for d in CLUSTER_DEVICES if d in known):
        for size in CLUSTER_SIZES:
            change = _cluster_change(name, size)
            result = _on_device(document, change, base)
            if result is None or result.verdict != "fits":
                continue
            if best is None or size < best[0]:
                title = f"{size} x {result.plan.machine.device.display_name} with ZeRO-3"
                best = (
                    size,
                    _advice(base, result, Lever(title, change, _CLUSTER_WHY)),
                )
            break
    return None if best is None else best[1]


def _cluster_change(device_id: str, size: int) -> dict[str, Any]:
    machine = {
        "device": device_id,
        "device_count": size,
        "device_memory_gib": None,
        "host_memory_gib": None,
        "disk_free_gib": None,
    }
    return {"machine": machine, "run": {"parallelism": {"data": None, "zero_stage": 3}}}
