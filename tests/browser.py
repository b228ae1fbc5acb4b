"""Debian's Chromium for tests of pages: what a page says on its console and asks of the network is written down.

Plain Playwright in place of its pytest plugin, which keeps an event loop running for the whole session: after it no
other test of the process could call `asyncio.run`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # imported by the tests that need it, not by every collection
    from playwright.sync_api import Browser, BrowserContext, Page

LONGEST = 120_000
"""Milliseconds to wait for a browser, on a machine that does much else."""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Record:
    """What the pages of one test did.

    Attributes:
        console: `type: text` of every message on the console.
        errors: of these the errors and warnings, and exceptions that nothing caught.
        loaded: addresses of everything that a page fetched beside itself, `data:` and `blob:` left out.
    """

    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def watch(self, context: "BrowserContext") -> None:
        context.on("console", self._said)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("request", self._requested)
        context.on("page", lambda page: page.on("websocket", lambda socket: self.loaded.append(socket.url)))

    def _said(self, message: Any) -> None:
        said = f"{message.type}: {message.text}"
        self.console.append(said)
        if message.type in ("error", "warning"):
            self.errors.append(said)

    def _requested(self, request: Any) -> None:
        if not request.is_navigation_request() and not request.url.startswith(("data:", "blob:")):
            self.loaded.append(request.url)


def chromium() -> str:
    """The program; without one the test is skipped, or fails where `CI=true` says that it must run."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("no Chromium on this machine: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium, started once for the tests of a file."""
    program = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def record() -> Record:
    """What the pages of this test do."""
    return Record()


@pytest.fixture
def open_page(browser: "Browser", record: Record) -> Iterator[Callable[..., "Page"]]:
    """Opens pages that are recorded and have no network; takes the options of Playwright's `new_context`.

    For example `open_page(color_scheme="dark", viewport={"width": 390, "height": 844})`.
    """
    contexts: list[BrowserContext] = []

    def opened(**options: Any) -> "Page":
        context = browser.new_context(**{"offline": True, **options})
        contexts.append(context)
        context.set_default_timeout(LONGEST)
        record.watch(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Callable[..., "Page"]) -> "Page":
    """A page as most tests need it."""
    return open_page()
