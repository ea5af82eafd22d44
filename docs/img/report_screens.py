"""Pictures of the benchmark's report page, light and dark: `python docs/img/report_screens.py docs/report/results.json`.

`make bench` calls this at its end. Needs playwright and a Chromium of the system (apt install chromium-headless-shell).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent))

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def take(results: Path) -> list[Path]:
    from playwright.sync_api import sync_playwright

    from bench import page, summary

    browser_path = os.environ.get("SHMRING_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser_path:
        sys.exit("no browser: apt install chromium-headless-shell, or name one in SHMRING_BROWSER")
    taken = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = Path(folder) / "report.html"
        report.write_text(page.text(summary.Results(json.loads(results.read_text(encoding="utf-8")))), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            view = browser.new_page(color_scheme=scheme, viewport={"width": 1420, "height": 1560})
            view.goto(report.as_uri())
            view.wait_for_selector("body[data-drawn]")
            target = FOLDER / f"report-{scheme}.png"
            view.screenshot(path=target)
            shrink(target)
            taken.append(target)
        browser.close()
    return taken


def shrink(path: Path) -> None:
    """As few colours as such a page needs. Pillow comes with matplotlib."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256)
    small.save(path, optimize=True)


if __name__ == "__main__":
    for path in take(Path(sys.argv[1])):
        print(f"wrote {path}")
