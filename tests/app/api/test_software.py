from __future__ import annotations

from starlette.testclient import TestClient

from planner.support import all_rows


def test_the_matrix_names_commands_and_what_to_leave_alone(client: TestClient) -> None:
    body = client.get("/api/v1/software").json()
    radeon = next(item for item in body["machines"] if item["id"] == "amd-radeon-rdna2")
    assert radeon["features"]["fused attention"] == {"no": ["gfx1030", "gfx1031"]}
    assert "qlora" in radeon["routes"][0]["methods"]
    assert all(route["install"] and route["source"] for item in body["machines"] for route in item["routes"])
    assert "torchtune" in {item["software"] for item in body["avoid"]}


def test_facts_are_searched_and_paged(client: TestClient) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 50} | ({"cursor": cursor} if cursor else {})
        body = client.get("/api/v1/software/facts", params=query).json()
        seen += [item["id"] for item in body["items"]]
        cursor = body["next"]
        if cursor is None:
            break
    assert seen == [row.id for row in all_rows()]
    found = client.get("/api/v1/software/facts", params={"q": "bitsandbytes tpu"}).json()
    assert [item["hardware"] for item in found["items"]] == ["Google TPU"]


def test_a_cursor_that_does_not_exist_is_refused(client: TestClient) -> None:
    answer = client.get("/api/v1/software/facts", params={"cursor": "nowhere"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "cursor"
