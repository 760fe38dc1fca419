"""Take the pictures of the page that the documentation shows: drawn and generated people only, answers as they came.

Needs Chromium, `pip install playwright`, and the models:

    python docs/images/page.py
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mien.client import Client
from mien.demo import ENROLLED
from mien.drawing import draw_face

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parents[1] / "src/mien/service/static/examples"
NAMES = ("Boris Lund", "Ada Berg", "Clara Holm", "Dina Adeyemi", "Elias Obi")
DESKTOP, PHONE = {"width": 1280, "height": 760}, {"width": 390, "height": 844}
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
PATIENCE = 90_000  # ms


def main() -> None:
    """Start a service, enrol the drawn people, look at the page."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SystemExit("No Chromium here. Install one: apt-get install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--data", folder]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            assert service.stderr is not None, "it is a pipe"
            base = service.stderr.readline().split("serving on ")[1].split(" ")[0].strip()
            try:
                enrol(base)
                with sync_playwright() as driver:
                    browser = driver.chromium.launch(executable_path=found, args=FLAGS)
                    look(browser, base)
                    browser.close()
            finally:
                service.terminate()


def enrol(base: str) -> None:
    """Enrol two samples of each; one person also under a second name, for the audit to find."""
    with Client(base) as mien:
        for name, subject in zip(NAMES, ENROLLED.values(), strict=True):
            for seed, expression in enumerate(("neutral", "happiness")):
                mien.enrol(name, png(subject, expression, seed))
        mien.enrol("B. Lund", png(ENROLLED["drawn one"], "surprise", 5))


def png(subject: int, expression: str, seed: int) -> bytes:
    """Draw a subject."""
    file = io.BytesIO()
    Image.fromarray(draw_face(subject, side=360, expression=expression, seed=seed).image).save(file, "png")
    return file.getvalue()


def look(browser: Browser, base: str) -> None:
    """Take the pictures."""

    def opened(screen: str, **options: object) -> Page:
        page = browser.new_page(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE)
        page.goto(f"{base}/#/{screen}")
        page.wait_for_load_state("networkidle")
        return page

    def named(page: Page) -> Page:
        page.locator("main input[type=file]").first.set_input_files(EXAMPLES / "crowd.webp")
        page.locator(".box.known").first.wait_for()
        page.locator(".box", has=page.locator("rect")).and_(page.get_by_label("Dina Adeyemi")).click()
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        return page

    keep(named(opened("try")), "page-try")
    keep(named(opened("try", locale="zh-CN")), "page-try.zh-CN")
    keep(opened("people", color_scheme="dark"), "page-people")
    keep(opened("people", locale="zh-CN"), "page-people.zh-CN")
    keep(named(opened("try", viewport=PHONE)), "page-phone")
    page = opened("settings")
    keep(page, "page-settings")
    page = opened("generate")
    page.get_by_role("button", name="Explore").click()
    page.locator(".axis").first.wait_for()
    keep(page, "page-generate")


def keep(page: Page, name: str) -> None:
    """Write what is to be seen, as a small picture."""
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = FOLDER / f"{name}.webp"
    shot.save(path, quality=82, method=6)
    page.close()


if __name__ == "__main__":
    main()
