"""The page on accuracy shows the same report as `trainfit evaluate`."""

from __future__ import annotations

from fastapi.testclient import TestClient

from planner.accuracy.report import published_accuracy
from planner.framework_policies import framework_policies


def test_the_page_shows_each_figure_with_its_number_of_runs(client: TestClient) -> None:
    page = client.get("/accuracy").text
    for row in published_accuracy().overall:
        assert f'<td class="n">{100 * row.median_error:.1f} %</td>' in page
        assert f"{row.covered} of {row.rows}" in page


def test_the_page_names_the_worst_runs_and_why(client: TestClient) -> None:
    page = client.get("/accuracy").text
    for row in published_accuracy().worst:
        assert row.id in page
    assert "torch.compile" in page
    assert "The corpus" in page


def test_the_page_names_partial_runs_outside_their_bounds_and_each_trainer(client: TestClient) -> None:
    page = client.get("/accuracy").text
    bounds = published_accuracy().bounds
    assert f"{bounds.between} of the {bounds.tested} peaks" in page
    for row in bounds.broken:
        assert row.id in page
    for one in framework_policies():
        assert one.name in page
