from __future__ import annotations

from pathlib import Path

import pytest

from app.problems import Problem
from app.web.configs import ConfigStore

CONFIG = {"model_type": "llama", "hidden_size": 8, "é": None}


def test_a_configuration_comes_back_by_its_hash(tmp_path: Path) -> None:
    store = ConfigStore(tmp_path / "configs")
    assert store.get(store.put(CONFIG)) == CONFIG


def test_the_order_of_the_fields_does_not_matter(tmp_path: Path) -> None:
    store = ConfigStore(tmp_path)
    assert store.put(CONFIG) == store.put(dict(reversed(CONFIG.items())))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("digest", ["", "x", "../../etc/passwd", "0" * 64, "0" * 63 + "\n", "A" * 64])
def test_what_is_not_there_is_a_problem(tmp_path: Path, digest: str) -> None:
    with pytest.raises(Problem) as caught:
        ConfigStore(tmp_path).get(digest)
    assert caught.value.document.code == "unknown_plan"


def test_a_full_store_forgets_what_was_longest_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.configs.MAXIMUM_FILES", 3)
    store = ConfigStore(tmp_path)
    for number in range(10):
        store.put({"number": number})
    assert len(list(tmp_path.iterdir())) == 3
