"""What only a browser can say: accessibility, widths, the content policy, and that forms work as people use them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

pytestmark = pytest.mark.browser

VENDOR = Path(__file__).parent / "vendor"
PLAN = "/plan?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb"
PAGES = {
    "offers": "/offers?q=kaggle",
    "search": "/search?model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&tokens=10000000",
    "form": "/",
    "wrong form": f"{PLAN}&method=magic",
    "yes": f"{PLAN}&method=qlora",
    "tight": f"{PLAN}&method=qlora&micro_batch_size=4",
    "no": f"{PLAN}&method=full",
    "models": "/models",
    "model": "/models/meta-llama/Llama-3.1-8B",
    "devices": "/devices",
    "device": "/devices/nvidia-rtx-4090-24gb",
    "software": "/software",
    "differ": "/differ?v=1&model=meta-llama/Llama-3.1-8B&device=nvidia-rtx-4090-24gb&method=qlora&lora.rank=8",
    "jobs": "/jobs",
    "workers": "/workers",
    "machine": "/machine",
    "claims": "/claims",
    "method": "/methodology",
    "accuracy": "/accuracy",
    "glossary": "/glossary",
    "about": "/about",
    "errors": "/errors",
    "not found": "/nothing",
}


@pytest.fixture(params=[(1280, "light"), (360, "light"), (1280, "dark"), (360, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    width, scheme = request.param
    opened = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    yield opened
    opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened.new_page()
    opened.close()


def test_pages_are_accessible_and_fit_the_screen(context: BrowserContext, address: str) -> None:
    """axe-core finds nothing on any page, nothing is wider than the screen, and no policy is broken."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    axe = (VENDOR / "axe.min.js").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for name, path in PAGES.items():
        page.goto(address + path)
        page.evaluate("document.querySelectorAll('details').forEach(element => { element.open = true })")
        page.evaluate(axe)
        violations = page.evaluate("axe.run().then(result => result.violations)")
        found[name] = [(item["id"], [node["html"][:120] for node in item["nodes"][:3]]) for item in violations]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
    assert {name: items for name, items in found.items() if items} == {}
    assert [text for text in complaints if "status of 4" not in text] == []


def test_a_plan_is_asked_for_and_changed(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Model", exact=True).fill("meta-llama/Llama-3.1-8B")
    page.get_by_label("Machine", exact=True).select_option("nvidia-rtx-4090-24gb")
    page.get_by_role("radio", name=re.compile("^Full")).check()
    page.get_by_role("button", name="Check").first.click()
    expect(page).to_have_url(address + f"{PLAN}&method=full")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Does not fit")
    page.get_by_role("link", name=re.compile("QLoRA")).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Fits")
    page.get_by_role("link", name="Change the plan").first.click()
    expect(page.get_by_role("radio", name=re.compile("^QLoRA"))).to_be_checked()


def test_a_form_works_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    page.locator("summary", has_text="The model is not in the list").click()
    page.locator("#config_text").fill('{"model_type": "llama"}')
    page.get_by_role("button", name="Check").first.click()
    expect(page).to_have_url(re.compile(r"/plan\?v=1&config=[0-9a-f]{64}"))
    context.close()


def test_a_config_is_uploaded(page: Page, address: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "mistral"}', encoding="utf-8")
    page.goto(address)
    page.locator("summary", has_text="The model is not in the list").click()
    page.locator("#config_file").set_input_files(path)
    page.get_by_role("button", name="Check").first.click()
    expect(page.locator(".crumbs")).to_contain_text("pasted mistral")


def test_a_wrong_field_is_found_from_the_summary(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Model", exact=True).fill("meta-llama/Llama-3.1-8B")
    page.get_by_label("Sequence length").fill("many")
    page.get_by_role("button", name="Check").first.click()
    page.get_by_role("alert").get_by_role("link", name="Sequence length").click()
    field = page.get_by_label("Sequence length")
    expect(field).to_have_value("many")
    expect(field).to_have_attribute("aria-invalid", "true")


def test_the_form_is_reached_with_the_keyboard(page: Page, address: str) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_vendored_files_are_what_the_manifest_says() -> None:
    entries = json.loads((VENDOR / "MANIFEST.json").read_text(encoding="utf-8"))
    assert {entry["file"] for entry in entries} == {path.name for path in VENDOR.iterdir()} - {"MANIFEST.json"}
    for entry in entries:
        assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


ADAPTER = """
Object.defineProperty(navigator, "gpu", {value: undefined});
window.asked = 0;
HTMLCanvasElement.prototype.getContext = () => ({
  RENDERER: 1,
  getExtension: () => ({UNMASKED_RENDERER_WEBGL: 2}),
  getParameter: () => { window.asked += 1; return NAME; },
});
"""


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("ANGLE (NVIDIA, NVIDIA GeForce RTX 4090 (0x00002684) Direct3D11 vs_5_0 ps_5_0, D3D11)", "Is it this one?"),
        ("Apple GPU", "The browser hides which device it is."),
    ],
)
def test_the_adapter_is_read_on_a_click_and_confirmed_by_the_person(
    page: Page, address: str, said: str, answer: str
) -> None:
    page.add_init_script(ADAPTER.replace("NAME", json.dumps(said)))
    page.goto(address)
    assert page.evaluate("window.asked") == 0
    link = page.get_by_role("link", name="Read my graphics adapter")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text(answer)
    expect(page).to_have_url(re.compile(f"^{re.escape(address)}/?$"))
    picker = page.get_by_label("Machine", exact=True)
    expect(picker).to_have_value("this-machine")
    if answer.startswith("Is it"):
        page.get_by_role("button", name=re.compile("^Yes, plan for GeForce RTX 4090")).click()
        expect(picker).to_have_value("nvidia-rtx-4090-24gb")


def test_a_pasted_machine_reaches_the_form(page: Page, address: str) -> None:
    page.goto(address + "/machine")
    page.get_by_label("What it printed").fill("NVIDIA GeForce RTX 4090, 24564 MiB, 1021 MiB")
    page.get_by_role("button", name="Describe").click()
    page.get_by_role("link", name="Plan a run on it").click()
    expect(page.get_by_label("Machine", exact=True)).to_have_value("nvidia-rtx-4090-24gb")


SHIFT = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""


def test_nothing_moves_while_a_page_is_read(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.add_init_script(SHIFT)
    moved: dict[str, float] = {}
    for name, path in PAGES.items():
        page.goto(address + path)
        page.wait_for_timeout(120)
        moved[name] = page.evaluate("window.shift")
    assert {name: value for name, value in moved.items() if value > 0.01} == {}


def test_the_menu_is_used_by_keyboard_alone(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(address)
    for _ in range(3):  # the skip link, the name, the menu
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    menu = page.locator(".menu .panel")
    expect(menu).to_be_visible()
    claims = menu.get_by_role("link", name="Claims")
    for _ in range(40):
        page.keyboard.press("Tab")
        if claims.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page).to_have_url(address + "/claims")


def test_a_printed_result_has_all_that_is_folded_and_no_menu(page: Page, address: str) -> None:
    page.goto(address + PAGES["no"])
    page.emulate_media(media="print")
    expect(page.locator(".top nav")).to_be_hidden()
    expect(page.locator(".verdict")).to_be_visible()
    folded = page.locator("#ledger ~ details .table")
    assert folded.count() > 3
    assert folded.evaluate_all("all => all.every(element => element.getBoundingClientRect().height > 0)")
