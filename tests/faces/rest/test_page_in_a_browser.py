"""The page as a person meets it, in Debian's Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect, sync_playwright

from tests.faces.rest.house import MASTER
from tests.faces.rest.test_process import Running, serving

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None,
    reason="the page in a browser: no Chromium here (Debian: apt-get install chromium)",
)
SCRIPT = "<img src=x onerror=alert(1)><b>bold</b>"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("page")) as server:
        with server.client() as client:
            for number in range(60):
                client.post("/events", json={"name": f"event {number:02}", "schedule": "0 9 * * *", "tags": ["user:a"]})
            hostile = {"name": SCRIPT, "schedule": "every 1h", "tags": [SCRIPT.replace(",", "")]}
            made = client.post("/events", json=hostile).json()
            client.post(f"/events/{made['id']}/trigger")
        yield server


@pytest.fixture(scope="module")
def browser_page(running: Running) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


@pytest.fixture
def page(browser_page: Page, running: Running) -> Iterator[Page]:
    """At the form, with everything the browser complained of."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def refuse(dialog: Dialog) -> None:
        complaints.append("a dialog")
        dialog.dismiss()

    browser_page.on("console", note)
    browser_page.on("dialog", refuse)
    browser_page.goto(running.url)
    yield browser_page
    assert [each for each in complaints if "401" not in each] == []


def enter(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Show my events").click()


def test_a_token_shows_events_and_their_occurrences(page: Page) -> None:
    enter(page, MASTER)
    rows = page.locator("#event-rows tr")
    expect(rows).to_have_count(50)
    expect(page.locator("#who")).to_have_text("master (master)")
    page.get_by_role("button", name="More").click()
    expect(rows).to_have_count(61)
    page.get_by_role("button", name=SCRIPT).click()
    expect(page.locator("#occurrence-rows tr")).to_have_count(2)


def test_text_of_events_is_never_markup(page: Page) -> None:
    enter(page, MASTER)
    expect(page.get_by_role("button", name=SCRIPT)).to_be_visible()
    assert page.locator("#event-rows img, #event-rows b").count() == 0


def test_events_are_found_by_text_and_status(page: Page) -> None:
    enter(page, MASTER)
    page.get_by_label("Text").fill("event 07")
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#event-rows tr")).to_have_count(1)
    page.get_by_label("Status").select_option("paused")
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#notice")).to_have_text("No events within this token's reach.")


def test_a_bad_token_brings_the_form_back(page: Page) -> None:
    enter(page, "not-a-token")
    expect(page.locator("#notice")).to_have_text("That token is not accepted.")
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("#events")).to_be_hidden()


def test_the_token_is_forgotten_when_told_and_at_a_reload(page: Page) -> None:
    enter(page, MASTER)
    expect(page.locator("#event-rows tr")).to_have_count(50)
    page.get_by_role("button", name="Forget the token").click()
    expect(page.locator("#event-rows tr")).to_have_count(0)
    enter(page, MASTER)
    expect(page.locator("#event-rows tr")).to_have_count(50)
    page.reload()
    expect(page.get_by_label("Token")).to_have_value("")
    expect(page.locator("#events")).to_be_hidden()
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0


def test_docs_can_be_read_and_its_links_lead_somewhere(page: Page, running: Running) -> None:
    page.goto(f"{running.url}/docs")
    expect(page.get_by_role("heading", name="Qhronos")).to_be_visible()
    page.get_by_role("link", name="POST /events", exact=True).click()
    expect(page.locator("#create_event")).to_be_in_viewport()


def test_it_fits_a_telephone(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    enter(page, MASTER)
    expect(page.locator("#event-rows tr")).to_have_count(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.screenshot(path=str(tmp_path / "telephone.png"))
    page.set_viewport_size({"width": 1280, "height": 720})
