"""From the empty page to a saved comparison, in a real browser: by mouse alone, by keyboard alone, without scripts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
MACHINES = ("This machine", "RunPod RTX 4090 secure", "Kaggle GPU T4 x2")
REPORT = re.compile(r"/r/[a-z2-7]{26}$")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened.new_page()
    opened.close()


def check_the_report(page: Page) -> None:
    """What a new user wanted: three machines for a 7B model, kept under an address of its own."""
    expect(page).to_have_url(REPORT)
    cards = page.locator(".plan-card")
    expect(cards).to_have_count(3)
    for card, name in zip(cards.all(), MACHINES, strict=True):
        expect(card).to_contain_text(name)
    expect(page.locator("h1")).to_contain_text("Qwen2.5-7B")


def test_from_the_empty_page_to_a_saved_comparison_by_mouse_alone(page: Page, address: str) -> None:
    page.goto(address)
    started = time.monotonic()

    def click(target: Locator) -> None:
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    click(page.get_by_role("navigation", name="Main").get_by_role("link", name="Compare", exact=True))
    click(page.get_by_role("link", name="Qwen2.5-7B", exact=True))
    expect(page.get_by_label("Model", exact=True)).to_have_value("Qwen/Qwen2.5-7B")
    expect(page.get_by_role("checkbox", name="This machine")).to_be_checked()
    for name in MACHINES[1:]:
        click(page.get_by_role("checkbox", name=name))
    click(page.get_by_role("button", name="Compare"))
    click(page.get_by_role("link", name="Save it"))
    click(page.get_by_role("button", name="Save", exact=True))
    check_the_report(page)
    assert time.monotonic() - started < 60


def test_from_the_empty_page_to_a_saved_comparison_by_keyboard_alone(page: Page, address: str) -> None:
    page.goto(address)
    started = time.monotonic()
    press = page.keyboard.press

    def tab_to(is_there: Callable[[], bool], what: str) -> None:
        for _ in range(80):
            if is_there():
                return
            press("Tab")
        raise AssertionError(f"Tab does not lead to {what}")

    def on(target: Locator) -> Callable[[], bool]:
        return lambda: target.evaluate("element => element === document.activeElement")

    tab_to(on(page.get_by_role("navigation", name="Main").get_by_role("link", name="Compare", exact=True)), "Compare")
    press("Enter")
    page.wait_for_url("**/compare")
    tab_to(on(page.get_by_label("Model", exact=True)), "the model")
    page.keyboard.type("Qwen/Qwen2.5-7B")
    press("Escape")  # the browser's list of suggestions
    for name in MACHINES[1:]:
        tab_to(on(page.get_by_role("checkbox", name=name)), name)
        press("Space")
    tab_to(on(page.get_by_label("By id")), "the ids")
    press("Enter")
    page.wait_for_url(re.compile(r"/compare\?plan="))
    tab_to(on(page.get_by_role("link", name="Save it")), "Save it")
    press("Enter")
    tab_to(on(page.get_by_label("Title")), "the title")
    press("End")
    page.keyboard.type(" by keyboard")
    press("Enter")
    page.wait_for_url("**/r/*")
    check_the_report(page)
    expect(page.locator("h1")).to_contain_text("by keyboard")
    assert time.monotonic() - started < 60


def saved(page: Page, address: str) -> str:
    """A saved comparison's address."""
    page.goto(f"{address}/compare?model=Qwen/Qwen2.5-7B&machine=this-machine&machine=apple-m4-max")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/r/*")
    return page.url


def test_all_of_it_works_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    saved(page, address)
    page.get_by_text("Title and notes").click()
    page.get_by_label("Notes").fill("a line\nanother")
    page.get_by_role("button", name="Save the words").click()
    expect(page.locator(".notes")).to_have_text("a line\nanother", use_inner_text=True)
    page.get_by_role("link", name="Take as baseline").click()
    expect(page.get_by_role("columnheader", name="Difference from B")).to_be_visible()
    page.get_by_role("link", name="Only the differences").click()
    expect(page.get_by_role("link", name="Show all rows")).to_be_visible()
    page.get_by_role("link", name="What does the current estimator say?").click()
    expect(page.get_by_role("heading", name="Then and now")).to_be_visible()
    page.get_by_text("Delete the report").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page).to_have_url(f"{address}/reports")
    context.close()


def test_a_plan_is_compared_with_a_change_of_it(page: Page, address: str) -> None:
    page.goto(f"{address}/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=full")
    page.get_by_role("link", name="a change of this plan").click()
    page.get_by_role("radio", name=re.compile("^QLoRA")).check()
    page.get_by_role("button", name="Check").first.click()
    expect(page.locator(".plan-card")).to_have_count(2)
    expect(page.locator(".lead")).to_contain_text("1 of 2 fit: B.")


def test_another_browser_cannot_edit(page: Page, browser: Browser, address: str) -> None:
    there = saved(page, address)
    expect(page.get_by_role("heading", name="Yours to edit")).to_be_visible()
    stranger = browser.new_context()
    other = stranger.new_page()
    other.goto(there)
    expect(other.get_by_role("heading", name="Yours to edit")).to_have_count(0)
    stranger.close()


@pytest.fixture(params=[(1280, "light"), (360, "light"), (1280, "dark"), (360, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    width, scheme = request.param
    opened = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    yield opened
    opened.close()


def test_a_report_is_accessible_and_fits_the_screen(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    there = saved(page, address)
    plan = "v%3D1%26model%3DQwen/Qwen2.5-7B%26device%3Dnvidia-rtx-4090-24gb%26method%3D"
    pages = {
        "report": f"{there}?current=1",
        "list": f"{address}/reports",
        "narrowed": f"{address}/reports?verdict=fits&q=qwen",
        "form": f"{address}/compare",
        "basket": f"{address}/compare?plan={plan}qlora",
        "wrong": f"{address}/compare?plan={plan}magic&plan={plan}full",
        "eight": f"{address}/compare?" + "&".join(f"plan={plan}{method}" for method in ("qlora", "full") * 4),
    }
    for name, goal in pages.items():
        page.goto(goal)
        page.evaluate("document.querySelectorAll('details').forEach(element => { element.open = true })")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        violations = page.evaluate("axe.run().then(result => result.violations)")
        found = [(item["id"], [node["html"][:120] for node in item["nodes"][:3]]) for item in violations]
        assert found == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"


def test_a_report_on_paper_has_numbers_and_no_controls(page: Page, address: str) -> None:
    saved(page, address)
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator(".compared")).to_be_visible()
    for control in (".screen-only", "form", "nav"):
        assert not any(element.is_visible() for element in page.locator(control).all()), control
