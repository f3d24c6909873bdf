"""A wheel, installed in an empty place, has everything that a page needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Route

from app.web import (
    accuracy,
    calibrations,
    claims,
    compare,
    differ,
    jobs,
    machine,
    offers,
    pages,
    reports,
    search,
    software,
)

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

# Run with the wheel's folder before everything else on the path, from a folder that is not the checkout.
REPORT = """
import json
from app.assets import assets_directory
found = {name: str(assets_directory(name)) for name in ("templates", "static", "docs")}
print(json.dumps(found))
"""
PLAN = "model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb"
PAGES = {
    "/": "/",
    "/plan": f"/plan?{PLAN}",
    "/plan.json": f"/plan.json?{PLAN}",
    "/plan.md": f"/plan.md?{PLAN}",
    "/models": "/models",
    "/models/{model_id:path}": "/models/meta-llama/Llama-3.1-8B",
    "/devices": "/devices",
    "/devices/{device_id}": "/devices/nvidia-rtx-4090-24gb",
    "/software": "/software",
    "/offers": "/offers",
    "/claims": "/claims",
    "/search": "/search?model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb",
    "/differ": "/differ",
    "/machine": "/machine",
    "/jobs": "/jobs",
    "/workers": "/workers",
    "/calibrations": "/calibrations",
    "/methodology": "/methodology",
    "/accuracy": "/accuracy",
    "/glossary": "/glossary",
    "/errors": "/errors",
    "/about": "/about",
    "/compare": f"/compare?plan={quote(PLAN)}&plan={quote(PLAN)}%26method%3Dfull",
    "/reports": "/reports",
    "/reports.json": "/reports.json",
    "/reports.csv": "/reports.csv",
    "/r/{report_id}": "/r/REPORT?current=1",
    "/r/{report_id}.json": "/r/REPORT.json",
    "/r/{report_id}.csv": "/r/REPORT.csv",
    "/r/{report_id}.md": "/r/REPORT.md",
    "/r/{report_id}.svg": "/r/REPORT.svg",
    "/r/{report_id}.png": "/r/REPORT.png",
    "/r/{report_id}/badge.svg": "/r/REPORT/badge.svg",
    "/r/{report_id}/badge.json": "/r/REPORT/badge.json",
}
ADDRESSES = [
    *PAGES.values(),
    "/livez",
    "/readyz",
    "/api/v1/openapi.json",
    "/static/trainfit.css",
    "/static/comparison.css",
]
SERVE_EVERYTHING = f"""
import json
from fastapi.testclient import TestClient
from app.main import create_app
with TestClient(create_app(), base_url="http://127.0.0.1") as client:
    plan = {{"model": {{"id": "meta-llama/Llama-3.1-8B"}}, "machine": {{"device": "nvidia-rtx-4090-24gb"}}}}
    report = client.post("/api/v1/reports", json={{"requests": [plan, plan]}}).json()["id"]
    addresses = [address.replace("REPORT", report) for address in {ADDRESSES}]
    print(json.dumps({{address: client.get(address).status_code for address in addresses}}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone; its dependencies come from the environment that runs the tests, to keep this to seconds."""
    target = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return target


def run_elsewhere(code: str, installed: Path, folder: Path) -> str:
    """What the code prints in a Python without site-packages' own trainfit: -S reads no .pth file."""
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "TRAINFIT_DATA_DIR": str(folder / "data")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_two_packages_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"app", "planner"}


def test_the_wheel_holds_every_data_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = [path for package in ("app", "planner") for path in (ROOT / package).rglob("*.jsonl")]
    assert data
    assert not [str(path) for path in data if path.relative_to(ROOT).as_posix() not in names]


def test_templates_static_files_and_documents_travel_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run_elsewhere(REPORT, installed, tmp_path))
    assert {name: Path(place) for name, place in found.items()} == {
        name: installed / "app" / "_assets" / name for name in ("templates", "static", "docs")
    }


def test_every_page_is_asked_for_below() -> None:
    rooms = (
        pages, accuracy, software, offers, search, jobs, calibrations, compare, reports, differ, machine, claims,
    )  # fmt: skip
    routes = [route for room in rooms for route in room.router.routes]
    paths = {route.path for route in routes if isinstance(route, Route) and "GET" in (route.methods or ())}
    assert paths - {"/jobs/{job_id}", "/calibrations/{calibration_id}"} == set(PAGES)  # those need one


def test_an_installed_wheel_serves_its_pages_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    answers = json.loads(run_elsewhere(SERVE_EVERYTHING, installed, tmp_path))
    assert set(answers.values()) == {200}, answers
