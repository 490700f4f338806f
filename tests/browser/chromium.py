"""A headless Chromium for the checks of pages: found, started, watched."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
"""As root it needs the first; the others keep it from asking anything by itself."""

NONE_HERE = "no Chromium here: install chromium, or set SAEREG_CHROMIUM to one; the page is not checked in a browser"

READY_MS = 60_000


def chromium() -> str | None:
    """Return the browser of this machine, or None."""
    wanted = os.environ.get("SAEREG_CHROMIUM")
    if wanted:
        return shutil.which(wanted)
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def browsing(executable: str) -> Iterator[Any]:
    """Start the browser and give it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Heard:
    """What a page said and asked for while it was open.

    Attributes:
        said: errors and warnings of the console, and exceptions.
        asked: addresses that were requested.
    """

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        """Write down what a page says and asks for from now on."""
        page.on(
            "console", lambda m: self.said.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.said.append(f"exception: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))


def ready(page: Any) -> Any:
    """Wait until the first table stands, and return the page."""
    page.wait_for_selector("html[data-ready]", timeout=READY_MS, state="attached")
    return page


@contextlib.contextmanager
def opened(executable: str, folder: Path) -> Iterator[Any]:
    """Open the page in a folder from the disk, in a browser of its own, and wait for its table."""
    with browsing(executable) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((folder / "index.html").resolve().as_uri())
        yield ready(page)
