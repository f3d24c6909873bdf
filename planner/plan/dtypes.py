"""The dtype policy: weights, computing, gradients, optimizer states, and what a framework's code rules out."""

from __future__ import annotations

from dataclasses import dataclass

from planner.architecture.spec import ModelSpec
from planner.contract import RunRequest
from planner.errors import PlanError
from planner.frameworks import step_of
from planner.hardware import DeviceProfile
from planner.plan.filling import Filler
from planner.step.rules import BYTES

QUANTISED_STORES = {"float8", "mxfp4", "int4", "int8", None}


@dataclass(slots=True)
class Formats:
    """The dtypes of a run: of weights, of computing, of what is trained, of its gradients and optimizer states."""

    weights: str
    compute: str
    trained: str
    gradient: str
    state: str
    master: bool


def formats_of(run: RunRequest, optimizer: str, weights: str, compute: str, trained: str, filler: Filler) -> Formats:
    """Gradients and moments follow what is trained, unless the request says otherwise and the framework agrees."""
    gradient = filler.take("gradient_dtype", run.gradient_dtype, trained)
    state = filler.take("optimizer_state_dtype", run.optimizer_state_dtype, _state_dtype(run, optimizer, trained))
    master = filler.take("master_weights", run.master_weights, _master_by_default(run, trained))
    _check_framework_dtypes(run, trained=trained, gradient=gradient, state=state, optimizer=optimizer, master=master)
    return Formats(weights, compute, trained, gradient, state, master)


def weights_and_compute(
    run: RunRequest, method: str, spec: ModelSpec, device: DeviceProfile, filler: Filler
) -> tuple[str, str]:
    """(weights, compute) by the contract's policy.

    Stored 8- or 4-bit or unknown -> bfloat16 weights; compute follows the weights, but float16 where the device's
    bfloat16 is absent or emulated (float32 where float16 is no better, as on CPUs), and weights left open follow it;
    a compute dtype that was asked for leaves the weights as they are stored (autocast); full float16 training keeps
    float32 weights and computes in float16 under autocast.
    """
    stored = (
        spec.stored_dtype if spec.stored_dtype in BYTES and spec.stored_dtype not in QUANTISED_STORES else "bfloat16"
    )
    compute = run.compute_dtype or _computable(run.weights_dtype or stored, device)
    natural = stored if run.compute_dtype is not None else compute
    if method == "full" and compute == "float16":
        natural = "float32"
    weights = filler.take("weights_dtype", run.weights_dtype, natural)
    return weights, filler.take("compute_dtype", run.compute_dtype, compute)


def gathered_dtype(run: RunRequest, weights: str, compute: str) -> str:
    """The dtype of the parameters that a module sees.

    FSDP gathers its float32 shards in the compute dtype, so that nothing is left to autocast: torchtitan
    (distributed/fsdp.py, MixedPrecisionPolicy with param_dtype) and accelerate (utils/dataclasses.py,
    FullyShardedDataParallelPlugin.set_mixed_precision). Lightning's bf16-mixed, DeepSpeed and a single device gather
    or keep the parameters as they are stored.
    """
    gathers = step_of(run.framework) in {"torchtitan", "torchtune", "transformers", "trl"}
    mixed = gathers and run.parallelism.zero_stage == 3
    return compute if mixed else weights


def _computable(dtype: str, device: DeviceProfile) -> str:
    """The dtype that the device should compute in when the weights are of the given one.

    Where float16 is emulated, as on x86 processors at 0.006 of float32's rate, nobody would train in it: bfloat16 where
    that is native, else float32.
    """
    supports = device.supports
    if dtype == "float16" and supports.float16 == "emulated":
        return "bfloat16" if supports.bfloat16 == "native" else "float32"
    if dtype != "bfloat16" or supports.bfloat16 in {"native", "unknown"}:
        return dtype
    return "float16" if supports.float16 == "native" and device.kind != "cpu" else "float32"


def _state_dtype(run: RunRequest, optimizer: str, trained: str) -> str:
    """Moments take the trained parameter's dtype in torch.optim; bitsandbytes and DeepSpeed keep float32.

    transformers' own Adafactor computes 16-bit gradients in float32 and keeps its state so (optimization.py).
    """
    if run.framework == "deepspeed" or optimizer in {"lion", "adafactor", "paged_adamw"}:
        return "float32"
    return trained


def _master_by_default(run: RunRequest, trained: str) -> bool:
    """DeepSpeed keeps a float32 master copy of 16-bit parameters (runtime/bf16_optimizer.py); the others do not."""
    return run.framework == "deepspeed" and trained != "float32"


def _check_framework_dtypes(
    run: RunRequest, *, trained: str, gradient: str, state: str, optimizer: str, master: bool
) -> None:
    if run.framework == "deepspeed":
        if not master and trained != "float32":
            raise _contradiction(
                "master_weights", False, "true", "DeepSpeed keeps float32 master weights beside 16-bit parameters"
            )
        return
    if gradient != trained:
        raise _contradiction(
            "gradient_dtype", gradient, trained, f"PyTorch keeps .grad in the trained parameter's dtype, here {trained}"
        )
    if master:
        raise _contradiction(
            "master_weights", True, "false, or framework deepspeed", f"{run.framework} keeps no separate master copy"
        )
    plain = optimizer in {"adamw", "sgd_momentum", "muon"}
    if plain and state != trained:
        raise _contradiction(
            "optimizer_state_dtype",
            state,
            trained,
            f"torch.optim creates its state in the parameter's dtype, here {trained}",
        )


def _contradiction(name: str, value: object, accepted: str, rule: str) -> PlanError:
    return PlanError(
        "contradicts_framework",
        f"run.{name}",
        value,
        accepted,
        f"run.{name} {value!r} contradicts the framework: {rule}",
    )
