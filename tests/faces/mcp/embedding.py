"""A host of MCP Apps, as small as one can be: the page around the app, in Chromium, and the protocol between both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import mcp_types as t
from playwright.async_api import Browser, ConsoleMessage, FrameLocator, Page, Route, async_playwright

from tests.faces.mcp.speakers import SOON, Speaker

APP: Final = "ui://qhronos/timeline"
HOST: Final[Mapping[str, Any]] = {
    "protocolVersion": "2026-01-26",
    "hostInfo": {"name": "a test", "version": "1"},
    "hostCapabilities": {"serverTools": {}},
    "hostContext": {"theme": "light", "locale": "en-GB", "timeZone": "UTC", "displayMode": "inline"},
}

# The frame has no origin of its own, and may do nothing but run scripts. What is said on the wire is kept, both ways.
_AROUND: Final = """<!DOCTYPE html><html lang="en"><title>host</title><body style="margin:0;background:%(ground)s">
<iframe title="app" sandbox="allow-scripts" src="https://view.test/" style="border:0;width:100%%;height:80px"></iframe>
<script>
const frame = document.querySelector("iframe");
window.addEventListener("message", async ({ source, data }) => {
  if (source !== frame.contentWindow) return;
  if (data.method === "ui/notifications/size-changed") frame.style.height = data.params.height + "px";
  const answer = await window.heard(data);
  if (answer) window.tell(answer);
});
window.tell = (message) => frame.contentWindow.postMessage(message, "*");
</script></body></html>"""


@dataclass
class Host:
    """What the app said, in order, and the way to tell it something. Its tool calls go to the server, as `speaker`."""

    speaker: Speaker
    says: Mapping[str, Any]
    page: Page = field(init=False)
    heard: list[dict[str, Any]] = field(default_factory=list)
    _stir: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def app(self) -> FrameLocator:
        return self.page.frame_locator("iframe")

    async def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        self.heard.append(message)
        self._stir.set()
        method, given = message.get("method"), message.get("params", {})
        if "id" not in message or method is None:
            return None
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if method == "ui/initialize":
            return {**answer, "result": dict(self.says)}
        if method == "tools/call":
            result = await self.speaker.client.call_tool(given["name"], given["arguments"])
            return {**answer, "result": _wire(result)}
        return {**answer, "error": {"code": -32601, "message": "Method not found"}}

    async def tell(self, method: str, params: Mapping[str, Any], **more: Any) -> None:
        await tell(self.page, {"jsonrpc": "2.0", "method": method, "params": params, **more})

    async def show(self, **arguments: Any) -> t.CallToolResult:
        """As when a model has called the tool."""
        await self.until("ui/notifications/initialized")
        result = await self.speaker.client.call_tool("list_occurrences", arguments)
        assert isinstance(result, t.CallToolResult)
        await self.tell("ui/notifications/tool-input", {"arguments": arguments})
        await self.tell("ui/notifications/tool-result", _wire(result))
        return result

    def said(self, method: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message.get("method") == method]

    async def until(self, method: str) -> dict[str, Any]:
        async with asyncio.timeout(SOON):
            while not (said := self.said(method)):
                self._stir.clear()
                await self._stir.wait()
        return said[0]

    async def answered(self, request_id: object) -> dict[str, Any]:
        """What the app answers to a request of the host's."""
        async with asyncio.timeout(SOON):
            while True:
                for message in self.heard:
                    if message.get("id") == request_id and "method" not in message:
                        return message
                self._stir.clear()
                await self._stir.wait()


def _wire(result: Any) -> dict[str, Any]:
    shown: dict[str, Any] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return shown


def policy_of(csp: Mapping[str, Sequence[str]]) -> str:
    """What a host must make of an app's declaration; and it may be stricter: here no text may become markup or code."""

    def sources(name: str, *ours: str) -> str:
        return " ".join([*ours, *csp.get(name, [])])

    static = sources("resourceDomains", "'self'")
    connect = sources("connectDomains", "'self'")
    frames = sources("frameDomains") or "'none'"
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {static} 'unsafe-inline'",
            f"style-src {static} 'unsafe-inline'",
            f"connect-src {connect}",
            f"img-src {static} data:",
            f"frame-src {frames}",
            "object-src 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


@asynccontextmanager
async def a_browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def framed(
    browser: Browser,
    html: str,
    csp: Mapping[str, Sequence[str]],
    heard: Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]],
    *,
    width: int = 720,
    ground: str = "#fff",
) -> AsyncIterator[Page]:
    """An app in a page of that width. What it says is `heard`; it may make no complaint, nor any request."""
    page = await browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    requested: list[str] = []

    async def serve(route: Route) -> None:
        requested.append(route.request.url)
        if route.request.url == "https://host.test/":
            await route.fulfill(content_type="text/html", body=_AROUND % {"ground": ground})
        elif route.request.url == "https://view.test/":
            policy = {"content-security-policy": policy_of(csp)}
            await route.fulfill(content_type="text/html; charset=utf-8", body=html, headers=policy)
        else:
            await route.abort()

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.set_default_timeout(SOON * 1_000)
    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.route("**/*", serve)
    await page.expose_function("heard", heard)
    await page.goto("https://host.test/")
    yield page
    await page.close()
    assert complaints == []
    assert [url for url in requested if not url.endswith("favicon.ico")] == ["https://host.test/", "https://view.test/"]


async def tell(page: Page, message: Mapping[str, Any]) -> None:
    await page.evaluate("(message) => window.tell(message)", message)


@asynccontextmanager
async def embedded(
    browser: Browser, speaker: Speaker, *, width: int = 720, says: Mapping[str, Any] | None = None
) -> AsyncIterator[Host]:
    """The app as this speaker's server hands it out."""
    [content] = (await speaker.client.read_resource(APP, cache_mode="bypass")).contents
    assert isinstance(content, t.TextResourceContents)
    told = says or HOST
    host = Host(speaker, told)
    ground = "#17181a" if told["hostContext"].get("theme") == "dark" else "#fff"
    csp = (content.meta or {})["ui"]["csp"]
    async with framed(browser, content.text, csp, host.answer, width=width, ground=ground) as page:
        host.page = page
        yield host
