from __future__ import annotations

import gzip
import re

from starlette.testclient import TestClient

from app.web.navigation import SITE_MAP
from planner.claims import CLAIMS


def test_every_claim_is_answered_with_plans_that_open(real_client: TestClient) -> None:
    text = real_client.get("/claims").text
    for claim in CLAIMS:
        assert f'id="{claim.id}"' in text
    plans = [href.replace("&amp;", "&") for href in re.findall(r'href="(/plan\?[^"]+)"', text)]
    assert len(plans) > 25
    for href in plans[::12]:
        assert real_client.get(href, follow_redirects=False).status_code == 200


def test_about_leads_to_the_claims(client: TestClient) -> None:
    assert 'href="/claims"' in client.get("/about").text


def test_every_page_is_small(real_client: TestClient) -> None:
    paths = [link.href for group in SITE_MAP for link in group.links]
    plan = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=full"
    sizes = {path: len(gzip.compress(real_client.get(path).content)) for path in [*paths, plan]}
    assert max(sizes.values()) <= 60_000, sizes
