"""A page of cai's in headless Chromium: what it shows, and everything that goes wrong in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Opened:
    """An open page; `faults`: console messages, exceptions, dialogs, requests for more than the file."""

    def __init__(self, page: Any, faults: list[str]) -> None:
        self.page = page
        self.faults = faults

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser. It is a process of its own in a sandbox of its own, which a container's root has not."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Opened]:
    """A page from a file, once all its rows are unpacked."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: note_request(request.url, path, faults))
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-rows=ready]")
    yield Opened(page, faults)
    context.close()


def note_request(url: str, path: Path, faults: list[str]) -> None:
    if url != path.resolve().as_uri() and url != "data:,":
        faults.append(f"request: {url}")
