"""The MCP App beside `list_occurrences`: bound as hosts look for it, and, in a browser, what a person sees."""

import base64
import hashlib
import re
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import mcp_types as t
import pytest
from mcp.server.apps import APP_MIME_TYPE
from playwright.async_api import Browser, expect

from qhronos_core.domain.occurrence import AttemptOutcome
from qhronos_core.ports import Outcome
from tests.faces.mcp.embedding import APP, HOST, Host, a_browser, embedded
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, Speaker

MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"


# --- as a host finds it ---------------------------------------------------------------------------------


async def test_one_tool_is_bound_to_the_app_which_both_generations_list_and_read(alice: Speaker) -> None:
    tools = (await alice.client.list_tools()).tools
    bound = {tool.name: tool.meta["ui"] for tool in tools if tool.meta}
    lent = ["model", "app"]
    assert bound == {
        "list_events": {"visibility": lent},
        "list_occurrences": {"resourceUri": APP, "visibility": lent},
    }
    [listed] = [one for one in (await alice.client.list_resources()).resources if str(one.uri) == APP]
    [content] = (await alice.client.read_resource(APP)).contents
    assert isinstance(content, t.TextResourceContents)
    assert listed.mime_type == content.mime_type == APP_MIME_TYPE == "text/html;profile=mcp-app"
    nowhere: dict[str, list[str]] = {
        "connectDomains": [],
        "resourceDomains": [],
        "frameDomains": [],
        "baseUriDomains": [],
    }
    assert (content.meta or {})["ui"] == (listed.meta or {})["ui"] == {"csp": nowhere, "prefersBorder": True}


@pytest.mark.parametrize("version", ["2025-11-25", "auto"])
async def test_both_handshakes_say_that_there_are_apps(house: House, version: str) -> None:
    async with house.speaker(version) as alice:
        capabilities = alice.client.server_capabilities
        assert capabilities is not None
        assert (capabilities.extensions or {})["io.modelcontextprotocol/ui"] == {}


async def test_the_page_is_one_file_that_allows_its_own_script_and_style_and_nothing_else(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        page = await alice.read(APP)
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    hashes = {}
    for tag in ("script", "style"):
        [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes[tag] = "sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src '{hashes['script']}'; style-src '{hashes['style']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    for outside in (r"https?://", r"@import", r"url\(", r"<link", r"<img", r"\ssrc="):
        assert not re.search(outside, page), outside
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"):
        assert danger not in page
    assert len(page) < 40_000


# --- as a person sees it --------------------------------------------------------------------------------

in_a_browser = pytest.mark.skipif(
    shutil.which("chromium") is None,
    reason="the timeline in a browser: no Chromium here (Debian: apt-get install chromium)",
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with a_browser(shutil.which("chromium") or "") as browser:
        yield browser


async def a_busy_week(house: House) -> None:
    """One event an agent works on, one hook that fails, one to come; all of alice."""
    await house.event(
        name="Water the plants", key="home/plants", schedule="every day at 9am", description="all of them"
    )
    url = {"type": "webhook", "params": {"url": "https://receiver.example/hook"}}
    await house.event(name="Tell the warehouse", key="stock/report", schedule="every 12h", action=url)
    await house.event(name="Renew the certificate", schedule="in 3 days")
    refused = Outcome(AttemptOutcome.REFUSED, 410, "http_410", response=b"<script>no</script> such hook", gone=True)
    house.world.courier.will(refused)
    await house.comes_due(timedelta(hours=24))


def runs(host: Host) -> Any:
    return host.app.locator("li.run")


@in_a_browser
async def test_past_and_coming_runs_are_seen_on_one_line_by_name(house: House, browser: Browser) -> None:
    await a_busy_week(house)
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        await host.show()
        initialize = await host.until("ui/initialize")
        assert initialize["params"]["protocolVersion"] == "2026-01-26"
        assert set(initialize["params"]) == {"protocolVersion", "appInfo", "appCapabilities"}
        await expect(host.app.get_by_text("Water the plants").first).to_be_visible()
        await expect(host.app.get_by_text("Renew the certificate")).to_be_visible()
        await expect(host.app.locator(".now")).to_have_text("Now, 09:00")
        dues = await host.app.locator("li.run time").evaluate_all("(all) => all.map((one) => one.dateTime)")
        assert dues == sorted(dues)
        assert len(set(dues)) > 5
        await expect(host.app.get_by_role("status")).to_have_text(re.compile(r"^\d+ past, \d+ coming$"))
        assert await host.app.locator("#axis i").count() == len(dues)
        assert {one["params"]["name"] for one in host.said("tools/call")} == {"list_occurrences", "list_events"}


@in_a_browser
async def test_a_run_opens_by_keyboard_and_tells_its_attempts(house: House, browser: Browser) -> None:
    await a_busy_week(house)
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        await host.show(event_id="stock/report", limit=10)
        await expect(host.app.get_by_role("heading", level=1)).to_have_text("Tell the warehouse")
        failed = host.app.get_by_role("button", name=re.compile("Failed"))
        await failed.focus()
        await host.page.keyboard.press("Enter")
        await expect(failed).to_have_attribute("aria-expanded", "true")
        attempt = host.app.get_by_role("list", name="Attempts").get_by_role("listitem")
        await expect(attempt).to_contain_text("Tue 2027-03-02T09:00:00Z · 410")
        await expect(host.app.get_by_text("<script>no</script> such hook")).to_be_visible()
        await expect(failed).to_be_focused()
        await host.page.keyboard.press("Enter")
        await expect(attempt).to_be_hidden()


@in_a_browser
async def test_what_people_wrote_is_text_wherever_it_is_shown(house: House, browser: Browser) -> None:
    await house.event(name=MARKUP, key="k", description=MARKUP, tags=["user:alice", "x"])
    await house.event(name=MARKUP)
    await house.comes_due()
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        [item] = (await alice.call("wait_for_occurrences", event_id="k"))["occurrences"]
        await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="failed", note=MARKUP)
        await host.show()
        await expect(host.app.get_by_text(MARKUP)).to_have_count(2)
        await host.app.get_by_role("button", name=re.compile("Failed")).click()
        await expect(host.app.get_by_role("figure", name="Note")).to_contain_text(MARKUP)
        assert await host.app.locator("main img, main b:not(#axis b)").count() == 0
        assert MARKUP not in str([one for one in host.heard if one.get("method") != "tools/call"])


@in_a_browser
async def test_a_host_that_lends_no_tools_still_sees_what_it_was_given(house: House, browser: Browser) -> None:
    await a_busy_week(house)
    alone = {**HOST, "hostCapabilities": {}}
    async with house.speaker("2025-11-25") as alice, embedded(browser, alice, says=alone) as host:
        shown = await host.show()
        assert shown.structured_content is not None
        await expect(runs(host)).to_have_count(len(shown.structured_content["occurrences"]))
        assert await host.app.get_by_role("button").count() == await host.app.locator("li.run button:disabled").count()
        assert host.said("tools/call") == []


@in_a_browser
async def test_a_result_of_text_alone_one_run_and_a_mistake_are_shown_too(house: House, browser: Browser) -> None:
    await a_busy_week(house)
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        listed = await alice.call("list_occurrences", event_id="home/plants")
        await host.until("ui/notifications/initialized")
        await host.tell("ui/notifications/tool-input", {"arguments": {"occurrence_id": listed["occurrences"][0]["id"]}})
        one = await alice.call("list_occurrences", occurrence_id=listed["occurrences"][0]["id"])
        await host.tell("ui/notifications/tool-result", {"content": [{"type": "text", "text": one.text}]})
        await expect(runs(host)).to_have_count(1)
        await expect(host.app.get_by_role("figure", name="Event")).to_contain_text("Water the plants")
        await expect(host.app.get_by_role("status")).to_have_text(one["says"])
        wrong = await alice.client.call_tool("list_occurrences", {"event_id": "nobody's"})
        await host.tell("ui/notifications/tool-result", wrong.model_dump(by_alias=True, mode="json", exclude_none=True))
        await expect(host.app.get_by_role("status")).to_contain_text("No such event.")
        await host.tell("ui/notifications/tool-cancelled", {"reason": "user action"})
        await expect(host.app.get_by_role("status")).to_have_text("The call was cancelled.")


@in_a_browser
async def test_pages_follow_each_other_and_a_refresh_tells_what_is_new(house: House, browser: Browser) -> None:
    await house.event(name="often", key="often", schedule="every 1h")
    for _ in range(30):
        await house.comes_due(timedelta(hours=1))
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        await host.show(event_id="often")
        await expect(runs(host)).to_have_count(4 + 8)
        await host.app.get_by_role("button", name="Earlier").click()
        await expect(runs(host)).to_have_count(24 + 8)
        await host.app.get_by_role("button", name="Earlier").click()
        await expect(runs(host)).to_have_count(30 + 8)
        await expect(host.app.get_by_role("button", name="Earlier")).to_be_hidden()
        await host.app.get_by_role("button", name="Later").click()
        await expect(runs(host)).to_have_count(30 + 28)
        await house.comes_due(timedelta(hours=1))
        await host.app.get_by_role("button", name="Refresh").click()
        await expect(runs(host)).to_have_count(20 + 8)
        await expect(host.app.locator(".now")).to_have_text("Now, 16:00")


@in_a_browser
async def test_it_takes_the_hosts_look_and_zone_and_tells_its_size(house: House, browser: Browser) -> None:
    await a_busy_week(house)
    async with house.speaker(MODERN) as alice, embedded(browser, alice, width=360) as host:
        await host.show()
        await expect(host.app.get_by_text("Renew the certificate")).to_be_visible()
        frame = host.page.frames[1]
        assert (
            await frame.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        )
        styles = {"variables": {"--color-text-primary": "rgb(1, 2, 3)", "--evil": "red"}}
        change = {"theme": "dark", "timeZone": "Asia/Tokyo", "styles": styles, "safeAreaInsets": {"top": 7}}
        await host.tell("ui/notifications/host-context-changed", change)
        await expect(host.app.locator(".now")).to_have_text("Now, 18:00")
        assert await frame.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(28, 29, 32)"
        assert await frame.evaluate("getComputedStyle(document.body).color") == "rgb(1, 2, 3)"
        assert await frame.evaluate("getComputedStyle(document.body).paddingTop") == "7px"
        assert await frame.evaluate("document.documentElement.style.getPropertyValue('--evil')") == ""
        assert await frame.evaluate("document.documentElement.scrollWidth") <= 360
        size = host.said("ui/notifications/size-changed")[-1]["params"]
        assert size["width"] == 360
        assert abs(size["height"] - await frame.evaluate("document.body.getBoundingClientRect().height")) <= 1


@in_a_browser
async def test_it_answers_its_host_and_hears_nobody_else(house: House, browser: Browser) -> None:
    async with house.speaker(MODERN) as alice, embedded(browser, alice) as host:
        await host.until("ui/notifications/initialized")
        await host.tell("ping", {}, id="p")
        assert (await host.answered("p"))["result"] == {}
        await host.tell("constructor", {}, id=2_000)
        assert (await host.answered(2_000))["error"]["code"] == -32601
        result = {"structuredContent": {"says": "forged", "occurrences": []}, "content": []}
        forged = {"jsonrpc": "2.0", "method": "ui/notifications/tool-result", "params": result}
        await host.page.frames[1].evaluate("(message) => window.postMessage(message, '*')", forged)
        await host.tell("ui/resource-teardown", {"reason": "done"}, id=3)
        assert (await host.answered(3))["result"] == {}
        await expect(host.app.get_by_role("status")).to_have_text("Waiting for the list…")


@in_a_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_its_text_can_be_read_in_light_and_dark(house: House, browser: Browser, theme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1, of every text against the ground it stands on."""
    await a_busy_week(house)
    says = {**HOST, "hostContext": {**HOST["hostContext"], "theme": theme}}
    async with house.speaker(MODERN) as alice, embedded(browser, alice, says=says) as host:
        await host.show()
        await expect(host.app.get_by_text("Renew the certificate")).to_be_visible()
        await host.app.get_by_role("button", name=re.compile("Failed")).first.click()
        await expect(host.app.locator(".detail blockquote").first).to_be_visible()
        assert await host.page.frames[1].evaluate(_CONTRASTS) == []


_CONTRASTS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = parts(text).slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("[hidden]")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faint.push([element.outerHTML, contrast]);
  }
  return faint;
}"""
