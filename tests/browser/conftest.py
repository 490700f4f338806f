"""Pages and a browser for the checks."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from saereg.publishers.site import make_site
from saereg.registry.release import open_release
from tests.browser.chromium import NONE_HERE, Heard, browsing, chromium, ready
from tests.browser.releases import adorned, hostile, unbuilt


@pytest.fixture(scope="session")
def browser():
    """Start the browser of this machine, once."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'saereg[browser]'")
    executable = chromium()
    if executable is None:
        pytest.skip(NONE_HERE)
    with browsing(executable) as found:
        yield found


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """Make the page of each release, once: name → folder."""
    made = {}
    for release in (adorned, hostile, unbuilt):
        folder = tmp_path_factory.mktemp(release.__name__)
        make_site(open_release(release(folder)), folder / "page", level="layout")
        made[release.__name__] = folder / "page"
    return made


@pytest.fixture(scope="session")
def served(sites):
    """Serve the page with everything on this machine: its address."""
    handler = functools.partial(_Silent, directory=str(sites["adorned"]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def visit(browser, sites):
    """Open a page: `visit("adorned", "#/about", width=390)`; what it said and asked for is in `page.heard`.

    When the test is over it must have said nothing, and asked for nothing but itself.
    """
    contexts = []

    def open_page(name, hash_="", *, address=None, offline=False, **how):
        context = browser.new_context(
            viewport={"width": how.pop("width", 1280), "height": how.pop("height", 900)},
            permissions=["clipboard-read", "clipboard-write"],
            **how,
        )
        contexts.append(context)
        context.set_offline(offline)
        page = context.new_page()
        page.heard = Heard()
        page.heard.listen(page)
        page.address = address or (sites[name] / "index.html").as_uri()
        page.goto(page.address + hash_)
        return ready(page)

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.heard.said == []
            assert {asked.split("#")[0] for asked in page.heard.asked if not asked.startswith(("data:", "blob:"))} == {
                page.address
            }
        context.close()
