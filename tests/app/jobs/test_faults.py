"""What breaks in practice: kills at random points, and a database that is gone for a while."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from benchmarks.faults import run_rounds
from tests.app.conftest import fake_plans
from tests.app.jobs.fleet import QUICK, Fleet
from tests.app.jobs.proxy import Proxy

pytestmark = pytest.mark.slow
ROUNDS = 5


def test_random_kills_lose_nothing_and_run_nothing_twice(database_url: str, tmp_path: Path) -> None:
    for killed, wrong in run_rounds(database_url, ROUNDS, 1, tmp_path):
        assert not wrong, (killed, wrong)


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[tuple[Proxy, str]]:
    """A way to the database that can be cut, and its address. A SQLite file can't be away."""
    address = make_url(fleet.url)
    if address.host is None:
        pytest.skip("a file is always there")
    made = Proxy(address.host, address.port or 5432)
    yield made, address.set(host="127.0.0.1", port=made.port).render_as_string(hide_password=False)
    made.close()


def test_a_short_absence_of_the_database_is_ridden_out(fleet: Fleet, proxy: tuple[Proxy, str]) -> None:
    way, url = proxy
    fleet.start(url=url)
    job_id = fleet.submit("marked", str(fleet.directory / "device"), 2.0)
    fleet.wait(job_id, lambda job: job.state == "running")
    way.cut()
    time.sleep(QUICK.fence_seconds / 2)
    way.restore()
    ended = fleet.wait(job_id)
    assert (ended.state, ended.attempts) == ("succeeded", 1)
    samples = [event.data["step"] for event in fleet.jobs.events(job_id) if event.event == "sample"]
    assert samples == [1, 2, 3, 4, 5]


def test_after_a_long_absence_the_job_runs_again_and_never_twice_at_once(
    fleet: Fleet, proxy: tuple[Proxy, str]
) -> None:
    way, url = proxy
    fleet.start("cut-off", url=url)
    job_id = fleet.submit("marked", str(fleet.directory / "device"), 4.0)
    fleet.wait(job_id, lambda job: job.state == "running")
    way.cut()
    fleet.start("other")
    ended = fleet.wait(job_id)
    way.restore()
    assert (ended.state, ended.attempts) == ("succeeded", 2)
    assert not (fleet.directory / "device.twice").exists()
    # The one that was cut off is of use again.
    back = next(worker.id for worker, _, _ in fleet.workers.known() if worker.name == "cut-off")
    assert fleet.wait(fleet.submit("measure", 1, 0.0, queue=f"worker/{back}"), seconds=60).state == "succeeded"


def test_people_are_told_while_the_database_is_away(proxy: tuple[Proxy, str], tmp_path: Path) -> None:
    way, url = proxy
    settings = Settings(data_dir=tmp_path / "web", database_url=SecretStr(url))
    with TestClient(create_app(settings, fake_plans(settings)), base_url="http://localhost") as client:
        assert client.get("/readyz").status_code == 200
        way.cut()
        away = client.post("/api/v1/jobs", json={"kind": "calibrate"})
        assert (away.status_code, away.json()["code"]) == (503, "database_unavailable")
        assert client.get("/readyz").status_code == 503
        assert client.get("/jobs", headers={"accept": "text/html"}).status_code == 503
        way.restore()
        assert client.post("/api/v1/jobs", json={"kind": "calibrate"}).status_code == 202
        assert client.get("/readyz").status_code == 200


DISK_BYTES = 256 * 2**10


def with_a_small_disk(folder: Path) -> list[str]:
    """A command that runs another one with a file system of 256 KiB at a folder, which nobody else sees.

    Skips where this user may mount nothing.
    """
    folder.mkdir(exist_ok=True)
    mount = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        whole = [*command, "sh", "-c", mount, str(folder), str(DISK_BYTES)]
        if (
            shutil.which("unshare")
            and subprocess.run([*whole, "true"], check=False, capture_output=True).returncode == 0
        ):
            return whole
    pytest.skip("this user may not mount a file system")


def test_a_full_disk_is_said_after_three_tries_and_the_next_job_runs(fleet: Fleet) -> None:
    """The kernel's own ENOSPC, from a file system that is full."""
    fleet.start(inside=with_a_small_disk(fleet.directory / "jobs"))
    full = fleet.wait(fleet.submit("long_result", 2 * DISK_BYTES), seconds=60)
    assert (full.state, full.failure_kind, full.attempts) == ("failed", "infrastructure", 3)
    assert full.message is not None
    assert full.message.startswith("Tried 3 times: its process ended with status 1 and without a result")
    assert "No space left on device" in full.message
    assert fleet.wait(fleet.submit("long_result", 1000)).state == "succeeded"
