"""The pages in a real browser: what they show, how they are controlled, and whether everybody can use them.

Needs Chromium with its driver and selenium; the check of accessibility also needs axe-core (`npm pack axe-core`), its
`axe.min.js` named by MINIRES_AXE.
"""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from minires import nn
from minires.data.digits import load_digits
from minires.stepper import LESSONS, page_data, show
from minires.stepper.document import to_html
from minires.stepper.lessons import lesson
from minires.stepper.show import lesson_page
from tests.slowness import PATIENCE, patient
from tests.stepper.numbers import Judge, data_of

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver on this machine")

SIZES = {"desk": (1280, 800), "phone": (390, 844), "projector": (1920, 1080)}


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = patient(webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """name -> (its moves, its JSON, its file), of all lessons and of a small network."""
    folder = tmp_path_factory.mktemp("pages")
    digits = load_digits()
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10, rng=1)
    )
    made = {name: lesson_page(name) for name in LESSONS}
    made["network"] = page_data(model, digits.x_train[:2], digits.y_train[:2])
    found = {}
    for name, told in made.items():
        text = to_html(told)
        file = folder / f"{name}.html"
        file.write_text(text, encoding="utf-8")
        found[name] = told, data_of(text), file
    return found


def visit(browser, file, address="", size="desk", **media):
    width, height = SIZES[size]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"},
    )
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get(file.as_uri() + address)


def press(browser, *keys):
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def step(browser):
    return int(re.match(r"step (\d+)", browser.find_element("id", "count").text).group(1))


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def state_is(browser, wanted):
    end = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def set_speed(browser, milliseconds):
    script = "const e = document.getElementById('speed'); e.value = arguments[0]; e.dispatchEvent(new Event('change'))"
    browser.execute_script(script, str(milliseconds))


GATHER = """
const [track, limit] = arguments, found = [], loose = [];
const count = Math.min(DATA.tracks[track].steps.length, limit);
for (let i = 0; i < count; i += 1) {
  openTrack(track, i);
  document.querySelectorAll("[data-ref]").forEach(e => found.push([e.dataset.ref, e.textContent]));
  document.querySelectorAll("#svg text:not([data-ref])").forEach(e => {
    if (!e.matches(".label, .size, .arrow-label") && /\\d/.test(e.textContent)) loose.push(e.textContent);
  });
}
return JSON.stringify({ found: [...new Set(found.map(JSON.stringify))].map(JSON.parse), loose, count });
"""


@pytest.mark.parametrize("name", LESSONS)
def test_every_number_on_the_screen_is_the_ops_own(browser, pages, name):
    told, data, file = pages[name]
    judge = Judge(data, told.records, lesson(name).run)
    visit(browser, file)
    for track in range(len(data["tracks"])):
        seen = json.loads(browser.execute_script(GATHER, track, 1000))
        assert seen["count"] == len(data["tracks"][track]["steps"])
        assert not seen["loose"]
        assert len(seen["found"]) > 5
        assert not [(claim, text) for claim, text in seen["found"] if not judge.is_true(claim, text)]
    assert not errors(browser)


@pytest.mark.parametrize("name", [*LESSONS, "network"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_screen(browser, pages, name, size):
    _, data, file = pages[name]
    for at in {1, len(data["tracks"][0]["steps"]) // 2, len(data["tracks"][0]["steps"])}:
        visit(browser, file, f"#step={at}", size)
        assert step(browser) == at
        assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
        drawn = browser.execute_script("return document.querySelectorAll('#cells rect').length")
        assert drawn > 0
    assert not errors(browser)


def test_keys(browser, pages):
    _, data, file = pages["relu"]
    last = len(data["tracks"][0]["steps"])
    visit(browser, file)
    assert step(browser) == 1
    press(browser, Keys.RIGHT, Keys.RIGHT)
    assert step(browser) == 3
    press(browser, Keys.LEFT)
    assert step(browser) == 2
    press(browser, Keys.END)
    assert step(browser) == last
    press(browser, Keys.RIGHT)
    assert step(browser) == last
    press(browser, Keys.HOME)
    assert step(browser) == 1
    press(browser, Keys.RIGHT, "r")
    assert step(browser) == 1


def test_space_plays_and_play_stops_by_itself(browser, pages):
    _, data, file = pages["relu"]
    last = len(data["tracks"][0]["steps"])
    visit(browser, file, "#step=2")
    set_speed(browser, 4000)  # a minute to the end: slower than a busy browser's answers
    press(browser, " ")
    assert browser.find_element("id", "playing").text == "Pause"
    set_speed(browser, 200)
    state_is(browser, lambda: browser.find_element("id", "playing").text == "Play")
    assert step(browser) == last
    set_speed(browser, 4000)
    press(browser, " ")  # at the end, play begins anew
    state_is(browser, lambda: 1 < step(browser) < last)
    press(browser, " ")
    set_speed(browser, 200)  # were it still playing, it would now move
    here = step(browser)
    time.sleep(1.5)
    assert step(browser) == here < last
    press(browser, " ", Keys.RIGHT)  # stepping by hand pauses
    assert browser.find_element("id", "playing").text == "Play"


def test_no_shortcuts_inside_inputs_and_none_when_switched_off(browser, pages):
    _, _, file = pages["relu"]
    visit(browser, file, "#step=5")
    speed = browser.find_element("id", "speed")
    speed.send_keys("r")
    speed.send_keys(Keys.END)
    assert step(browser) == 5
    play = browser.find_element("id", "play")
    play.send_keys(" ")  # the button's own Space: one press, not two
    assert browser.find_element("id", "playing").text == "Pause"
    play.send_keys(" ")
    assert browser.find_element("id", "playing").text == "Play"
    browser.execute_script("document.getElementById('shortcuts').checked = false; document.activeElement.blur()")
    here = step(browser)
    press(browser, "r", Keys.HOME, " ")
    assert step(browser) == here
    assert browser.find_element("id", "playing").text == "Play"


def test_the_timeline(browser, pages):
    _, data, file = pages["conv"]
    visit(browser, file)
    timeline = browser.find_element("id", "timeline")
    assert timeline.get_attribute("max") == str(len(data["tracks"][0]["steps"]))
    browser.execute_script("arguments[0].value = 40; arguments[0].dispatchEvent(new Event('input'))", timeline)
    assert step(browser) == 40
    timeline.send_keys(Keys.RIGHT)  # the slider's own arrows move by one step
    assert step(browser) == 41
    assert timeline.get_attribute("aria-valuetext").startswith("step 41 of")
    webdriver.ActionChains(browser).click_and_hold(timeline).move_by_offset(200, 0).release().perform()
    assert step(browser) > 42
    assert browser.find_elements("css selector", "#parts .forward") and browser.find_elements(
        "css selector", "#parts .backward"
    )


def test_buttons(browser, pages):
    _, data, file = pages["linear"]
    last = len(data["tracks"][0]["steps"])
    visit(browser, file)
    for button, expected in (
        ("next", 2),
        ("next", 3),
        ("back", 2),
        ("end", last),
        ("first", 1),
        ("next", 2),
        ("reset", 1),
    ):
        browser.find_element("id", button).click()
        assert step(browser) == expected
    assert not browser.find_element("id", "back").is_enabled()


def test_a_link_leads_to_a_step_and_the_address_follows(browser, pages):
    _, data, file = pages["conv"]
    last = len(data["tracks"][0]["steps"])
    visit(browser, file, "#step=17")
    assert step(browser) == 17
    press(browser, Keys.RIGHT)
    state_is(browser, lambda: browser.current_url.endswith("#step=18"))
    browser.execute_script("location.hash = '#step=3'")
    state_is(browser, lambda: step(browser) == 3)
    for bad, expected in (
        ("#step=0", 1),
        ("#step=-4", 1),
        ("#step=9999", last),
        ("#step=x", 1),
        ("#step=3.7", 3),
        ("#track=77&step=2", 2),
    ):
        visit(browser, file, bad)
        assert step(browser) == expected, bad


def test_layers_open_and_close(browser, pages):
    _, _, file = pages["network"]
    visit(browser, file, "#step=2")
    assert "BatchNorm2d" in browser.find_element("id", "move").text
    press(browser, Keys.ENTER)
    assert "batchnorm_forward" in browser.find_element("id", "callers").text
    state_is(browser, lambda: "track=" in browser.current_url)
    inner = browser.current_url
    press(browser, Keys.RIGHT, Keys.ESCAPE)
    assert step(browser) == 2
    browser.find_element("id", "inside").click()
    assert "batchnorm_forward" in browser.find_element("id", "callers").text
    browser.find_element("css selector", "#path button").click()
    assert step(browser) == 2
    visit(browser, file, inner[inner.index("#") :])
    assert "batchnorm_forward" in browser.find_element("id", "callers").text
    assert not errors(browser)


def test_the_marked_line_is_the_one_that_ran(browser, pages):
    _, data, file = pages["conv"]
    for at in (2, 12, 30, 70):
        visit(browser, file, f"#step={at}")
        line = data["lines"][data["tracks"][0]["steps"][at - 1]["line"]]
        marked = browser.find_elements("css selector", "#source li.now")
        assert [int(m.find_element("tag name", "span").text) for m in marked] == list(
            range(line["first"], line["last"] + 1)
        )
        file_name = data["functions"][line["function"]]["file"]
        text = Path(__file__).resolve().parents[2].joinpath(file_name).read_text().splitlines()[line["first"] - 1]
        assert text.strip() in marked[0].text
        assert marked[0].is_displayed()


def test_less_motion_for_those_who_ask(browser, pages):
    _, _, file = pages["relu"]
    script = "return getComputedStyle(document.querySelector('#marks .mark')).transitionDuration"
    visit(browser, file, prefers_reduced_motion="reduce")
    assert set(browser.execute_script(script).split(", ")) == {"0s"}
    visit(browser, file, prefers_reduced_motion="no-preference")
    assert set(browser.execute_script(script).split(", ")) != {"0s"}


def test_light_and_dark(browser, pages):
    _, _, file = pages["relu"]
    script = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        visit(browser, file, prefers_color_scheme=scheme)
        seen[scheme] = browser.execute_script(script)
    assert seen["light"] != seen["dark"]
    browser.execute_script(
        "const t = document.getElementById('theme'); t.value = 'light'; t.dispatchEvent(new Event('change'))"
    )
    assert browser.execute_script(script) == seen["light"]


def test_a_notebooks_frame_works(browser, pages, tmp_path):
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<!doctype html><title>n</title>{show('relu')._repr_html_()}", encoding="utf-8")
    visit(browser, outer)
    browser.switch_to.frame(0)
    browser.find_element("id", "next").click()
    assert step(browser) == 2
    browser.switch_to.default_content()
    assert not errors(browser)


def test_what_is_said_to_those_who_listen(browser, pages):
    _, data, file = pages["relu"]
    visit(browser, file, "#step=2")
    said = browser.find_element("id", "live").get_attribute("textContent")
    first = data["tracks"][0]["steps"][1]
    assert first["title"] in said and re.sub(r"<.*?>", "", first["text"]) in said
    last = data["tracks"][0]["steps"][-1]
    visit(browser, file, f"#step={len(data['tracks'][0]['steps']) - 1}")
    browser.execute_script("document.getElementById('speed').value = '200'")
    press(browser, " ")
    state_is(browser, lambda: browser.find_element("id", "playing").text == "Play")
    assert last["title"] in browser.find_element("id", "live").get_attribute("textContent")
    assert browser.find_element("id", "svg").get_attribute("role") == "img"


@pytest.mark.skipif("MINIRES_AXE" not in os.environ, reason="MINIRES_AXE does not name an axe.min.js")
@pytest.mark.parametrize("name", [*LESSONS, "network"])
def test_axe_finds_nothing(browser, pages, name):
    axe = Path(os.environ["MINIRES_AXE"]).read_text(encoding="utf-8")
    _, data, file = pages[name]
    last = len(data["tracks"][0]["steps"])
    for at, size, scheme in (
        (1, "desk", "light"),
        (last // 2, "phone", "dark"),
        (last, "desk", "dark"),
        (last, "phone", "light"),
    ):
        visit(browser, file, f"#step={at}", size, prefers_color_scheme=scheme)
        browser.execute_script("document.getElementById('keys').open = true")
        browser.execute_script(axe)
        found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        said = [(v["id"], [node["html"] for node in v["nodes"]][:3]) for v in found["violations"]]
        assert not said, (at, size, scheme)
        assert len(found["passes"]) > 15
