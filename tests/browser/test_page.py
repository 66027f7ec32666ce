"""The page for people, in a real browser over the real service: fill in, ask, read the answer and what moved it.

Needs Chromium: `.ci/run` installs it, and `make test` leaves this folder out where there is none.
"""

import secrets
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings
from tests.browser.chromium import Page, chromium
from tests.patience import SILENCE
from tests.served_world import NOON, served_world
from tests.tiny_model import probability

TOKEN = secrets.token_hex(16)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return served_world(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def url(home: Settings) -> Iterator[str]:
    with running(home, champion_tag(home)) as url:
        yield url


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with chromium(tmp_path / "profile") as page:
        yield page


def fill(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        page.run(f"document.querySelector('input[name={name}]').value = {value!r}")


def ask(page: Page) -> None:
    page.run("document.querySelector('#form button').click()")


def test_a_person_asks_and_sees_the_answer_and_what_moved_it(page: Page, url: str) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")  # all fields but the request's id
    assert page.run("document.querySelector('#card').textContent") == "# Tiny\n"
    assert page.run("document.querySelector('#version').textContent").startswith("v1, ")
    fill(page, parcel="P1", depot="1", prediction_time=NOON.isoformat())
    ask(page)
    shown = page.wait("!document.querySelector('#said').hidden && document.querySelector('#probability').textContent")
    assert shown == f"{100 * probability(0.0, 2.0):.1f} %"
    drawing = ElementTree.fromstring(page.run("document.querySelector('#bars').innerHTML"))
    texts = ["".join(each.itertext()) for each in drawing.iter() if each.tag.endswith("text")]
    assert texts == ["weight = 2", "+2.000", "kind = box", "0.000"]
    widths = [float(each.attrib["width"]) for each in drawing.iter() if each.tag.endswith("rect")]
    assert widths[0] > 100 > 1 > widths[1]
    assert page.complaints == []


def texts_of(page: Page, selector: str) -> list[str]:
    """Of the drawing in an element."""
    drawing = ElementTree.fromstring(page.run(f"document.querySelector('{selector}').innerHTML"))
    return ["".join(each.itertext()) for each in drawing.iter() if each.tag.endswith("text")]


def test_several_classes_are_shown_as_bars_and_each_is_explained(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = served_world(tmp_path_factory.mktemp("classes"), "multiclass", ("light", "fair", "heavy load"))
    with running(home, champion_tag(home)) as url:
        page.open(url)
        page.wait("document.querySelectorAll('#form input').length === 3")
        ask(page)  # the example, parcel P1, whose score is 2
        assert page.wait("document.querySelector('#class')?.textContent") == "heavy load"
        assert texts_of(page, "#probabilities") == ["light", "1.6 %", "fair", "11.7 %", "heavy load", "86.7 %"]
        assert page.run("document.querySelector('#probability')") is None
        pressed = "[...document.querySelectorAll('#scores button')].map((each) => [each.textContent, each.ariaPressed])"
        assert page.run(pressed) == [["light", "false"], ["fair", "false"], ["heavy load", "true"]]
        assert texts_of(page, "#bars") == ["weight = 2", "+2.000", "kind = box", "0.000"]
        page.run("document.querySelector('#scores button').click()")
        assert texts_of(page, "#bars")[:2] == ["weight = 2", "-2.000"]
        scale = page.run("document.querySelector('#scale').textContent")
        assert scale.startswith("On the scale of log-odds against the classes' average: from 0.000, where nothing")
        assert page.complaints == []


def test_a_number_is_shown_in_its_interval(page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = served_world(tmp_path_factory.mktemp("numbers"), "regression")
    with running(home, champion_tag(home)) as url:
        page.open(url)
        page.wait("document.querySelectorAll('#form input').length === 3")
        ask(page)
        assert page.wait("document.querySelector('#value')?.textContent") == "2"
        told = page.run("document.querySelector('#interval').textContent")
        assert told == "90.0 % of labels are to lie from 1 to 4"
        assert texts_of(page, "#range") == ["1", "4"]
        assert page.run("document.querySelector('#scores').hidden")
        assert texts_of(page, "#bars") == ["weight = 2", "+2.000", "kind = box", "0.000"]
        scale = page.run("document.querySelector('#scale').textContent")
        assert scale == "On the scale of the label's unit: from 0.000, where nothing is known, to 2.000."
        assert page.complaints == []


def test_what_is_wrong_is_said_beside_the_form(page: Page, url: str) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")
    fill(page, parcel="P1", depot="many", prediction_time=NOON.isoformat())
    ask(page)
    said = page.wait("document.querySelector('#trouble').textContent")
    assert said == "depot: should be a valid integer"
    assert page.run("document.querySelector('#said').hidden")


def test_a_real_example_is_filled_in(page: Page, url: str) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")
    filled = page.run("[...document.querySelectorAll('#form input')].map((input) => [input.name, input.value])")
    assert dict(filled) == {"parcel": "P1", "depot": "1", "prediction_time": NOON.isoformat()}
    assert not page.run("document.querySelector('#example').hidden")
    hints = page.run("[...document.querySelectorAll('#form small')].map((hint) => hint.textContent)")
    assert hints[2].endswith("In the example: until when the features in the online store are known.")
    ask(page)
    shown = page.wait("!document.querySelector('#said').hidden && document.querySelector('#probability').textContent")
    assert shown == f"{100 * probability(0.0, 2.0):.1f} %"
    assert page.run("document.querySelector('#warning').hidden")
    assert "nothing usable" not in page.run("document.querySelector('#basis').textContent")


def test_an_answer_from_nothing_is_shown_with_a_banner(page: Page, url: str) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")
    fill(page, prediction_time="2013-11-02T00:00:00Z")
    ask(page)
    page.wait("!document.querySelector('#said').hidden")
    assert page.run("document.querySelector('#warning').textContent").startswith("2 of 2 feature views have no usable")
    assert page.run("document.querySelector('#warning').getBoundingClientRect().height") > 20
    fill(page, prediction_time=NOON.isoformat())
    ask(page)
    page.wait("document.querySelector('#warning').hidden")


def test_an_empty_key_is_refused_beside_the_form(page: Page, url: str) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")
    fill(page, parcel=" ")
    ask(page)
    assert page.wait("document.querySelector('#trouble').textContent").startswith("parcel: is empty; ")
    assert page.run("document.querySelector('#said').hidden")


def test_words_of_a_model_are_shown_and_never_run(page: Page, url: str, home: Settings) -> None:
    page.open(url)
    page.wait("document.querySelectorAll('#form input').length === 3")
    fill(page, parcel="<img src=x onerror=document.title='run'>", depot="1", prediction_time=NOON.isoformat())
    ask(page)
    page.wait("!document.querySelector('#said').hidden")
    assert page.run("document.title") == "parcels"
    assert page.run("document.querySelectorAll('img').length") == 0


def test_with_tokens_the_page_asks_for_one(page: Page, home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_TOKENS", TOKEN)
    with running(home, champion_tag(home)) as url:
        assert httpx.get(f"{url}/model", trust_env=False, timeout=SILENCE).status_code == 401
        page.open(url)
        page.wait("!document.querySelector('#token-row').hidden")
        assert page.run("document.querySelector('#form').hidden")
        page.run(f"document.querySelector('#token').value = {TOKEN!r}")
        page.run("document.querySelector('#enter').click()")
        page.wait("document.querySelectorAll('#form input').length === 3")
        fill(page, parcel="P1", depot="1", prediction_time=NOON.isoformat())
        ask(page)
        assert page.wait("!document.querySelector('#said').hidden")


def test_the_routes_can_be_tried_out_on_a_page(page: Page, url: str) -> None:
    page.open(f"{url}/docs")
    routes = page.wait("[...document.querySelectorAll('.opblock-summary-path')].map((each) => each.textContent)")
    assert [route.replace("\u200b", "") for route in routes] == ["/predict", "/explain", "/predict_batch", "/model"]
    page.run("document.querySelector('.opblock-summary-control').click()")
    page.wait("!!document.querySelector('.try-out__btn')")
    page.run("document.querySelector('.try-out__btn').click()")
    page.wait("!!document.querySelector('.execute')")
    page.run("document.querySelector('.execute').click()")  # the example, as it is filled in
    said = page.wait("document.querySelector('.live-responses-table .highlight-code')?.textContent")
    assert '"model_version": "v1"' in said
    assert page.complaints == []


def test_with_tokens_the_page_of_routes_asks_for_one(
    page: Page, home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HINDCAST_TOKENS", TOKEN)
    with running(home, champion_tag(home)) as url:
        page.open(f"{url}/docs")
        page.wait("!document.querySelector('#token-row').hidden")
        assert page.run("document.querySelectorAll('.opblock').length") == 0
        page.run(f"document.querySelector('#token').value = {TOKEN!r}")
        page.run("document.querySelector('#enter').click()")
        page.wait("document.querySelectorAll('.opblock').length === 4")
