"""GET /metrics: what the database knows of jobs and workers, in Prometheus' text format.

Everything is read when it is asked for, so that each web process of a fleet says the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from app.jobs.service import JobService

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text"}},
    summary="Queue age, seconds of jobs by phase, predicted over measured",
)  # fmt: skip
def metrics(request: Request) -> Response:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Jobs(request.app.state.jobs))  # pyright: ignore[reportArgumentType]
    return Response(generate_latest(registry), media_type=MEDIA_TYPE)


class _Jobs:
    """A collector, in the library's sense."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    def describe(self) -> list[Any]:
        """Nothing before it is asked: the library would read the database to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Each family of values."""
        from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily

        store = self._jobs.store()
        counts = GaugeMetricFamily("trainfit_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        for (kind, state), count in sorted(store.counts().items()):
            counts.add_metric([kind, state], count)
        yield counts
        ages = GaugeMetricFamily(
            "trainfit_queue_age_seconds", "How long the oldest waiting job waits.", labels=["device_class"]
        )
        for device_class, seconds in sorted(store.queue_ages().items()):
            ages.add_metric([device_class], seconds)
        yield ages
        phases = SummaryMetricFamily("trainfit_job_phase_seconds", "Time of jobs by phase.", labels=["kind", "phase"])
        for (kind, phase), (count, seconds) in sorted(store.phase_seconds().items()):
            phases.add_metric([kind, phase], count_value=count, sum_value=seconds)
        yield phases
        yield _ratios(store.ratios())
        workers = GaugeMetricFamily("trainfit_workers", "Live workers.", labels=["device_class"])
        classes = [name for worker in self._jobs.worker_store().live() for name in worker.device_classes]
        for name in sorted(set(classes)):
            workers.add_metric([name], classes.count(name))
        yield workers


def _ratios(found: Any) -> Metric:
    """Medians, because one odd run should not hide the others."""
    from prometheus_client.core import GaugeMetricFamily

    text = "Predicted over measured: median of the last 100 measured plans."
    family = GaugeMetricFamily("trainfit_predicted_over_measured", text, labels=["quantity"])
    for position, quantity in enumerate(("step_seconds", "peak_bytes")):
        values = [row[position] for row in found if row[position] is not None]
        if values:
            family.add_metric([quantity], median(values))
    return family
