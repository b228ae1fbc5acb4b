"""The pages as a browser shows them, opened from disk: drawn, in silence, with no network, for everyone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from safespan.files.atomic import write_jsonl
from safespan.report import write_comparison, write_report
from safespan.results.run_folder import RunFolder

SIZES = ((380, 800), (1600, 1000))


@pytest.fixture(scope="module")
def report(full_run: RunFolder) -> str:
    return write_report(full_run).as_uri()


@pytest.fixture(scope="module")
def comparison(full_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    other = Path(shutil.copytree(full_run.root, tmp_path_factory.mktemp("other") / "run"))
    return write_comparison([full_run, RunFolder(other)], tmp_path_factory.mktemp("comparison")).as_uri()


def drawn(page, address: str):
    """The page at an address, once every chart of it is there."""
    page.goto(address)
    for chart in page.locator(".chart").all():
        chart.locator("svg path[aria-roledescription]").first.wait_for(state="attached")
    return page


def unfolded(page):
    """The page with all its folded sections open."""
    page.evaluate("document.querySelectorAll('details.folded').forEach(place => { place.open = true })")
    return page


def test_what_a_page_says_and_fetches_is_written_down(open_page, record, tmp_path):
    (tmp_path / "beside.css").write_text("p {color: red}")
    (tmp_path / "bad.html").write_text(
        '<link rel="stylesheet" href="beside.css"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
        '<script src="https://example.org/far.js"></script><script>console.log("all well"); lost()</script>'
    )
    open_page().goto((tmp_path / "bad.html").as_uri())
    assert record.loaded == [(tmp_path / "beside.css").as_uri(), "https://example.org/far.js"]
    assert "log: all well" in record.console
    assert any("ERR_INTERNET_DISCONNECTED" in error for error in record.errors)
    assert any("uncaught" in error and "lost is not defined" in error for error in record.errors)
    assert not any("all well" in error for error in record.errors)


@pytest.mark.parametrize("which", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_in_silence_at_every_width(open_page: Callable, record, request, which, scheme):
    address = request.getfixturevalue(which)
    for width, height in SIZES:
        page = drawn(open_page(color_scheme=scheme, viewport={"width": width, "height": height}), address)
        assert page.locator(".chart").count() == {"report": 15, "comparison": 10}[which]
        # Nothing sticks out: tables scroll in their own boxes, charts fit theirs.
        assert page.evaluate("document.documentElement.scrollWidth") == width
        over = page.evaluate(
            "[...document.querySelectorAll('.chart')].filter(c => c.firstElementChild.scrollWidth > c.clientWidth + 1)"
            ".map(c => c.id)"
        )
        assert over == []
        # Drawn in its own size: letters are as large as they were set.
        letters = page.evaluate(
            "[...document.querySelectorAll('.chart svg')].map(s => ({name: s.closest('.chart').id, shown: "
            "s.getBoundingClientRect().width, own: s.width.baseVal.value, letters: [...s.querySelectorAll('text')]"
            ".map(t => parseFloat(t.getAttribute('font-size')))}))"
        )
        for drawing in letters:
            scale = min(1, drawing["shown"] / drawing["own"]) if drawing["shown"] else 1
            assert scale * min(drawing["letters"]) >= 10, drawing["name"]
    assert record.errors == []
    assert record.loaded == []


@pytest.mark.parametrize("which", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Callable, request, which, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = drawn(open_page(color_scheme=scheme), request.getfixturevalue(which))
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    page.locator("details table").first.wait_for()
    violations = Axe().run(page).response["violations"]
    serious = {rule["id"]: rule["nodes"][0]["html"] for rule in violations if rule["impact"] in ("serious", "critical")}
    assert serious == {}


def test_a_link_to_a_folded_section_opens_it_with_its_charts(page, report):
    drawn(page, report)
    chart = page.locator("#chart-spectra svg")
    assert not chart.is_visible()
    page.get_by_role("link", name="Spectra of the updates").click()
    chart.wait_for(state="visible")
    wide = page.locator("#chart-verdicts").evaluate("chart => chart.clientWidth")
    assert page.locator("#chart-spectra").evaluate("chart => chart.clientWidth") == wide
    assert 0 < page.locator("#chart-spectra svg").evaluate("drawing => drawing.getBoundingClientRect().width") <= wide


def test_a_table_that_is_wider_than_its_box_has_a_shadow_on_the_side_where_it_goes_on(open_page, report):
    page = drawn(open_page(viewport={"width": 390, "height": 844}), report)
    box = page.get_by_role("region", name="Outcomes of the models")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    layers = box.evaluate("box => getComputedStyle(box).backgroundAttachment")
    assert layers == "local, local, scroll, scroll"


def test_a_point_says_its_figures(page, report):
    unfolded(drawn(page, report))
    page.locator('#chart-orthogonal_fraction svg path[aria-roledescription="point"]').first.hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert {"subspace", "fraction", "energy_kept"} <= set(tip.inner_text().split())


def test_the_theme_is_chosen_with_the_keyboard_and_redraws_the_charts(open_page, report):
    page = drawn(open_page(color_scheme="light"), report)

    def looks():
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return ground, page.locator("#chart-verdicts svg text").first.get_attribute("fill")

    light = looks()
    button = page.get_by_role("button", name="Theme")
    button.focus()
    page.keyboard.press("Enter")
    assert button.inner_text() == "Theme: light"
    page.keyboard.press("Enter")
    assert button.inner_text() == "Theme: dark"
    page.wait_for_function(
        "fill => document.querySelector('#chart-verdicts svg text').getAttribute('fill') !== fill", arg=light[1]
    )
    dark = looks()
    assert dark[0] != light[0]
    page.keyboard.press("Enter")
    page.wait_for_function(
        "fill => document.querySelector('#chart-verdicts svg text').getAttribute('fill') === fill", arg=light[1]
    )
    assert looks() == light


def test_a_hypothesis_is_chosen_and_drawn(page, report):
    drawn(page, report)
    methods = page.locator("#chart-against_controls svg path[aria-roledescription='point']")
    before = {
        name.split("method: ")[1].split(";")[0] for name in methods.evaluate_all("all => all.map(p => p.ariaLabel)")
    }
    assert before == {"parallel", "orthogonal"}
    page.locator("#chart-against_controls select").select_option("lox")
    page.wait_for_function(
        "[...document.querySelectorAll('#chart-against_controls svg path[aria-roledescription=point]')]"
        ".every(p => /method: edit/i.test(p.ariaLabel))"
    )


def test_the_data_of_a_chart_is_a_table_and_a_file(page, report, full_run, tmp_path):
    unfolded(drawn(page, report))
    data = page.locator('details[data-figure="removed_by_layer"]')
    data.locator("summary").click()
    # A browser says that details were opened when it gets to it: the table is drawn some time after the click.
    data.locator("tbody td").first.wait_for()
    assert data.locator("thead th").all_inner_texts()[0] == "finetune"
    with page.expect_download() as waiting:
        data.get_by_role("button", name="Save as CSV").click()
    waiting.value.save_as(tmp_path / "saved.csv")
    saved = pl.read_csv(tmp_path / "saved.csv")
    places = full_run.read_table("removed_energy").filter(pl.col("fraction") == 0.5)
    assert saved.height == places.n_unique(["finetune", "subspace", "method", "layer"])
    assert saved.columns[-2:] == ["removed_energy", "share_of_update"]


def test_what_models_said_is_shown_when_asked_for_and_filtered(page, report):
    drawn(page, report)
    browser = page.locator("#browser")
    items = browser.locator("ol.responses > li")
    assert items.count() == 0
    assert not browser.locator(".notice").is_visible()
    browser.locator("summary").click()
    items.first.wait_for()  # as above: after the click, not with it
    assert browser.locator(".notice").is_visible()
    assert items.count() == 24
    browser.locator("#by-kind").select_option("harmful")
    assert items.count() == 12
    browser.locator("#by-score").select_option("1")
    browser.locator("#by-model").select_option("useful")
    assert items.count() == 1
    assert "useful says no." in items.first.inner_text()
    assert "1 of 1 shown" in browser.locator("output").inner_text()
    browser.locator("#by-words").fill("nothing like it")
    assert items.count() == 0


def test_what_a_model_said_is_never_markup(open_page, record, full_run, tmp_path):
    run = RunFolder(Path(shutil.copytree(full_run.root, tmp_path / "run")))
    evil = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    row = {"kind": "harmful", "prompt": evil, "response": evil, "target": evil, "score": 5, "reason": evil}
    write_jsonl(run.generations("base"), [row | {"judge": evil}])
    page = drawn(open_page(), write_report(run).as_uri())
    title = page.title()
    page.locator("#browser summary").click()
    page.locator("#by-model").select_option("base")
    assert json.dumps(evil)[1:-1].replace('\\"', '"') in page.locator("ol.responses > li").first.inner_text()
    assert page.locator("ol.responses img, ol.responses script").count() == 0
    assert page.title() == title
    assert record.errors == []


def test_a_printed_page_shows_everything_and_no_buttons(page, report):
    drawn(page, report)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#chart-spectra svg").is_visible()
    assert not page.get_by_role("button", name="Theme").is_visible()
    assert not page.get_by_role("navigation").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".chart svg").count() == 15
