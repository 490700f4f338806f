"""Make the pictures of docs/images again: the page of the demo's release, its table by day, an artifact by night.

python tests/browser/screenshots.py demo-out/release [docs/images]
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from saereg.publishers.site import make_site
from saereg.registry.release import open_release
from tests.browser.chromium import NONE_HERE, browsing, chromium, ready

SHOTS = (
    ("explorer", "light", "", 980, "#plot-map canvas"),
    ("explorer-artifact", "dark", "#/artifact/{artifact}", 1250, "#features .latent"),
)
"""Name, colours, address, height, and what must stand before the picture is taken."""

WIDTH = 1280


def main(release: Path, images: Path) -> None:
    """Make the page in a scratch folder, and take every picture of it."""
    executable = chromium()
    if executable is None:
        raise SystemExit(NONE_HERE)
    opened = open_release(release)
    artifact = next((one.id for one in opened if one.claim.canonical), opened.artifacts[0].id)
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, browsing(executable) as browser:
        address = (make_site(opened, Path(scratch) / "page").folder / "index.html").as_uri()
        for name, scheme, place, height, until in SHOTS:
            page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme=scheme)
            page.goto(address + place.format(artifact=artifact))
            ready(page).locator(until).wait_for(timeout=30_000)
            page.wait_for_timeout(1500)
            page.screenshot(path=images / f"{name}.png")
            print(images / f"{name}.png", (images / f"{name}.png").stat().st_size)  # noqa: T201
            page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("docs/images"))
