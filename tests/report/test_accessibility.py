"""Report, comparison and leaderboard by axe-core's rules, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.remote.webdriver import WebDriver
from test_report_browser import browsing

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browsing(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def faults(driver: WebDriver) -> list[str]:
    found = Axe().run(driver, options={"resultTypes": ["violations"]})
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:120]}"
        for rule in found["violations"]
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "comparison", "leaderboard", "model"])
def test_no_serious_fault(driver: WebDriver, pages: dict[str, Path], name: str, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(pages[name].as_uri())
    assert faults(driver) == []


def test_a_picture_without_a_text_is_a_fault(driver: WebDriver, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<!doctype html><html><title>x</title><main><img src='x.png'></main></html>")
    driver.get((tmp_path / "bad.html").as_uri())
    assert any(fault.startswith("critical image-alt") for fault in faults(driver))


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", ["report", "comparison", "leaderboard", "model"])
def test_what_scrolls_takes_the_keyboard(driver: WebDriver, pages: dict[str, Path], name: str, width: int) -> None:
    driver.set_window_size(width, 900)
    driver.get(pages[name].as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true })")
    scrolling = """return [...document.querySelectorAll("body *")].filter(each => {
        const over = getComputedStyle(each);
        return (each.scrollWidth > each.clientWidth + 1 && ["auto", "scroll"].includes(over.overflowX))
            || (each.scrollHeight > each.clientHeight + 1 && ["auto", "scroll"].includes(over.overflowY));
    }).map(each => [each.tabIndex, each.outerHTML.slice(0, 80)])"""
    found = driver.execute_script(scrolling)
    assert [html for index, html in found if index < 0] == []
    assert found or width > 390 or name == "leaderboard"
