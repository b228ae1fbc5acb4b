"""The page as a browser shows it, opened from disk."""

from safespan.report import write_report


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


def test_the_report_draws_every_chart_in_silence_and_fetches_nothing(page, record, full_run):
    page.goto(write_report(full_run).as_uri())
    charts = page.locator('[id^="chart-"]')
    for chart in charts.all():
        chart.locator("svg path[aria-roledescription]").first.wait_for(state="attached")
    assert charts.count() == len(list(full_run.figures.iterdir()))
    assert page.get_by_role("heading", level=1).inner_text() == "organism"
    assert record.errors == []
    assert record.loaded == []
