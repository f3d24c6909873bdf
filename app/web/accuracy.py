"""The page on how wrong predictions are: the figures of `trainfit evaluate`, then what is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from app.assets import assets_directory
from app.web import markdown
from app.web.pages import site_page

if TYPE_CHECKING:
    from planner.accuracy.report import Accuracy, Figures

router = APIRouter(include_in_schema=False)

WORDS: Final = {
    "allocated": "Allocated memory, GPU",
    "allocated, cpu": "Live tensors, processor",
    "reserved": "Reserved memory, GPU",
    "process": "Memory of the process, GPU",
    "resident, cpu": "Resident memory, processor",
    "unknown": "Memory of an unnamed kind, GPU",
    "step_time": "Speed, GPU",
    "step_time, cpu": "Speed, one processor core",
    "required": "Memory that a run requires",
}
CLASSES: Final = {
    "nvidia gpu": "NVIDIA GPUs",
    "amd gpu": "AMD GPUs",
    "intel gpu": "Intel GPUs",
    "apple": "Apple",
    "apu": "APUs",
    "tpu": "TPUs",
    "cpu": "processors",
}
REASONS: Final = {
    "trainer_not_in_contract": "a trainer that the contract has no name for (JAX, Megatron, MLX, CUDA by hand, ...)",
    "settings unknown": "a setting that the figure depends on is not stated",
    "model_not_in_catalogue": "the model is not in the catalogue",
    "device_unknown": "the device is not named, or not in the catalogue",
    "format_not_in_contract": "GPTQ weights or integer products",
    "method_not_in_contract": "DPO and other methods",
}
DEPARTURES: Final = {
    "compiled": "torch.compile",
    "other_release": "a release with other rules",
    "other_framework": "another framework",
}
TITLES: Final = {
    "source": "By source",
    "method": "By method",
    "framework": "By framework",
    "family": "By family of model",
    "vendor": "By class of device",
}


@router.get("/accuracy")
def accuracy_page(request: Request) -> HTMLResponse:
    """How far predictions are from what was measured."""
    from planner.accuracy.report import published_accuracy
    from planner.framework_policies import framework_policies

    report = published_accuracy()
    text = (assets_directory("docs") / "accuracy.md").read_text(encoding="utf-8")
    return site_page(
        request,
        "accuracy.html",
        report=report,
        groups=[(title, _of(report.groups, name)) for name, title in TITLES.items()],
        headline=_headline(report),
        words=WORDS,
        classes=CLASSES,
        reasons=REASONS,
        departures=DEPARTURES,
        policies=framework_policies(),
        body=markdown.to_html(text.partition("\n")[2]),
    )


def _of(rows: Sequence[Figures], dimension: str) -> list[Figures]:
    return [row for row in rows if row.dimension == dimension]


def _headline(report: Accuracy) -> list[Figures]:
    """The lines of the first table, those with most sources first."""
    return sorted(report.overall, key=lambda row: (-row.sources, -row.rows))
