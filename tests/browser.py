"""A page in a real browser, which notes whatever goes wrong in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def chromium() -> str:
    """Return Chromium's path; without one the test is skipped, or fails where a browser is demanded."""
    path = shutil.which("chromium")
    if path is None and (os.environ.get("CI") or os.environ.get("MMEXP_BROWSER")):
        pytest.fail("there is no chromium: apt-get install chromium", pytrace=False)
    return path or pytest.skip("there is no chromium: apt-get install chromium")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


class Opened:
    """The `page` at `path`. `wrong` lists errors of its scripts and requests that left the page, which are aborted."""

    def __init__(self, opened: Any, path: Path, **settings: Any):
        self.wrong: list[str] = []
        self.page = opened.new_page(**{"viewport": {"width": 1200, "height": 900}, **settings})
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.route("**/*", self._route)
        self.own = path.as_uri()
        self.page.goto(self.own)

    def _route(self, route: Any) -> None:
        if route.request.url == self.own or route.request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"asked for {route.request.url}")
            route.abort()

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def runs(self) -> list[str]:
        """Return the names of the runs in the table, from above."""
        return self.page.locator("#runs tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.run)")

    def points(self, plot: str, trace: int) -> int:
        """Return how many points a trace of a plot has."""
        return self.page.evaluate(f"document.getElementById('{plot}').data[{trace}].x.length")
