from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from app.web.navigation import SITE_MAP
from tests.app.web.test_head import PAGE


def test_every_page_of_the_map_is_there(client: TestClient) -> None:
    links = [link for group in SITE_MAP for link in group.links]
    assert {"/", "/models", "/devices", "/methodology", "/about"} <= {link.href for link in links}
    for link in links:
        assert client.get(link.href, headers={"accept": PAGE}).status_code == 200, link.href


@pytest.mark.parametrize("path", ["/", "/models", "/accuracy", "/about"])
def test_the_page_that_one_is_on_is_marked(client: TestClient, path: str) -> None:
    marked = re.findall(r'<a href="([^"]+)" aria-current="page"', client.get(path).text)
    assert set(marked) == {path}


def test_an_error_has_the_map_as_well(client: TestClient) -> None:
    assert 'class="menu"' in client.get("/nothing", headers={"accept": PAGE}).text
