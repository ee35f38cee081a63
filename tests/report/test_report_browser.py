"""The report in a real browser: from a file, in a sandboxed frame as MLflow shows it, and without JavaScript."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait
from test_audit_sheets import audited, shown

from arbench.report.boards import Board, BoardCell, BoardColumn, BoardRow
from arbench.report.page import asset
from arbench.report.site import index_page

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1000",
)
COLUMN = "td:nth-child({})"
LATENCY = 10
"""Place of the latency at batch 1, after the adapter, four numbers (one of them hidden) and two of our own."""


def program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no {names[0]} here, which these tests drive: apt-get install chromium chromium-driver")
    return found


@contextmanager
def browsing(profile: Path, preferences: dict[str, Any] | None = None) -> Iterator[WebDriver]:
    options = Options()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", preferences or {})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver", "chromium.chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browsing(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(driver: WebDriver, page: Path) -> WebDriver:
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(page.as_uri())
    return driver


def visible_points(driver: WebDriver) -> set[str]:
    """Ids of the markers that the generators' plot shows, without their bars."""
    script = """return [...document.querySelectorAll("#generator .scatter g[id^=point-]")]
        .filter(each => each.style.display !== "none" && !/--\\d+$/.test(each.id)).map(each => each.id)"""
    return set(driver.execute_script(script))


def front(driver: WebDriver) -> str:
    path = driver.find_element(By.CSS_SELECTOR, "#generator #front path").get_attribute("d")
    return " ".join(path.split())


def test_the_front_is_that_of_the_rows_the_filter_leaves(opened: WebDriver) -> None:
    whole, every = front(opened), visible_points(opened)
    box = opened.find_element(By.CSS_SELECTOR, "#generator .filter")
    box.send_keys("LLAMA")
    left = visible_points(opened)
    assert left == {point for point in every if "llamagen" in point}
    assert len(left) < len(every)
    corners = re.findall(r"(-?[\d.]+) (-?[\d.]+)", front(opened))
    uses = {point: opened.find_element(By.CSS_SELECTOR, f"#{point} use") for point in left}
    fastest = min(float(use.get_attribute("x")) for use in uses.values())
    assert float(corners[0][0]) == fastest
    address = opened.current_url
    assert address.endswith("#generator?filter=LLAMA")
    opened.get("about:blank")
    opened.get(address)  # a link shows the same
    assert visible_points(opened) == left
    box = opened.find_element(By.CSS_SELECTOR, "#generator .filter")
    assert box.get_attribute("value") == "LLAMA"
    box.send_keys(Keys.BACKSPACE * 5)
    assert (front(opened), visible_points(opened)) == (whole, every)
    assert "?" not in opened.current_url
    row = opened.find_element(By.CSS_SELECTOR, "#table-generator tbody tr:last-child")
    point = row.get_attribute("data-points").split()[-1]
    click = "document.getElementById(arguments[0]).dispatchEvent(new MouseEvent('click'))"
    opened.execute_script(click, point)
    assert "chosen" in row.get_attribute("class").split()


@pytest.mark.parametrize(("width", "height"), [(1300, 900), (390, 844)])
def test_the_first_results_are_on_the_first_screen(opened: WebDriver, width: int, height: int) -> None:
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        value = opened.find_element(By.CSS_SELECTOR, "#table-generator tbody .value").rect
        assert value["y"] + value["height"] < height - 40
        whole = opened.execute_script("return document.documentElement.scrollWidth")
        assert whole <= width  # tables scroll by themselves, the page does not
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def column(driver: WebDriver, number: int) -> list[str]:
    """The printed values of a column of the generators' table, from top to bottom."""
    cells = driver.find_elements(By.CSS_SELECTOR, f"#table-generator tbody tr {COLUMN.format(number)}")
    return [(cell.text.splitlines() or [""])[0] for cell in cells]


def heading(driver: WebDriver, number: int) -> Any:
    return driver.find_element(By.CSS_SELECTOR, f"#table-generator .heads th:nth-child({number}) button")


def broken_pictures(driver: WebDriver) -> list[str]:
    script = "return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt)"
    found: list[str] = driver.execute_script(script)  # type: ignore[no-untyped-call]
    return found


def test_no_error_and_no_request(opened: WebDriver, page: Path) -> None:
    assert opened.execute_script("return document.documentElement.dataset.ready") == "yes"
    assert [entry for entry in opened.get_log("browser") if entry["level"] != "INFO"] == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url for url in sent if not url.startswith(("data:", "chrome"))} == {page.as_uri()}  # chrome: its own pages


def test_every_picture_shows(opened: WebDriver) -> None:
    assert len(opened.find_elements(By.TAG_NAME, "img")) > 100
    assert broken_pictures(opened) == []


def test_the_page_is_not_wider_than_the_window(opened: WebDriver) -> None:
    """The tables scroll on their own."""
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.execute_script(width) <= 0


def test_click_sorts_by_number_best_first_missing_last(opened: WebDriver) -> None:
    latency = LATENCY
    assert column(opened, latency) == ["44.1", "– oom", "412", "1,310"]
    heading(opened, latency).click()
    assert column(opened, latency) == ["44.1", "412", "1,310", "– oom"]  # as text, "1,310" would come first
    heading(opened, latency).click()
    assert column(opened, latency) == ["1,310", "412", "44.1", "– oom"]
    agreement = LATENCY - 4  # two that are null everywhere in between
    heading(opened, agreement).click()
    assert column(opened, agreement) == ["0.948", "0.941", "0.911", "0.871"]  # higher is better
    sorted_by = opened.find_elements(By.CSS_SELECTOR, "#table-generator th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in sorted_by] == ["descending"]


def test_the_keyboard_sorts_too(opened: WebDriver) -> None:
    name = heading(opened, 1)
    opened.execute_script("arguments[0].focus()", name)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    names = opened.find_elements(By.CSS_SELECTOR, "#table-generator tbody .adapter")
    shown = [name.text.replace("\n", "") for name in names]
    assert shown == sorted(shown)
    assert len(shown) == 4


def test_filter_and_complete_rows(opened: WebDriver) -> None:
    def visible() -> list[str]:
        rows = opened.find_elements(By.CSS_SELECTOR, "#table-generator tbody tr")
        return [(row.get_attribute("data-name") or "").split()[0] for row in rows if row.is_displayed()]

    opened.find_element(By.CSS_SELECTOR, "#generator .complete").click()
    assert sorted(visible()) == ["next_scale/var-mini", "raster/llamagen-mini"]
    opened.find_element(By.CSS_SELECTOR, "#generator .filter").send_keys("LLAMA")
    assert visible() == ["raster/llamagen-mini"]
    opened.find_element(By.CSS_SELECTOR, "#generator .complete").click()
    box = opened.find_element(By.CSS_SELECTOR, "#generator .filter")
    for text, rows in (
        ("frechet<=10.02", ["next_scale/var-mini", "random_order/maskgit-mini"]),
        ("mini; Latency (batch 1 > 400", ["raster/llamagen-mini", "continuous/mar-mini"]),  # printed in ms
        ("var; latency (batch 1 > 400", []),
    ):
        box.clear()
        box.send_keys(text)
        assert visible() == rows


def test_copy_gives_the_markdown_or_selects_it(opened: WebDriver) -> None:
    opened.find_element(By.CSS_SELECTOR, "#generator .export summary").click()
    button = opened.find_element(By.CSS_SELECTOR, '#generator button[data-from="md-generator"]')
    button.click()
    WebDriverWait(opened, 5).until(lambda _: button.text in ("Copied", "Selected: press Ctrl+C"))


def hidden(driver: WebDriver) -> list[str]:
    """Names of the columns of the generators' table that are not to be seen."""
    heads = driver.find_elements(By.CSS_SELECTOR, "#table-generator .heads th")
    names = [head.get_attribute("textContent") or "" for head in heads if not head.is_displayed()]
    return [name.split()[0] for name in names]


def groups(driver: WebDriver) -> list[tuple[str | None, str | None]]:
    heads = driver.find_elements(By.CSS_SELECTOR, "#table-generator .groups th")
    return [(head.get_attribute("textContent"), head.get_attribute("colspan")) for head in heads if head.is_displayed()]


def test_more_columns_come_and_go_with_a_checkbox(opened: WebDriver) -> None:
    box = opened.find_element(By.CSS_SELECTOR, "#generator .all-columns")
    label = box.find_element(By.XPATH, "..").text
    assert label == "all 15 columns (1 hidden)"
    assert hidden(opened) == ["density"]
    few = [("Quality · offline", "3"), ("Quality · arbench", "2"), ("Quality · adm", "2")]
    few += [("Speed", "4"), ("Memory", "3")]
    assert groups(opened) == few
    box.click()
    assert hidden(opened) == []
    assert groups(opened) == [("Quality · offline", "4"), *few[1:]]
    density = next(
        head for head in opened.find_elements(By.CSS_SELECTOR, "#table-generator .heads th") if "density" in head.text
    )
    under = density.find_element(By.XPATH, "preceding-sibling::th[1]").rect
    assert density.rect["x"] == pytest.approx(under["x"] + under["width"], abs=1)
    box.click()
    assert (hidden(opened), groups(opened)) == (["density"], few)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(opened: WebDriver, scheme: str) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text, on the page's own colours."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    names = ["ink", "muted", "accent", "good", "warn", "bad", "paper", "raised", "good-soft", "warn-soft", "bad-soft"]
    style = "getComputedStyle(document.documentElement)"
    script = f"const style = {style}; return arguments[0].map(name => style.getPropertyValue('--' + name))"
    colors = dict(zip(names, opened.execute_script(script, names), strict=True))
    pairs = [(ink, paper) for ink in ("ink", "muted", "accent") for paper in ("paper", "raised")]
    pairs += [("good", "good-soft"), ("warn", "warn-soft"), ("bad", "bad-soft"), ("good", "paper")]
    weak = {pair for pair in pairs if contrast(colors[pair[0]], colors[pair[1]]) < 4.5}
    assert weak == set()


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two #rrggbb colours (WCAG 2.1)."""

    def luminance(color: str) -> float:
        channels = [int(color.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def in_source(page: Path, folder: Path) -> str:
    return f'srcdoc="{html.escape(page.read_text(encoding="utf-8"))}"'


def by_address(page: Path, folder: Path) -> str:
    return f'src="{page.as_uri()}"'


@pytest.mark.parametrize("frame", [in_source, by_address])
def test_in_a_sandboxed_frame(
    driver: WebDriver, page: Path, tmp_path: Path, frame: Callable[[Path, Path], str]
) -> None:
    """As MLflow shows an artifact: scripts are allowed, the page's origin, storage, downloads and forms are not."""
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<!doctype html><link rel='icon' href='data:,'>"
        f'<iframe sandbox="allow-scripts" width="1200" height="900" {frame(page, tmp_path)}></iframe>'
    )
    driver.get_log("browser")
    driver.get(outer.as_uri())
    driver.switch_to.frame(driver.find_element(By.TAG_NAME, "iframe"))
    try:
        WebDriverWait(driver, 10).until(lambda d: d.find_elements(By.CSS_SELECTOR, "html[data-ready='yes']"))
        assert broken_pictures(driver) == []
        heading(driver, LATENCY).click()
        assert column(driver, LATENCY) == ["44.1", "412", "1,310", "– oom"]
        test_copy_gives_the_markdown_or_selects_it(driver)
    finally:
        driver.switch_to.default_content()
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_without_javascript(page: Path, pages: dict[str, Path], tmp_path: Path) -> None:
    with browsing(tmp_path / "profile", {"profile.managed_default_content_settings.javascript": 2}) as driver:
        driver.get(page.as_uri())
        assert driver.find_element(By.TAG_NAME, "html").get_attribute("data-ready") is None  # the script did not run
        assert column(driver, 2) == ["9.71", "10.02", "12.84", "15.20"]  # sorted all the same
        assert not driver.find_element(By.CSS_SELECTOR, "#generator .tools").is_displayed()
        assert driver.find_element(By.CSS_SELECTOR, "#pictures img").is_displayed()
        assert hidden(driver) == []  # all columns: nothing could bring them back
        driver.find_element(By.CSS_SELECTOR, "#metrics summary").click()
        assert driver.find_element(By.ID, "table-metrics").is_displayed()
        for name, table in (("comparison", ".differences"), ("leaderboard", "table.leaderboard")):
            driver.get(pages[name].as_uri())
            assert driver.find_element(By.CSS_SELECTOR, f"{table} tbody td.num").is_displayed()
            assert not driver.find_element(By.CSS_SELECTOR, ".tools").is_displayed()
            assert driver.find_element(By.CSS_SELECTOR, ".downloads a").is_displayed()


def test_leaderboard_of_2000_rows(driver: WebDriver, tmp_path: Path) -> None:
    """Search, filter, sort and address; the front is that of the rows that are shown."""
    columns = (BoardColumn("parameters", "", "lower", "card"), BoardColumn("fid", "", "lower", "published"))
    rows = tuple(
        BoardRow(
            f"{'raster' if place % 2 else 'next_scale'}/model-{place:04d}",
            "raster" if place % 2 else "next_scale",
            f"cfg {place % 7}",
            "",
            (BoardCell(f"{1000 - place % 900} M", 1e6 * (1000 - place % 900)), BoardCell("", 37.0 * place % 2000)),
        )
        for place in range(2000)
    )
    page = tmp_path / "index.html"
    page.write_text(index_page([Board("b", "Generators", "p", "published", columns, rows, 1, 0)], []))
    driver.get_log("browser")
    driver.get(page.as_uri() + "#q=model-00&family=raster")
    shown = "return [...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).length"
    assert driver.execute_script(shown) == 50
    best = "return [...document.querySelectorAll('circle.best')].map(point => point.dataset.row)"
    of_shown = [row for row in rows if "model-00" in row.model and row.family == "raster"]
    costs, fids = ({row: row.cells[at].value or 0.0 for row in of_shown} for at in (0, 1))
    front = [row for row in of_shown if all(costs[row] < costs[o] or fids[row] < fids[o] for o in of_shown if o != row)]
    assert [rows[int(place)] for place in driver.execute_script(best)] == front
    box = driver.find_element(By.ID, "search")
    assert filtering(driver, "#search", "cfg 1", "cfg 2", "cfg 3") < 1
    assert "q=cfg%203" in driver.current_url
    box.clear()
    box.send_keys("0007")
    assert driver.execute_script(shown) == 1
    assert driver.find_element(By.ID, "count").text == "1 of 2000 rows"
    heading = driver.find_element(By.CSS_SELECTOR, "table.leaderboard th:nth-child(3) button")
    heading.send_keys(Keys.ENTER)
    heading.send_keys(Keys.ENTER)
    assert driver.find_element(By.CSS_SELECTOR, "tbody tr").get_attribute("data-row") == "1027"
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []


FILTER = """const box = document.querySelector(arguments[0]); box.value = arguments[1];
    box.dispatchEvent(new Event('input')); document.body.offsetHeight"""
ANEW = "const body = document.body; for (const out of [true, false]) { body.hidden = out; body.offsetHeight }"


def spent(driver: WebDriver, script: str, *arguments: str) -> float:
    """Seconds of processor time that a page takes for a script: other processes have no part in it."""

    def total() -> float:
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in metrics}["TaskDuration"]

    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    before = total()
    driver.execute_script(script, *arguments)
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")  # until it is drawn
    found = total() - before
    driver.execute_cdp_cmd("Performance.disable", {})
    return found


def filtering(driver: WebDriver, box: str, *texts: str) -> float:
    """What a page takes to filter and to lay out what is left, the median of the texts, in layouts of the whole page
    with all its rows: a slow machine is slow at both.
    """
    driver.execute_script(FILTER, box, "")
    layout = median(spent(driver, ANEW) for _ in range(3))
    found = median(spent(driver, FILTER, box, text) for text in texts)
    print(f"filtered in {1000 * found:.0f} ms, the whole page laid out in {1000 * layout:.0f} ms")
    return found / layout


def test_a_report_of_2000_rows_filters_at_once(opened: WebDriver) -> None:
    script = """const body = document.querySelector('#table-generator tbody'), own = [...body.rows];
        while (body.rows.length < 2000) own.forEach(row => body.appendChild(row.cloneNode(true)));
        document.body.offsetHeight; return body.rows.length"""
    assert opened.execute_script(script) == 2000
    opened.execute_script(FILTER, "#generator .filter", "")  # as a page of so many rows does when it opens
    assert filtering(opened, "#generator .filter", "var", "mini", "llama") < 1.5
    left = "return [...document.querySelectorAll('#table-generator tbody tr')].filter(row => !row.hidden).length"
    assert opened.execute_script(left) == 100  # of 500 that fit
    rest = opened.find_element(By.CSS_SELECTOR, "#generator .rest")
    assert rest.text == "show all 500 rows, not the first 100"
    heading(opened, 2).click()  # still the first 100, now of another order
    assert opened.execute_script(left) == 100
    rest.send_keys(Keys.ENTER)
    assert opened.execute_script(left) == 500


def test_a_comparison_of_2000_rows(driver: WebDriver, pages: dict[str, Path], tmp_path: Path) -> None:
    """Filter, verdicts, sorting by keyboard, address and downloads; all of it stands there without scripts."""
    text = pages["comparison"].read_text()
    rows = text.split("<tbody>")[1 + text.split("<tbody>")[0].count("<tbody>")].split("</tbody>")[0]
    count = rows.count("<tr")
    page = tmp_path / "comparison.html"
    page.write_text(text.replace(rows, rows * (2000 // count + 1), 1))
    driver.get_log("browser")
    driver.get(page.as_uri() + "#q=latency&verdict=not-told-apart")  # a link shows the same
    shown = "return [...document.querySelectorAll('.differences tbody tr')].filter(row => !row.hidden)"
    found = driver.execute_script(f"{shown}.map(row => [row.className, row.cells[0].textContent])")
    assert found
    assert all(verdict == "not-told-apart" and "latency" in number for verdict, number in found)
    assert filtering(driver, "#search", "speed", "steps", "memory") < 0.5
    assert driver.current_url.endswith("#q=memory&verdict=not-told-apart")
    driver.execute_script("document.getElementById('verdict').value = ''")
    driver.execute_script(FILTER, "#search", "")
    told = driver.find_element(By.ID, "count").text
    assert re.fullmatch(r"(\d+) of \1 numbers", told)
    assert int(told.split()[0]) >= 2000
    heading = driver.find_element(By.CSS_SELECTOR, ".differences th[data-sort] button")
    driver.execute_script("arguments[0].focus()", heading)
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    names = driver.execute_script(
        "return [...document.querySelector('.differences').tBodies[0].rows].map(row => row.cells[0].textContent)"
    )
    assert names == sorted(names, key=str.lower)
    (table, document) = driver.find_elements(By.CSS_SELECTOR, ".downloads a")
    lines = unquote((table.get_attribute("href") or "").split(",", 1)[1]).splitlines()
    plain = json.loads(unquote((document.get_attribute("href") or "").split(",", 1)[1]))
    assert len(lines) == 1 + sum(len(model["differences"]) for model in plain["models"])
    assert lines[0].startswith("model,metric,convention,at,")
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []


@pytest.mark.parametrize("width", [1300, 390])
def test_an_audit_fits_the_window(driver: WebDriver, tmp_path: Path, width: int) -> None:
    """Figures stand side by side where there is room, none is narrower than it reads, and all of them show."""
    (tmp_path / "audit.html").write_text(f"<style>{asset('report.css')}</style><main>{shown(audited())}</main>")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get((tmp_path / "audit.html").as_uri())
    spill = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert driver.execute_script(spill) <= 0
    boxes = [figure.rect for figure in driver.find_elements(By.CSS_SELECTOR, ".multiples svg")]
    assert len(boxes) == 3
    assert min(box["width"] for box in boxes) > 230
    assert len({box["y"] for box in boxes}) == (1 if width > 1000 else 3)
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
