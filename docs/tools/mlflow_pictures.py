"""Takes the pictures of MLflow's interface on a store of ours: `python docs/tools/mlflow_pictures.py [FOLDER]`.

FOLDER takes `mlflow-filter.png` and `mlflow-compare.png` (default: docs/img). The store is runs/pictures: four runs on
the toy data, made when they are not there. Needs Chromium with its driver, and selenium. The browser does what
docs/mlflow.md tells a reader to do, in the interface of MLflow 3.17.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from blocks import DOCS, REPOSITORY
from mlflow import MlflowClient
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

STORE = REPOSITORY / "runs" / "pictures"
GRID = ("-m", "method=radl,patchcore", "seed=range(2)")
FILTER = "tags.\"harness.method\" = 'radl'"
COLUMNS = ("Dataset", "Source", "Models", "seed", "test/image_auroc", "test/aupro", "oracle/image_auroc")  # off, on
CHARTS = "^test/(image_auroc|aupro)$"
WIDTH, LOW, HIGH = 1400, 600, 830
COLOURS = 128
NAMES = """
    const links = [...document.querySelectorAll('a[href*="/runs/"]')];
    return [...new Set(links.map(link => link.textContent.trim()).filter(name => name.includes('/')))];
"""
LINES = """
    const lines = chart => [...chart.querySelectorAll('path.js-line')].map(line => line.getAttribute('d'));
    return [...document.querySelectorAll('.js-plotly-plot')].map(chart => new Set(lines(chart)).size);
"""  # MLflow draws each line twice, as it is and smoothed by nothing
ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"  # opens by itself, over the right third
BARE = """
    const style = document.createElement('style');
    style.textContent = '.modebar { display: none }';  // a chart's tools, which a mouse over it shows
    document.head.append(style);
    document.activeElement.blur();
"""
SECONDS = 120  # that a server, or a page of it, may take on a busy machine


@dataclass(frozen=True)
class Seen:
    """What the pictures show.

    Attributes:
        runs: names of the runs in the filtered list.
        lines: how many lines each chart has.
    """

    runs: list[str]
    lines: list[int]


def main(folder: Path, store: Path = STORE) -> Seen:
    """Start MLflow's server on the store and write both pictures; return what they show."""
    grid = [*GRID, f"tracking.directory={store}"]
    subprocess.run([sys.executable, "-m", "harness", *grid], cwd=REPOSITORY, check=True)
    database = f"sqlite:///{store}/mlflow.db"
    experiment = MlflowClient(database).get_experiment_by_name("adhoc").experiment_id
    with _server(database) as address, _browser() as browser:
        pages = _Pages(browser, f"{address}/#/experiments/{experiment}/runs")
        _write(pages.filtered(), folder / "mlflow-filter.png")
        runs = pages.told(NAMES)
        _write(pages.compared(), folder / "mlflow-compare.png")
        return Seen(runs, pages.told(LINES))


class _Pages:
    """MLflow's page of an experiment, used as a reader does."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self._browser, self._address = browser, address
        self._wait = WebDriverWait(browser, SECONDS)

    def filtered(self) -> bytes:
        """Return a picture of the list of runs, with FILTER typed and COLUMNS chosen."""
        self._open()
        self._type("input[data-testid='search-box']", FILTER, Keys.ENTER)
        self._seen("//*[contains(., 'matching runs')]")
        self._click("//button[contains(., 'Columns')]")
        for column in COLUMNS:
            self._type("input[placeholder='Search columns']", column)
            self._click(f"//span[contains(@class, 'tree-title')][normalize-space()='{column}']")
        self._browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
        return self._picture(LOW)

    def compared(self) -> bytes:
        """Return a picture of the charts of the runs, those whose names match CHARTS."""
        self._open(compareRunsMode="CHART", searchFilter=FILTER)
        self._type("input[placeholder='Search metric charts']", CHARTS)
        self._seen("//*[contains(@class, 'js-plotly-plot')]")
        return self._picture(HIGH)

    def told(self, question: str) -> list[Any]:
        """Return what a piece of JavaScript finds in the page that is shown."""
        return list(self._browser.execute_script(question))

    def _open(self, **query: str) -> None:
        asked = urlencode({"workflowType": "machine_learning", **query})
        self._browser.get("about:blank")
        self._browser.get(f"{self._address}?{asked}")
        self._seen("//*[contains(., 'matching runs')]")
        for close in self._browser.find_elements(By.CSS_SELECTOR, ASSISTANT):
            close.click()

    def _seen(self, path: str) -> WebElement:
        return self._wait.until(expected_conditions.visibility_of_element_located((By.XPATH, path)))

    def _click(self, path: str) -> None:
        self._wait.until(expected_conditions.element_to_be_clickable((By.XPATH, path))).click()

    def _type(self, field: str, *keys: str) -> None:
        """Type into a field, in place of what stands there."""
        found = self._wait.until(expected_conditions.element_to_be_clickable((By.CSS_SELECTOR, field)))
        found.send_keys(Keys.CONTROL, "a")
        found.send_keys(*keys)

    def _picture(self, height: int) -> bytes:
        self._browser.set_window_size(WIDTH, height)
        self._browser.execute_script(BARE)
        time.sleep(5)  # charts are drawn when everything else is there
        return bytes(self._browser.get_screenshot_as_png())


@contextmanager
def _server(database: str) -> Iterator[str]:
    """Serve a store on this machine alone, and yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        [*command, "--backend-store-uri", database],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _await(f"{address}/health", server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _await(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("MLflow's server did not start.")


@contextmanager
def _browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit("There is no chromium with its driver to take the pictures with: install both.")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    size = f"--window-size={WIDTH},{HIGH}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def _write(picture: bytes, path: Path) -> None:
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "img")
