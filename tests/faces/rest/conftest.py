import shutil
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.faces.rest.house import House, a_house

# A browser is looked through where there is one; the page's own rules are held without (test_page.py).
BROWSER = shutil.which("chromium") is not None and find_spec("playwright") is not None
collect_ignore = [] if BROWSER else ["test_page_in_a_browser.py"]


def pytest_report_header() -> str:
    return (
        "page in a browser: Chromium"
        if BROWSER
        else "page in a browser: not collected, Chromium or Playwright is missing"
    )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as made:
        yield made
