"""The report in a real browser: no error, no request, every figure drawn, by keyboard, on a phone, in the dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.conftest import BROWSER
from tests.planted import plant
from toolkit.compare import compare

needs_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: chromium-headless-shell)")
FIGURES = ("loss_curves", "recall_curves", "survival", "controls", "positions", "recency", "calibration")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of five planted runs, one of them with a name that would be markup."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("report"))
        for seed in range(5):
            plant("GroupA", seed, [5, 6, 6, 7, 8, 99])
            plant("<b>&B", seed, [2, 3, 3, 3, 4, 5 + seed])
        return compare(["checkpoints/GroupA", "checkpoints/<b>&B"], "page", Console(quiet=True)).resolve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, report: Path, **context: Any) -> tuple[Any, list[str]]:
    """The page, and everything that went wrong or out on the way."""
    page = browser.new_context(**context).new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda request: trouble.append(f"request: {request.url}"))
    page.goto((report / "index.html").as_uri())
    return page, [said for said in trouble if not said.endswith("/index.html")]


def test_every_figure_is_there_for_papers_and_numbers_for_machines(report: Path) -> None:
    for name in FIGURES:
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.fromstring((report / f"{name}.svg").read_text(encoding="utf-8")).tag.endswith("svg")
    header, *rows = (report / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert header == "group,measure,mean,low,high,runs"
    assert any(row.startswith("GroupA,exposures_to_recall,7.0") for row in rows), rows[:3]


def test_the_same_runs_give_the_same_page(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (report / "index.html").read_text(encoding="utf-8")
    monkeypatch.chdir(report.parents[1])
    compare(["checkpoints/GroupA", "checkpoints/<b>&B"], "page", Console(quiet=True))
    assert (report / "index.html").read_text(encoding="utf-8") == before


def test_the_page_asks_for_nothing_and_holds_names_as_text(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    assert "<b>&B" not in html.replace("&lt;b&gt;&amp;B", "")
    # Names of XML's own standards are no addresses.
    addresses = set(re.findall(r'https?://[^"\s<>]+', html)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert addresses == set()
    assert len(html) < 1_000_000


@needs_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_opens_without_error_or_request_and_draws_every_figure(
    report: Path, browser: Any, scheme: str, width: int, tmp_path: Path
) -> None:
    page, trouble = opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 800})
    assert trouble == []
    assert page.locator("h1").inner_text() == "page"
    assert page.locator(".verdict li").first.inner_text().startswith("Mean exposures to recall (up to 10): GroupA")
    assert "Difference shown: <b>&B learned faster" in page.locator(".verdict").inner_text()
    boxes = [figure.bounding_box() for figure in page.locator("figure svg").all()]
    assert len(boxes) == len(FIGURES)
    assert all(box and box["width"] > 200 and box["height"] > 100 for box in boxes)
    # The page itself does not scroll sideways; wide figures and tables do so by themselves.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 50_000


@needs_a_browser
def test_groups_are_hidden_and_points_read_out_by_keyboard_alone(report: Path, browser: Any) -> None:
    page, trouble = opened(browser, report)
    lines = page.locator("figure").first.locator(".group-0").first
    assert lines.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not lines.is_visible()
    page.keyboard.press("Space")
    assert lines.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    said = page.locator("figure").first.locator("output")
    assert said.inner_text() == "GroupA, epochs 0: 2.079"  # 3 bits a digit
    page.keyboard.press("ArrowRight")
    assert said.inner_text() == "GroupA, epochs 1: 2.079"
    assert trouble == []


@needs_a_browser
def test_a_pointer_near_a_point_reads_it_out_where_it_is_drawn(report: Path, browser: Any) -> None:
    page, _ = opened(browser, report)
    figure = page.locator("figure").nth(1)
    figure.scroll_into_view_if_needed()
    x, y, text = page.evaluate("series[1][0].points[4]")
    at = page.evaluate(
        """([x, y]) => { const svg = document.querySelectorAll("figure svg")[1];
        const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [point.x, point.y]; }""",
        [x, y],
    )
    page.mouse.move(at[0] + 2, at[1] + 1)
    assert figure.locator("output").inner_text().endswith(text)
    # The dot lies on the marker that matplotlib drew.
    drawn = page.evaluate(
        """([x, y]) => Math.min(...[...document.querySelectorAll("figure")[1].querySelectorAll(".group-0 use")]
        .map(mark => Math.hypot(mark.getAttribute("x") - x, mark.getAttribute("y") - y)))""",
        [x, y],
    )
    assert drawn < 1
