"""The page of a release in a real browser: what a reader does with it, by mouse and by keys alone.

Not part of `make test`, because it needs a browser: `make test-browser`.
"""

import re

import pytest

ROWS = "table.rows tbody tr"
IDS = f"{ROWS} a[data-row]"
COUNT = "#count"


def ids(page):
    """Return the artifacts that the table shows, in its order."""
    return page.locator(IDS).all_inner_texts()


def header(page, label):
    """Return the header of a column."""
    return page.locator("table.rows thead th", has_text=re.compile(f"^{re.escape(label)}$"))


def column(page, label):
    """Return the cells of a column."""
    heads = page.locator("table.rows thead th").all_inner_texts()
    return page.locator(f"{ROWS} td:nth-child({heads.index(label) + 1})").all_inner_texts()


def until(page, expression, seconds=30):
    """Wait for something to be true; Playwright's own waiting evaluates texts, which the page forbids."""
    for _ in range(seconds * 20):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def plotted(page):
    """Wait for the plot of points, and return its canvas."""
    canvas = page.locator("#plot-scatter canvas")
    canvas.wait_for(timeout=30_000)
    return canvas


@pytest.mark.parametrize("how", ["file", "http", "offline"])
def test_the_first_table_stands_from_the_disk_from_a_server_and_without_network(visit, served, how):
    """All four artifacts are there; that nothing is asked of any network is looked at when the page is closed."""
    page = visit("adorned", address=served if how == "http" else None, offline=how == "offline")
    assert len(ids(page)) == 4
    assert page.locator(COUNT).inner_text() == "4 artifacts"
    plotted(page)


def test_the_search_finds_words_in_any_column_and_the_address_says_so(visit):
    """`jump layer_1` finds one artifact, whose id holds both; the view can be sent."""
    page = visit("adorned")
    page.keyboard.press("/")
    page.keyboard.type("jump layer_1")
    assert ids(page) == ["layer_1/jumprelu"]
    assert page.locator(COUNT).inner_text() == "1 of 4 artifacts"
    assert page.evaluate("location.hash") == "#/?q=jump%20layer_1"
    page.locator("#search").fill("no such thing")
    assert "No artifact meets" in page.locator(ROWS).inner_text()


def test_a_shared_address_gives_the_same_view(visit):
    """Search, filter, order and columns are read from the address."""
    page = visit("adorned", "#/?f.kind=sae,crosscoder&r.d_in=4..4&sort=-id&columns=id,d_in")
    assert ids(page) == ["layer_1/topk", "layer_1/jumprelu", "W_U/cross-snapshot-2"]
    assert page.locator("table.rows thead th").all_inner_texts() == ["artifact", "d_in"]


def test_columns_sort_by_several_with_absent_values_last(visit):
    """A click sorts, with shift one more column counts; what has no value stands last, whichever way it goes."""
    page = visit("adorned", "#/?columns=id,architecture,k")
    for way in ("k", "-k"):
        header(page, "k").click()
        until(page, f"location.hash.includes('sort={way}&')")
        page.wait_for_timeout(200)
        assert column(page, "k") == ["3", "–", "–", "–"]
    header(page, "architecture").click()
    header(page, "artifact").click(modifiers=["Shift"])
    until(page, f"document.querySelector('{IDS}').textContent === 'W_U/cross-snapshot-2'")  # drawn after the click
    assert ids(page)[:2] == ["W_U/cross-snapshot-2", "layer_1/jumprelu"]
    assert page.evaluate("location.hash").endswith("sort=architecture,id&columns=id,architecture,k")


def test_values_and_ranges_filter_and_go_again(visit):
    """A ticked value and a bound leave the rows that meet both; a button takes the filters away."""
    page = visit("adorned")
    page.locator("details[data-field=kind] summary").click()
    page.get_by_role("checkbox", name=re.compile("^sae")).check()
    assert ids(page) == ["layer_1/topk", "layer_1/jumprelu"]
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('details').dataset.field") == "kind"
    page.locator("details[data-field=l0] summary").click()
    page.get_by_label("at most").fill("3")
    until(page, "document.querySelector('#count').textContent.startsWith('1 of')")
    assert ids(page) == ["layer_1/topk"]
    page.get_by_role("button", name="Clear filters").click()
    assert len(ids(page)) == 4


def test_the_plot_follows_the_table_and_a_click_on_a_point_opens_it(visit):
    """With one row left there is one point, wherever it is: a click on it opens the artifact."""
    page = visit("adorned", "#/?q=layer_1/topk")
    canvas = plotted(page)
    until(page, "document.querySelector('#plot-scatter + .note').textContent.startsWith('1 artifact')")
    box = canvas.bounding_box()
    spots = [(x / 40, y / 40) for y in range(1, 40) for x in range(1, 40)]
    for x, y in spots:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if page.locator(".bubble:visible").count():
            assert "layer_1/topk" in page.locator(".bubble").inner_text()
            page.mouse.down()
            page.mouse.up()
            break
    until(page, "location.hash.startsWith('#/artifact/layer_1/topk')")


def test_a_box_in_the_plot_filters_the_table(visit):
    """Dragging over the left half of the plot bounds both numbers in the address."""
    page = visit("adorned")
    box = plotted(page).bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 120, steps=6)
    page.mouse.up()
    until(page, "location.hash.includes('r.l0=') && location.hash.includes('r.explained_variance=')")


def test_a_cell_of_the_map_filters_the_table(visit):
    """A click on the map leaves the artifacts of its row and column."""
    page = visit("adorned")
    canvas = page.locator("#plot-map canvas")
    canvas.wait_for(timeout=30_000)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for x in range(10, 40):
        page.mouse.click(box["x"] + x / 40 * box["width"], box["y"] + 20)
        if "f." in page.evaluate("location.hash"):
            return
    raise AssertionError("no click on the map filtered anything")


def test_the_page_of_an_artifact_has_its_evidence_and_the_way_back(visit):
    """A click on a row opens it; every part is there; back shows the same table at the same place."""
    page = visit("adorned", "#/?f.kind=sae")
    page.locator(ROWS).first.locator("td").nth(1).click()
    page.wait_for_selector("article[data-artifact='layer_1/topk']")
    titles = page.locator("article section > h2").all_inner_texts()
    wanted = ["Load it", "Features", "Claims against evidence", "Golden vectors", "Round trip", "Metrics"]
    assert [title for title in wanted if title not in titles] == []
    assert page.title().startswith("layer_1/topk · ")
    assert page.locator("article .badge.good", has_text="replays").count() == 1
    assert "saereg validate . --level weights" in page.locator("#golden").inner_text()
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.get_by_role("link", name="Next ›").click()
    page.wait_for_selector("article[data-artifact='layer_1/jumprelu']")
    page.go_back()
    page.wait_for_selector("article[data-artifact='layer_1/topk']")
    page.go_back()
    assert ids(page) == ["layer_1/topk", "layer_1/jumprelu"]
    assert page.locator("article").is_hidden()


def test_the_feature_view_shows_a_latent_and_another(visit):
    """Its contexts are marked where it is active, the strongest most; the next latent comes with a button."""
    page = visit("adorned", "#/artifact/layer_1/topk")
    section = page.locator("#features")
    section.locator("mark.peak").wait_for()
    assert section.locator("mark").all_inner_texts() == [" cat", " sat", " mat"]
    shares = section.locator("mark").evaluate_all(
        "all => all.map(one => parseFloat(one.style.getPropertyValue('--share')))"
    )
    assert shares[0] > shares[1] > shares[2]
    assert section.get_by_label("Latent", exact=True).input_value() == "0"
    section.get_by_role("button", name="Next latent").click()
    assert section.get_by_label("Latent", exact=True).input_value() == "1"
    section.get_by_role("button", name="Random latent").click()


def test_code_digests_and_rows_are_copied(visit):
    """What a button says it copies is on the clipboard: code, a digest, the rows as CSV, the address of the view."""
    page = visit("adorned", "#/artifact/layer_1/topk")
    clipboard = "navigator.clipboard.readText()"
    page.get_by_role("button", name=re.compile("Copy the code for saereg")).click()
    assert "import saereg" in page.evaluate(clipboard)
    page.locator("#files").get_by_role("button", name=re.compile("cfg.json")).click()
    assert re.fullmatch("[0-9a-f]{64}", page.evaluate(clipboard))
    page.keyboard.press("Escape")
    page.locator("#search").fill("cross")
    page.locator("#copy-csv").click()
    lines = page.evaluate(clipboard).split("\r\n")
    assert lines[0].startswith("id,explained_variance,l0")
    assert lines[1].startswith("W_U/cross-snapshot-2,-11.")
    page.locator("#copy-view").click()
    assert page.evaluate(clipboard).endswith("#/?q=cross")


def test_dark_follows_the_system_and_the_choice_is_kept(visit):
    """The ground is dark where the system is; the button changes it, and a new visit finds it so."""
    page = visit("adorned", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(18, 21, 27)"
    page.locator("#theme").click()
    assert page.evaluate(ground) == "rgb(251, 251, 252)"
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(ground) == "rgb(251, 251, 252)"


def test_everything_is_done_by_keys_alone(visit):
    """Tab to the skip link, / to the search, arrows over rows, Enter, arrows to the next, Escape back to its row."""
    page = visit("adorned")
    focused = "document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    page.keyboard.type("layer_1")
    page.keyboard.press("Escape")
    page.locator(IDS).first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "layer_1/jumprelu"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("article[data-artifact='layer_1/jumprelu']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("article[data-artifact='layer_1/transcoder']")
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "layer_1/transcoder"
    assert page.evaluate("location.hash") == "#/?q=layer_1"


def test_figures_floors_findings_and_keys_have_views(visit):
    """Each is one click away; a figure is drawn, with words for those who do not see it."""
    page = visit("adorned")
    page.get_by_role("link", name=re.compile("^Figures")).click()
    page.locator(".figure-host svg").wait_for(timeout=30_000)
    assert page.locator(".figure-host").get_attribute("aria-label") == "The error falls with L0."
    assert page.locator(".figure-host").get_attribute("role") == "graphics-document"
    assert "0.29 (0.27 to 0.31)" in page.locator("#floors").inner_text()
    page.get_by_role("link", name=re.compile("^Findings")).click()
    assert page.locator("h1:visible").inner_text() == "Findings"
    page.get_by_role("link", name="About").click()
    assert "go to the search" in page.locator("#keys").inner_text()


def test_a_hostile_release_stays_text(visit):
    """Its scripts do not run, its picture and its rows are not fetched; its title is shown as it is written."""
    page = visit("hostile")
    for view in ("#/figures", "#/findings", "#/about", "#/artifact/layer_1/topk", "#/"):
        page.evaluate("hash => { location.hash = hash; }", view)
        page.wait_for_timeout(600)
    assert page.evaluate("globalThis.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("h1:visible").inner_text().startswith("</script><script>")
    assert page.locator("a[href^='javascript']").count() == 0
    page.locator("details[data-field]").first.locator("summary").click()


def test_a_release_without_evidence_has_a_page(visit):
    """What its author states is there, and one line says that it was never built."""
    page = visit("unbuilt")
    assert len(ids(page)) == 4
    assert "never built" in page.locator(".hero").inner_text()
    page.locator(IDS).first.click()
    page.wait_for_selector("article[data-artifact]")
    assert "Nothing" in page.locator("#metrics").inner_text() or "never built" in page.locator("#metrics").inner_text()


def test_an_address_of_nothing_says_so(visit):
    """An artifact that is not there, and a view that no page has."""
    page = visit("adorned", "#/artifact/no/such%20thing")
    assert "no artifact no/such thing" in page.locator("article").inner_text()
    page.evaluate("() => { location.hash = '#/nothing?f.nothing=1&r.l0=x..y&sort=&%%%'; }")
    page.wait_for_timeout(200)
    assert len(ids(page)) == 4


@pytest.mark.parametrize("hash_", ["", "#/artifact/layer_1/topk", "#/figures", "#/about", "#/findings"])
def test_nothing_runs_out_of_a_narrow_window(visit, hash_):
    """At 390 pixels the page does not scroll sideways; wide tables scroll by themselves."""
    page = visit("adorned", hash_, width=390, height=800)
    page.wait_for_timeout(800)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_nothing_moves_while_the_page_comes(visit):
    """What is drawn later has its place from the beginning: the layout shifts by less than a tenth."""
    page = visit("adorned")
    plotted(page)
    shifts = """() => new Promise(found => new PerformanceObserver(list => found(list.getEntries()
        .filter(e => !e.hadRecentInput).map(e => e.value))).observe({type: 'layout-shift', buffered: true}) ||
        setTimeout(() => found([]), 500))"""
    assert sum(page.evaluate(shifts)) < 0.1


def test_without_javascript_a_sentence_says_what_to_read(browser, sites):
    """The page says what it is, and where the same stands."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((sites["adorned"] / "index.html").as_uri())
    assert "takes JavaScript" in page.locator("noscript").inner_text()
    context.close()
