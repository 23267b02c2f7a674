"""The page of `mizoo report` in Chromium: quiet, offline, and it answers. `make slow-report` runs it."""

from __future__ import annotations

import json
import shutil

import pytest
from support.reported import reported

pytestmark = [pytest.mark.slow, pytest.mark.browser]

WIDTHS = (1400, 400)


@pytest.fixture(scope="module")
def browser():
    """Chromium, the system's or that of Playwright; without one the tests fail."""
    from playwright.sync_api import sync_playwright

    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    with sync_playwright() as playwright:
        path = next(filter(None, found), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def page(browser, request):
    """The page at one width; what it says and asks for is in `said` and `asked`."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda made: opened.asked.append(made.url))
    opened.goto(reported().file.as_uri())
    yield opened
    opened.close()


def shown_lines(page) -> list[dict[str, str]]:
    """The lines of the table that are seen: encoder, endpoint, protocol and value."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#results tbody tr")].filter((line) => !line.hidden).map((line) =>
        ({encoder: line.cells[0].textContent, protocol: line.dataset.protocol, endpoint: line.dataset.endpoint,
          value: Number(line.cells[1].textContent)}))"""
    )


def test_it_is_quiet_asks_for_nothing_and_is_as_wide_as_the_window(page):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith("data:")] == [reported().file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator(".verdict .word").is_visible()


def test_the_table_sorts_and_filters(page):
    first = shown_lines(page)
    assert {line["protocol"] for line in first} == {"mlp200 (fast)"}
    values = [line["value"] for line in first]
    assert values == sorted(values, reverse=True) and len(set(values)) > 5
    page.get_by_role("button", name="value").click()
    assert [line["value"] for line in shown_lines(page)] == sorted(values)
    page.get_by_role("button", name="encoder", exact=True).click()
    names = [line["encoder"] for line in shown_lines(page) if line["encoder"] != "—"]
    assert names == sorted(names)
    page.select_option('[data-filter="protocol"]', "knn")
    page.select_option('[data-filter="endpoint"]', "fc")
    lines = shown_lines(page)
    assert lines and {(line["protocol"], line["endpoint"]) for line in lines} == {("knn", "fc")}
    page.fill("#search", "simclr")
    assert {line["encoder"] for line in shown_lines(page)} == {"simclr_cifar10"}
    assert page.locator("#count").inner_text().startswith(f"{len(shown_lines(page))} of ")


def test_pointing_at_a_dot_shows_its_picture_and_a_class_stands_out(page):
    canvas, card = page.locator(".map canvas"), page.locator(".map .card")
    canvas.scroll_into_view_if_needed()
    assert not card.is_visible()
    box = canvas.bounding_box()
    data = json.loads(page.locator(".map script").text_content())
    place = page.evaluate(
        """(text) => [...new Uint16Array(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer)]""",
        data["place"],
    )
    scale = box["width"] / 1400
    for i in (0, 40, 77):
        x = (28 + place[2 * i] / 65535 * (1400 - 56)) * scale
        y = (28 + (1 - place[2 * i + 1] / 65535) * (1000 - 56)) * scale
        page.mouse.move(box["x"] + x, box["y"] + y)
        assert card.is_visible()
        shown = int(card.get_attribute("data-index"))
        distance = (place[2 * shown] - place[2 * i]) ** 2 + (place[2 * shown + 1] - place[2 * i + 1]) ** 2
        assert shown == i or distance < 400**2  # another dot in the same place
        assert data["classes"][data["labels"][shown]] in card.inner_text()
        assert page.evaluate("getComputedStyle(document.querySelector('.map .card i')).backgroundImage").startswith(
            'url("data:image/webp'
        )
    page.mouse.move(box["x"] - 5, box["y"] - 5)
    assert not card.is_visible()
    before = canvas.screenshot()
    page.locator(".legend button").first.click()
    assert page.locator(".legend button").first.get_attribute("aria-pressed") == "true"
    assert canvas.screenshot() != before


def test_dark_has_dark_paper_and_light_letters(browser):
    page = browser.new_page(color_scheme="dark")
    page.goto(reported().file.as_uri())
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map((text) => text.match(/\\d+/g).map(Number).reduce((a, b) => a + b))"
    )
    assert paper < 120 and ink > 600
    page.close()
