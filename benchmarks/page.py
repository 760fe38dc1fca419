"""How much the page weighs, and how soon there is something to see: a real Chromium, a service on the same machine.

Each load starts with an empty cache. First paint is the first text or picture; useful paint is the largest one,
which on the first screen is the place for a photo with its words and buttons.

    python benchmarks/page.py [--loads 15] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import machine, write_result
from playwright.sync_api import Browser, sync_playwright

SCREENS = ("people", "compare", "group", "jobs", "generate", "settings")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
ROOT = Path(__file__).parents[1]

WEIGH = """() => performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
  .filter((one) => !one.name.includes('/v1/'))
  .map((one) => [one.name, one.transferSize, one.decodedBodySize])"""
PAINTS = """() => new Promise((resolve) => new PerformanceObserver((seen) => resolve([
    performance.getEntriesByName('first-contentful-paint')[0].startTime, seen.getEntries().at(-1).startTime,
  ])).observe({ type: 'largest-contentful-paint', buffered: true }))"""


def main() -> None:
    """Start a service, load its page again and again, write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=15)
    parser.add_argument("--out", default="page")
    arguments = parser.parse_args()
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SystemExit("No Chromium here. Install one: apt-get install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--data", folder]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            assert service.stderr is not None, "it is a pipe"
            line = service.stderr.readline()
            try:
                base = line.split("serving on ")[1].split(" ")[0].strip() + "/"
                wait_until_ready(base)
                with sync_playwright() as driver:
                    browser = driver.chromium.launch(executable_path=found, args=FLAGS)
                    result = measure(browser, base, arguments.loads)
                    result["chromium"] = browser.version
                    browser.close()
            finally:
                service.terminate()
    result |= {"mien": version("mien"), "load_average": round(os.getloadavg()[0], 1), "machine": machine()}
    write_result(arguments.out, result)


def wait_until_ready(base: str) -> None:
    """Wait until the service has opened its networks: what is measured is the page."""
    for _ in range(600):
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{base}readyz"):
            return
        time.sleep(0.2)
    raise SystemExit("The service does not get ready.")


def measure(browser: Browser, base: str, loads: int) -> dict[str, Any]:
    """Return weights in bytes and paints in milliseconds."""
    firsts, useful = [], []
    for number in range(loads + 1):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(base)
        page.locator(".drop h2").wait_for()
        page.wait_for_load_state("networkidle")
        first, largest = page.evaluate(PAINTS)
        if number:  # the first one warms up the service and the disk
            firsts.append(first)
            useful.append(largest)
        if number == loads:
            opened = page.evaluate(WEIGH)
            for screen in SCREENS:
                page.goto(f"{base}#/{screen}")
                page.wait_for_load_state("networkidle")
            everything = page.evaluate(WEIGH)
        context.close()
    return {
        "loads": loads,
        "first_paint_ms": spread(firsts),
        "useful_paint_ms": spread(useful),
        "first_load": weight(opened),
        "all_screens": weight(everything),
        "requests_elsewhere": sum(not name.startswith((base, "blob:", "data:")) for name, _, _ in everything),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return the smallest, the median and the largest."""
    return {
        "smallest": round(min(values), 1),
        "median": round(statistics.median(values), 1),
        "largest": round(max(values), 1),
    }


def weight(rows: list[tuple[str, int, int]]) -> dict[str, int]:
    """Return how many files, and their bytes on the wire (with headers) and unpacked."""
    return {
        "files": len(rows),
        "bytes_sent": sum(sent for _, sent, _ in rows),
        "bytes": sum(unpacked for _, _, unpacked in rows),
    }


if __name__ == "__main__":
    main()
