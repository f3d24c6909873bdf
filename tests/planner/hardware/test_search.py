from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.hardware import UnknownDevice, all_devices, device, find_devices, match_name, match_pci
from planner.units import MIB


def ids(q: str, limit: int = 200) -> list[str]:
    return [item.id for item in find_devices(q, limit=limit).items]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA L40", "nvidia-l40-48gb"),
        ("NVIDIA L4", "nvidia-l4-24gb"),
        ("NVIDIA L40S", "nvidia-l40s-48gb"),
        ("nvidia  geforce RTX 4090", "nvidia-rtx-4090-24gb"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "nvidia-rtx-4090-laptop-16gb"),
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100-sxm-80gb"),
        ("NVIDIA H200", "nvidia-h200-sxm-141gb"),
        ("NVIDIA H200 NVL", "nvidia-h200-nvl-141gb"),
        ("Tesla T4", "nvidia-t4-16gb"),
        ("Apple M3 Max", "apple-m3-max"),
        ("Apple M3", "apple-m3"),
        ("AMD Radeon RX 7900 XTX", "amd-rx-7900-xtx-24gb"),
        ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
    ],
)
def test_exact_names_match(name: str, expected: str) -> None:
    matched = match_name(name)
    assert matched is not None
    assert matched.id == expected


@pytest.mark.parametrize(
    "name",
    ["", "L", "NVIDIA", "NVIDIA L400", "NVIDIA L", "RTX 4090D", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "Apple M3 Mega"],
)
def test_parts_of_names_do_not_match(name: str) -> None:
    assert match_name(name) is None


@given(st.sampled_from(all_devices()), st.sampled_from(["x", " Super", "S", "0", " MIG"]))
def test_a_longer_name_never_matches_the_shorter_device(item: object, tail: str) -> None:
    name = getattr(item, "name") + tail  # noqa: B009
    matched = match_name(name)
    assert matched is None or matched is not item


def test_cards_of_one_name_are_told_apart_by_size() -> None:
    assert match_name("NVIDIA GeForce RTX 4060 Ti") is None
    small = match_name("NVIDIA GeForce RTX 4060 Ti", 8188 * MIB)
    large = match_name("NVIDIA GeForce RTX 4060 Ti", 16380 * MIB)
    assert small is not None
    assert large is not None
    assert (small.id, large.id) == ("nvidia-rtx-4060-ti-8gb", "nvidia-rtx-4060-ti-16gb")


def test_a_size_that_no_such_card_has_is_no_match() -> None:
    assert match_name("NVIDIA GeForce RTX 2080 Ti", 22528 * MIB) is None
    assert match_name("NVIDIA GeForce RTX 3080", 20480 * MIB) is None


def test_error_correction_does_not_hide_a_card() -> None:
    matched = match_name("NVIDIA RTX A6000", 46068 * MIB)
    assert matched is not None
    assert matched.id == "nvidia-rtx-a6000-48gb"


def test_pci_ids_with_and_without_revision() -> None:
    xtx, xt, arc = match_pci("1002:744C:c8"), match_pci("1002:744c:cc"), match_pci("8086:56a0:08")
    assert xtx is not None
    assert xt is not None
    assert arc is not None
    assert (xtx.id, xt.id, arc.id) == ("amd-rx-7900-xtx-24gb", "amd-rx-7900-xt-20gb", "intel-arc-a770-16gb")
    assert match_pci("1002:744c:00") is None


def test_an_unknown_id_suggests_but_never_answers() -> None:
    with pytest.raises(UnknownDevice) as caught:
        device("nvidia-rtx-4090")
    assert "nvidia-rtx-4090-24gb" in caught.value.suggestions
    assert caught.value.field == "machine.device"
    assert "nearest ids" in str(caught.value)


def test_an_id_as_people_type_it_suggests_what_a_search_finds() -> None:
    with pytest.raises(UnknownDevice) as caught:
        device("macbook pro m3 max")
    assert caught.value.suggestions == ("apple-m3-max",)


def test_a_long_unknown_id_is_answered_briefly() -> None:
    with pytest.raises(UnknownDevice) as caught:
        device("x" * 10**6)
    assert len(str(caught.value)) < 400


def test_an_exact_name_is_as_good_as_an_id() -> None:
    assert device(" NVIDIA-L4-24GB ").id == device("NVIDIA L4").id == "nvidia-l4-24gb"


def test_every_word_of_a_search_must_be_there() -> None:
    assert "nvidia-rtx-4090-24gb" in ids("4090 geforce")
    assert ids("4090 radeon") == []
    assert set(ids("apple m4")) == {"apple-m4", "apple-m4-pro", "apple-m4-max"}
    assert len(ids("")) == len(all_devices())


def test_pages_cover_everything_once() -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = find_devices("nvidia", limit=7, cursor=cursor)
        seen += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids("nvidia")
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"limit": 201}, {"cursor": "-1"}, {"cursor": "x"}, {"cursor": "9" * 9}]
)
def test_bad_pages_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        find_devices("", **arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("rtx4090", {"nvidia-rtx-4090-24gb", "nvidia-rtx-4090-laptop-16gb"}),
        ("9070xt", {"amd-rx-9070-xt-16gb"}),
        ("RTX-4090 24gb", {"nvidia-rtx-4090-24gb"}),
        ("macbook m4 max", {"apple-m4-max"}),
        ("MacBook Pro M3 Max 64GB", {"apple-m3-max"}),
        ("m3 max 64 GiB", {"apple-m3-max"}),
        ("mac mini m4 32gb", {"apple-m4"}),
        ("m3 max 65gb", set()),
    ],
)
def test_what_people_type_finds_the_device(typed: str, expected: set[str]) -> None:
    assert set(ids(typed)) == expected


def test_a_mac_is_an_apple() -> None:
    assert (
        ids("mac")
        == ids("mac studio")
        == ids("MacBook Air")
        == ids("mac-mini")
        == [item.id for item in find_devices("apple", limit=200).items]
    )


def test_a_number_alone_is_none_of_an_architecture() -> None:
    assert ids("sm_89")
    assert not set(ids("89")) & {item.id for item in all_devices() if item.architecture == "sm_89"}
