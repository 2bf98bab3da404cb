"""Takes the picture of the report: `python docs/tools/picture.py [reports/example/index.html [docs/img/report.png]]`.

Needs Chromium, and the page, which `nox -s example` makes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from blocks import DOCS, REPOSITORY
from PIL import Image

WINDOW = (1480, 1410)  # as far as the first table of results
WIDTH = 1100
COLOURS = 64


def take(page: Path, picture: Path) -> None:
    """Write what Chromium shows of a page, made smaller and with few colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("There is no chromium to take the picture with: install it.")
    if not page.is_file():
        raise SystemExit(f"{page} is not there: nox -s example makes it.")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        size = "{},{}".format(*WINDOW)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}"]
        command = [
            browser,
            *options,
            f"--user-data-dir={folder}/profile",
            f"--screenshot={shot}",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        image = Image.open(shot).convert("RGB")
    height = round(image.height * WIDTH / image.width)
    image.resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    take(*(given + [REPOSITORY / "reports" / "example" / "index.html", DOCS / "img" / "report.png"][len(given) :]))
