"""The picture of the report: `python docs/pages/report_picture.py RUN` writes docs/report.png (needs Chromium)."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


def main(run: Path, picture: Path = Path(__file__).parents[1] / "report.png") -> None:
    """Open the report of a run and take the upper part of it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1160, "height": 1250}, color_scheme="light")
        page.goto((run / "report.html").resolve().as_uri())
        for chart in page.locator(".chart").all():
            chart.locator("svg path[aria-roledescription]").first.wait_for(state="attached")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
