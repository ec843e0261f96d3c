"""The page: static, strict, and without a byte of data of its own."""

import re
from importlib.resources import files

import pytest

from tests.faces.rest.house import House

PATHS = ("/", "/docs", "/assets/page.js", "/assets/page.css", "/assets/icon.svg")


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_open_revalidated_and_under_a_strict_policy(house: House, path: str) -> None:
    answer = await house.client().get(path)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["cache-control"] == "no-cache"
    again = await house.client().get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == policy  # a browser takes the headers of a 304 for its copy
    assert (await house.client().head(path)).status_code == 200
    assert (await house.client().post(path)).status_code == 405


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/assets/page.js", "text/javascript"),
        ("/assets/page.css", "text/css"),
        ("/assets/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_say_what_they_are(house: House, path: str, kind: str) -> None:
    assert (await house.client().get(path)).headers["content-type"].startswith(kind)


async def test_nothing_runs_inline_and_nothing_is_loaded_from_elsewhere(house: House) -> None:
    for path in ("/", "/docs"):
        page = (await house.client().get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"\son\w+=", page)
        assert not re.search(r"\sstyle=", page)
        loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert loaded
        for address in loaded:
            assert (await house.client().get(address)).status_code == 200, address


def test_the_script_keeps_the_token_in_memory_and_puts_text_on_the_page_as_text() -> None:
    script = (files("qhronos_mcp.web") / "page.js").read_text()
    for never in (
        "localStorage",
        "sessionStorage",
        "document.cookie",
        "innerHTML",
        "outerHTML",
        "eval(",
        "document.write",
    ):
        assert never not in script
    assert "insertAdjacentHTML" not in script


async def test_only_the_files_that_are_meant_to_be_are_served(house: House) -> None:
    for path in (
        "/assets/",
        "/assets/__init__.py",
        "/assets/docs.py",
        "/index.html",
        "/page.js",
        "/assets/..%2fviews.py",
    ):
        assert (await house.client().get(path)).status_code == 404, path
