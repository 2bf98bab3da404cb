"""`index.html`: safe and the same every time in pure Python, and what it does in a real browser."""

import base64
import hashlib
import json
import math
import re
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from typing import Any

import pytest
from PIL import Image

from harness.report.collect import collect
from harness.report.content import Content
from harness.report.figures import Figure
from harness.report.holes import Hole
from harness.report.html import html
from harness.report.html_page.cells import behind
from harness.report.measures import measures, with_optimism
from harness.report.selection import selection_tables
from harness.report.stability import stability_tables
from harness.report.summary import summarise, summarise_all
from harness.report.tables import Cell, Row, Table, layout, tall
from harness.report.variants import label_order

AWKWARD = "50%_<b>|edge & #1"
EVIL = "</script><script>alert(1)</script><!-- \u2028 <img src=x onerror=alert(2)>"
KEYS = ("test/image_auroc", "test/image_ap", "test/pixel_auroc", "test/aupro", "time/train")


@pytest.fixture(scope="module")
def content(grid: Any, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """A report of the grid with an awkward category, an evil warning, eight holes, and figures of two kinds."""
    folder = tmp_path_factory.mktemp("page")
    study = collect(grid.uri, "study")
    labels = label_order(study.runs["label"].unique())
    shown = measures(study.runs, KEYS)
    means = summarise_all(study.runs, shown)
    means = means[means["is_mean"]]
    tables = [tall("overview", "Overview", "At a glance", "Means.", shown, means, labels)]
    tables += [layout(m, summarise(study.runs, m), labels) for m in shown]
    tables += selection_tables(with_optimism(study.runs), labels)
    tables += stability_tables(study.runs, study.epochs, labels)
    figures = [
        Figure("epochs_toy", "toy", {}),
        Figure("heat_maps", "of one seed", {}, "Heat maps", "Of the same images.", ("toy", AWKWARD)),
    ]
    (folder / "figures").mkdir()
    for figure in figures:
        Image.new("RGB", (1400, 300), "grey").save(folder / "figures" / f"{figure.name}.png")
    holes = tuple(Hole("radl", "toy", AWKWARD, seed) for seed in range(8))
    study = replace(study, warnings=(EVIL,), holes=holes)
    return Content("Report: study", f"python {EVIL}", study, ("PatchCore <wins>.",), tables, figures, folder)


@pytest.fixture(scope="module")
def page(content: Content) -> str:
    text = html(content)
    (content.folder / "index.html").write_text(text, encoding="utf-8", newline="\n")
    return text


class Parsed(HTMLParser):
    """Collects tags with their attributes, and what stands in style and script elements and elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sources: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.sources.append((self.cdata_elem, data))
        else:
            self.text += data


def test_texts_are_escaped(page: str) -> None:
    found = Parsed(page)
    assert [tag for tag, _ in found.sources] == ["style", "script", "script"]
    assert {tag for tag, _ in found.tags}.isdisjoint({"iframe", "object", "base", "form", "wins"})
    assert found.text.count(EVIL) == 2
    assert AWKWARD in found.text and "PatchCore <wins>." in found.text


def test_data_are_those_of_the_store(page: str, content: Content) -> None:
    runs = content.study.runs
    data = json.loads(Parsed(page).sources[1][1])
    assert data["runs"]["id"] == list(runs["run_id"])
    aurocs = dict(enumerate(data["values"]["test/image_auroc"]["values"]))
    assert aurocs == pytest.approx(dict(enumerate(100 * runs["test/image_auroc"])))
    seconds = data["values"]["time/train"]["values"]
    assert seconds == pytest.approx(list(runs["time/train"]))
    params = data["runs"]["params"]["method.loss"]
    of_run = [params["values"][i] for i in params["of"]]
    assert of_run == [content.study.params[run_id].get("method.loss", "") for run_id in runs["run_id"]]


def test_every_mean_has_a_dialog_and_no_difference_of_two(page: str, content: Content) -> None:
    tables = json.loads(Parsed(page).sources[1][1])["tables"]
    for table, data in zip(content.tables, tables, strict=True):
        printed = [cell is not None for row in table.rows for cell in row.cells]
        expected = [] if table.name == "stability_pairs" else printed
        assert [bool(cell) for cell in data["cells"]] == expected, table.name


def test_cells_of_crossed_settings_find_their_numbers(content: Content) -> None:
    """Methods across, settings down: the label of a cell is made of both."""
    numbers = next(table.numbers for table in content.tables if table.name == "image_auroc")
    labels = list(dict.fromkeys(numbers["label"]))
    fancy = next(label for label in labels if label.startswith("radl ("))
    setting = fancy.partition(" (")[2].removesuffix(")")
    numbers = numbers.assign(setting=["plain" if label != fancy else setting for label in numbers["label"]])
    mean = {label: of["mean"].iloc[0] for label, of in numbers[numbers["category"] == "texture"].groupby("label")}
    rows = (
        Row("toy", "texture", (Cell(f"{mean['patchcore']:.1f}"), Cell(f"{mean['radl']:.1f}")), more=("plain",)),
        Row("toy", "texture", (None, Cell(f"{mean[fancy]:.1f}")), more=(setting,)),
        Row("toy", "missing_part", (Cell("1.0"), None), more=("plain",)),
    )
    table = Table("x", "X", "", ("patchcore", "radl"), rows, numbers, heads=("Category", "Setting"))
    found = behind(table, labels)
    assert [[n and n["label"] for n in row] for row in found.numbers] == [
        ["patchcore", "radl"],
        [None, fancy],
        [None] * 2,
    ]
    assert not found.down and found.measures == ["test/image_auroc"] * 2


def test_the_same_content_gives_the_same_bytes(page: str, content: Content) -> None:
    assert html(content) == page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    found = Parsed(page)
    links = [value for _, own in found.tags for key, value in own.items() if key in ("href", "src", "action", "srcset")]
    own = ("#", "data:", "tables/", "figures/", "provenance.json", "report.md")
    assert links and all(link and link.startswith(own) for link in links)
    assert not [key for _, own in found.tags for key in own if key == "style" or key.startswith("on")]
    style, _, script = (source for _, source in found.sources)
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?://|innerHTML|eval\(", script)


def test_policy_allows_the_page_alone(page: str) -> None:
    found = Parsed(page)
    policy = next(own["content"] for tag, own in found.tags if own.get("http-equiv") == "Content-Security-Policy")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in found.sources]
    assert policy and policy.startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[2]}';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(page: str, scheme: int) -> None:
    pairs = re.findall(r"--([\w-]+): light-dark\(#(\w{6}), #(\w{6})\)", page)
    colours = {name: _luminance(values[scheme]) for name, *values in pairs}
    on = list(product(("text", "muted", "accent"), ("page", "raised", "tint")))
    on += [
        (text, ground)
        for name in ("red", "amber")
        for text, ground in ((name, f"{name}-tint"), ("text", f"{name}-tint"))
    ]
    for text, ground in on:
        low, high = sorted((colours[text], colours[ground]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


class Browser:
    """The page in Chromium."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, width: int = 1400) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(self.address)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        """Click as a user does, after scrolling there; what is covered or hidden cannot be clicked."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'})", element)
        element.click()

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return found

    def overflow(self) -> int:
        return int(self.run("return document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra `test`")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--force-color-profile=srgb",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: Any, page: str, content: Content) -> Iterator[Browser]:
    """The page, freshly opened; every test ends with a look at the console, where a breach of the policy shows too."""
    browser = Browser(driver, (content.folder / "index.html").as_uri())
    browser.open()
    yield browser
    assert driver.get_log("browser") == []


TABLE = "#t-image_auroc table"
CELLS = f"{TABLE} tbody tr > td:nth-child(2)"


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_overflows(browser: Browser, width: int) -> None:
    browser.open(width)
    assert browser.overflow() <= 0
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.overflow() <= 0
    for selector in (f"{CELLS} button", f"{TABLE} .mean button", ".opens"):
        browser.click(selector)
        assert browser.overflow() <= 0
        inside = "const d = document.querySelector('dialog[open]'); return d.scrollWidth - d.clientWidth"
        assert browser.run(inside) <= 0
        browser.click("dialog[open] .close")


def test_a_head_sorts_up_down_and_not_at_all(browser: Browser) -> None:
    first = browser.texts(CELLS)
    levels = [float(text.split()[0]) for text in first]
    for direction, expected in (
        ("ascending", [*sorted(levels[:-1]), levels[-1]]),
        ("descending", [*sorted(levels[:-1], reverse=True), levels[-1]]),
        (None, levels),
    ):
        browser.click(f"{TABLE} thead th:nth-child(2) button")
        assert [float(text.split()[0]) for text in browser.texts(CELLS)] == expected
        assert browser.find(f"{TABLE} thead th:nth-child(2)").get_attribute("aria-sort") == direction
        assert browser.texts(f"{TABLE} tbody tr:last-child th") == ["Mean"]
    browser.click(f"{TABLE} thead th:first-child button")
    assert browser.texts(f"{TABLE} tbody th") == [AWKWARD, "missing_part", "texture", "Mean"]


def test_a_number_opens_its_runs(browser: Browser, grid: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    button = browser.find(f"{CELLS} button")
    browser.run("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert browser.texts("#number h2") == browser.texts(f"{TABLE} thead th:nth-child(2)")
    [place] = browser.texts("#number header p")
    category = place.removeprefix("toy / ").partition(" — ")[0]
    method = browser.texts("#number h2")[0]
    ids = browser.texts("#number .runs code")
    runs = {run_id: grid.client.get_run(run_id) for run_id in ids}
    assert len(runs) == 3
    assert {run.data.tags["harness.category"] for run in runs.values()} == {category}
    assert {run.data.tags["harness.method"] for run in runs.values()} == {method}
    values = [100 * run.data.metrics["test/image_auroc"] for run in runs.values()]
    assert [float(text) for text in browser.texts("#number .runs td.value")] == pytest.approx(values, abs=5e-5)
    assert f"Mean {statistics.mean(values):.3f}" in browser.texts("#number .note")[0]
    assert browser.texts("#number .runs td:last-child") == [
        run.info.run_name + run.info.run_id for run in runs.values()
    ]
    assert browser.texts("#number .rivals td:first-child") == browser.texts(f"{TABLE} thead .number")
    assert browser.texts("#number .rivals .this td:first-child") == [method]
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.run("return document.querySelector('dialog[open]')")
    assert browser.run("return document.activeElement === arguments[0]", button)


def test_a_number_tells_the_p_values_of_its_row(browser: Browser, content: Content) -> None:
    browser.click(f"{CELLS} button")
    category = browser.texts("#number header p")[0].removeprefix("toy / ").partition(" — ")[0]
    numbers = next(table.numbers for table in content.tables if table.name == "image_auroc")
    of_row = numbers[numbers["category"] == category].set_index("label")
    for label, *printed in zip(*(browser.texts(f"#number .rivals td:nth-child({i})") for i in (1, 3, 4)), strict=True):
        for text, value in zip(printed, of_row.loc[label, ["pvalue", "holm"]], strict=True):
            assert text == ("–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}")


def test_a_mean_opens_the_means_of_its_seeds(browser: Browser, grid: Any) -> None:
    browser.click(f"{TABLE} .mean button")
    runs = [grid.client.get_run(run_id) for run_id in browser.texts("#number .runs code")]
    assert len(runs) == 9
    for seed, text in zip("012", browser.texts("#number .units td.value"), strict=True):
        own = [100 * run.data.metrics["test/image_auroc"] for run in runs if run.data.tags["harness.seed"] == seed]
        assert float(text) == pytest.approx(statistics.mean(own), abs=5e-5)


def test_a_category_opens_its_gallery(browser: Browser) -> None:
    shown = "return [...document.images].filter(i => i.offsetParent && i.complete).map(i => [i.alt, i.naturalWidth])"
    assert browser.texts(".opens")[0] == AWKWARD
    for selector in (f"{TABLE} .opens", "#galleries button"):
        browser.click(selector)
        assert browser.texts("dialog[open] h2") == [AWKWARD]
        assert browser.texts("dialog[open] h3") == ["Heat mapsof one seed"]
        assert browser.run(shown.replace("document.images", "document.querySelectorAll('dialog[open] img')")) == [
            ["Heat maps: of one seed", 1400]
        ]
        browser.click("dialog[open] .close")
    assert browser.texts("main figure h3") == ["toy"]


def test_dark_and_light(browser: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    browser.click("#theme")
    assert browser.run(ground) != light
    assert browser.find("#theme").get_attribute("aria-pressed") == "true"
    browser.click("#theme")
    assert browser.run(ground) == light


def test_contents_of_a_phone_fold_away(browser: Browser) -> None:
    browser.open(400)
    assert not browser.find("#sections").is_displayed()
    browser.click("#menu")
    browser.click("#sections a[href='#provenance']")
    assert not browser.find("#sections").is_displayed()
    assert browser.run("return location.hash") == "#provenance"


def test_everything_has_a_name(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true })")
    for opened in (None, f"{CELLS} button", ".opens"):
        if opened:
            browser.click(opened)
        nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = [node for node in nodes if not node["ignored"] and node["role"]["value"] in ROLES]
        assert named and not [node for node in named if not node.get("name", {}).get("value")]
        if opened:
            browser.click("dialog[open] .close")


ROLES = {"button", "dialog", "table", "link", "image", "region", "navigation"}


def test_print_leaves_nothing_closed(browser: Browser) -> None:
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.querySelectorAll('main details:not([open])').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('main details:not([open])').length") > 0
