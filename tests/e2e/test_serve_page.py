"""The page of `a2lc serve` in a real browser against the real server: keys, grid, spread, cuts, outages, phones.

Screenshots of every view go to the folder that A2LC_SCREENSHOTS names, else to pytest's own.
"""

import io
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from a2lc.ledger import KEEP
from a2lc.ledger.replay import SOURCES
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.stages import next_stage
from a2lc.serve.desk import Desk

playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome"),
]

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LOOKS = [("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE), ("phone-dark", "dark", PHONE)]
AUTOMATIC = SOURCES.index("automatic")
ACTION_KEYS = "axmcsofig"  # letters that mean something, and so do not begin a search
HOSTILE = {
    0: "<img src=x onerror=alert(1)>",
    1: "\"><script>alert('two')</script>",
    2: 'it\'s "quoted" & <b>bold</b>',
    3: "{{3}} ${3} %3C\\u003c",
}
WAIT = 20_000
expect.set_options(timeout=WAIT)


# ---- the server -----------------------------------------------------------------------------------------------------


class Server:
    """`a2lc serve` on a project, as a process that can be killed and begun anew at the same address."""

    def __init__(self, folder):
        self.folder, self.port, self.said = folder, 0, []
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "a2lc", "serve", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1"}, cwd=self.folder.parent,
        )  # fmt: skip
        address = queue.Queue()
        self.listener = threading.Thread(target=self._listen, args=(self.process.stdout, address), daemon=True)
        self.listener.start()
        try:
            self.address = address.get(timeout=60)
        except queue.Empty:
            self.kill()
            self.address = None
        assert self.address, "\n".join(self.said)
        self.origin, self.token = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", self.address).groups()
        self.port = int(self.origin.rsplit(":", 1)[1])
        return self

    def _listen(self, stream, address):
        for line in stream:
            self.said.append(line.rstrip())
            if line.startswith("open http://"):
                address.put(line.split()[1])
        address.put(None)

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.runs:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.listener.join()
        self.process.stdout.close()

    def stop(self):
        """As Ctrl-C does: it says goodbye, and nothing went wrong on the way."""
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        finally:
            self.kill()
        said = "\n".join(self.said)
        assert "Traceback" not in said and "stopped; all answers are recorded" in said, said

    def ask(self, path, **body):
        """A request of somebody without a page."""
        data = json.dumps(body).encode() if body else None
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.origin + path, data, headers), timeout=30) as reply:
            return json.loads(reply.read())


# ---- projects -------------------------------------------------------------------------------------------------------


class Book:
    """What a project asks and what is recorded, read beside the server, and what is right by ground truth."""

    def __init__(self, folder):
        with Project(folder) as project:
            masks, classes = project.masks, project.classes
            _, by_class = project.truth.table.masks(
                project.state(through=0), np.arange(len(masks)), classes.num_classes
            )
            self.names = classes.names
            self.by_caption, self.captions, self.right = {}, {}, {}
            for query in project.ledger.queries():
                (row,) = masks.rows(np.array([query.image]), np.array(query.mask_ids[:1]))
                area = int(masks.area[row])
                pixels = f"{area:,}".replace(",", "\u202f") + (" pixel" if area == 1 else " pixels")
                caption = f"{project.all_images[query.image].image_id} · {pixels}"
                self.by_caption.setdefault(caption, []).append(query)
                self.captions[query.query_id] = caption
                true = int(np.argmax(by_class[row]))
                self.right[query.query_id] = None if true == classes.num_classes else true
        self.folder = folder

    def answers(self, annotator, standing=True):
        """(caption, kind, classes) of what somebody answered, in recorded order."""
        with Project(self.folder) as project:
            found = [answer for answer, _ in project.ledger.answers(standing=standing)]
        return [(self.captions[a.query_id], str(a.kind), a.classes) for a in found if a.annotator == annotator]

    def nothing_doubled(self):
        with Project(self.folder) as project:
            counts = Counter(answer.query_id for answer, _ in project.ledger.answers())
        assert not counts or max(counts.values()) == 1


def answer_truthfully(folder, count):
    """Somebody answers the first questions of a round; the round ends if these are all."""
    with Project(folder) as project, project.lock():
        book = Book(folder)
        desk = Desk(project, RoundPlan.of(project.config))
        try:
            while count > 0:
                answers = []
                for query in desk.lease("Robin", min(8, count))[0]:
                    right = book.right[query.query_id]
                    kind = "void" if right is None else "confirm" if right == query.proposed else "correct"
                    said = () if right is None else (right,)
                    answers.append(
                        Answer(query_id=query.query_id, annotator="Robin", kind=AnswerKind(kind), classes=said)
                    )
                assert answers and all(outcome.status == "recorded" for outcome in desk.answer(answers))
                count -= len(answers)
        finally:
            desk.close()


@pytest.fixture(scope="module")
def projects(scored):
    """Makes projects whose first round is asked. The rounds' model is one to be trained, and nobody trains it here."""
    pattern = re.compile(r"\W+")

    def unused(name):
        """A folder's name: pytest-xdist may leave this module and come back, and set all of this up once more."""
        numbers = itertools.count(2)
        wanted = f"{name}.a2lc"
        while (scored.root / wanted).exists():
            wanted = f"{name}-{next(numbers)}.a2lc"
        return wanted

    def asked(name, budget, **more):
        name = unused(name)
        with scored.project(name) as project:
            loop = Loop(project, scored.plan(project, budget, **more))
            while (stage := next_stage(project)[1]) != "answer":
                loop.run_stage(stage)
            project.config = project.config.model_copy(update={"training": TrainingConfig(model="deeplabv3plus")})
            project.config.save(project.folder / "project.yaml")
        return scored.root / name

    first = asked("page-spread", 120, method="a2lc", settings={"thresholds": [0.5], "epochs": 60})

    def spread(name, answered):
        """A round of 120 questions of which some are answered."""
        folder = scored.root / unused(f"page-{pattern.sub('-', name)}")
        shutil.copytree(first, folder)
        answer_truthfully(folder, answered)
        return folder

    return SimpleNamespace(asked=asked, spread=spread)


@pytest.fixture(scope="module")
def serve():
    """Serves a project until the module ends."""
    begun = []

    def start(folder):
        server = Server(folder).start()
        server.book = Book(folder)
        begun.append(server)
        return server

    yield start
    alive = [server for server in begun if server.runs]  # a test that failed may have left one dead
    for server in alive:
        server.process.terminate()  # all at once, then wait
    for server in alive:
        server.stop()


@pytest.fixture(scope="module")
def _many(projects, serve):
    return serve(projects.asked("page-many", 400, method="alc"))


@pytest.fixture
def many(_many):
    """One server with questions enough for all tests that only answer some, each under names of its own."""
    if not _many.runs:
        _many.start()
    return _many


@pytest.fixture(scope="module")
def looked(projects, serve):
    """A server whose round is answered and whose changes wait; the classes have the worst of names."""
    folder = projects.spread("looked", 120)
    settings = folder / "project.yaml"
    config = yaml.safe_load(settings.read_text(encoding="utf-8"))
    for index, name in HOSTILE.items():
        config["classes"]["classes"][index]["name"] = name
    settings.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return serve(folder)


# ---- the browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as player:
        sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]  # root has none
        browser = player.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


class Person:
    """Somebody at the page, who remembers what they said."""

    def __init__(self, browser, server, name, **options):
        self.server, self.book, self.name = server, server.book, name
        self.context = browser.new_context(**{"viewport": DESK, "color_scheme": "light", **options})
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.troubles, self.expected = [], None
        self.said = {}
        self._listen()

    def _listen(self):
        page, tell = self.page, self.troubles.append
        page.on("console", lambda line: line.type in {"error", "warning"} and tell(f"console: {line.text}"))
        page.on("pageerror", lambda error: tell(f"error: {error}"))
        page.on("dialog", lambda dialog: (tell(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._own(request.url) or tell(f"request: {request.url}"))

    def _own(self, url):
        return url.startswith((f"{self.server.origin}/", "data:", "blob:"))

    def check(self):
        """No error, no dialog, no request to elsewhere, but those that were announced."""
        left = [line for line in self.troubles if not (self.expected and re.search(self.expected, line))]
        assert not left, "\n".join(left)

    def open(self):
        self.page.goto(self.server.address)
        expect(self.page).to_have_url(
            re.compile(rf"^{self.server.origin}/(#\w+)?$")
        )  # the token does not stay in sight
        return self

    def enter(self):
        """Open the address and give the name."""
        self.open()
        self["name-input"].fill(self.name)
        self["name-save"].click()
        return self

    def __getitem__(self, testid):
        return self.page.get_by_test_id(testid)

    def at(self, selector, **more):
        return self.page.locator(selector, **more)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def all_sent(self):
        """The page keeps no answer any more; it may say that it is connected before it has looked."""
        kept, end = (
            "Object.keys(localStorage).filter((name) => name.startsWith('a2lc.queue.')).length",
            time.monotonic() + 30,
        )
        while self.page.evaluate(kept):
            assert time.monotonic() < end, "answers are kept that could be sent"
            self.page.wait_for_timeout(20)
        expect(self.at("#connection")).to_have_text("Connected")

    # Questions

    def ready(self):
        """There is a question and its picture."""
        expect(self["question"]).to_be_visible()
        expect(self.at("#stage")).not_to_have_class(re.compile("loading"))

    def caption(self):
        self.ready()
        return self.at("#caption").inner_text()

    def query(self):
        """The question shown: what the project has under its caption."""
        return self.book.by_caption[self.caption()][0]

    def say(self, keys, kind, classes=()):
        """Answer with keys; what they should mean is kept to be compared."""
        caption = self.caption()
        self.press(*keys)
        self.keep(caption, kind, classes)

    def keep(self, caption, kind, classes):
        self.said.setdefault(caption, []).append((kind, tuple(classes)))

    def say_class(self, index, search=False):
        """Name a class: by `a`, its digit, or letters and Enter."""
        query = self.query()
        kind = "confirm" if index == query.proposed else "correct"
        if kind == "confirm" and not search:
            self.say(["a"], kind, [index])
        elif index in query.suggestions and not search:
            self.say([str(query.suggestions.index(index) + 1)], kind, [index])
        else:
            name = self.book.names[index]
            self.say([*("/" if name[0] in ACTION_KEYS else ""), *name, "Enter"], kind, [index])

    def say_right(self):
        right = self.book.right[self.query().query_id]
        self.say(["0"], "void") if right is None else self.say_class(right)

    def say_again(self, keys, kind, classes=()):
        """Answer the question that is open again: what was said of it before does not count."""
        caption = self.caption()
        expect(self.at("#review")).to_be_visible()
        self.said[caption].pop()
        self.say(keys, kind, classes)

    def all_said(self):
        return Counter((caption, *one) for caption, many in self.said.items() for one in many)

    def check_ledger(self):
        """The ledger holds just what was pressed."""
        assert Counter(self.book.answers(self.name)) == self.all_said()
        self.book.nothing_doubled()


@pytest.fixture
def visit(browser):
    """Opens pages of people; when the test ends, nothing may have gone wrong on them."""
    people = []

    def make(server, name, **options):
        people.append(Person(browser, server, name, **options))
        return people[-1]

    yield make
    for person in people:
        person.context.close()
    for person in people:
        person.check()


@pytest.fixture
def shoot(tmp_path):
    """Takes pictures of a view: light, dark, on a phone."""
    folder = Path(os.environ.get("A2LC_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)

    def take(person, name):
        page = person.page
        for look, scheme, size in LOOKS:
            page.emulate_media(color_scheme=scheme)
            if page.viewport_size != size:
                page.set_viewport_size(size)
            page.wait_for_load_state("networkidle")  # pictures in the new size
            path = folder / f"{name}-{look}.png"
            page.screenshot(path=path)
            pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
            assert pixels.std() > 8, f"{path} is blank"
            # Nothing sticks out to the side.
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name} {look}: {wide} pixels too wide"
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(DESK)

    return take


def canvas_pixels(person):
    """The picture of the question as it shows."""
    return np.asarray(Image.open(io.BytesIO(person["canvas"].screenshot())).convert("RGB"), dtype=float)


# ---- one person's whole way -----------------------------------------------------------------------------------------


def test_a_persons_whole_way(projects, serve, visit, shoot):
    server = serve(projects.spread("whole-way", 60))
    eve = visit(server, "Eve")
    answer_thirty(eve, shoot)
    use_grid(eve, shoot)
    answer_the_rest(eve)
    shoot(eve, "resting")
    eve.check_ledger()
    look_and_accept(eve, shoot)
    read_dashboard(eve, shoot)
    reload_at_the_end(eve)
    eve.check_ledger()
    with Project(server.folder) as project:
        assert Counter(a.annotator for a, _ in project.ledger.answers()) == {"Robin": 60, "Eve": 60}


def answer_thirty(eve, shoot):
    page = eve.open().page
    expect(eve["name-input"]).to_be_focused()
    shoot(eve, "name")
    eve["name-input"].fill("oracle")
    eve.press("Enter")
    expect(eve.at("#name-error")).to_contain_text("simulated annotator")
    eve["name-input"].fill("Eve")
    eve.press("Enter")
    eve.ready()
    expect(eve["status"]).to_contain_text("Round 1")
    assert canvas_pixels(eve).std() > 20
    shoot(eve, "answer")
    for _ in range(5):
        eve.say_right()
    eve.say(["m"], "mixed")
    eve.say(["x"], "skip")
    eve.say(["0"], "void")
    put_off = eve.caption()
    eve.press(" ")
    assert eve.caption() != put_off
    expect(eve["history-entry"].first).to_contain_text("skipped for now")
    query = eve.query()
    eve.say(["2"], "confirm" if query.suggestions[1] == query.proposed else "correct", [query.suggestions[1]])
    eve.say_class(eve.book.names.index("bicyclist"), search=True)
    eve.say_class(eve.book.names.index("fence"), search=True)
    search_is_shown(eve, shoot)
    # Undo before it is sent, and after.
    eve.say(["x"], "skip")
    eve.press("Backspace")
    expect(eve.at("#review-text")).to_contain_text("cannot tell")
    eve.say_again(["m"], "mixed")
    eve.all_sent()
    eve.press("Backspace")
    expect(eve.at("#review-text")).to_contain_text("mixed")
    eve.say_again(["0"], "void")
    # An older one, by the strip.
    before = eve.caption()
    entry = eve["history-entry"].nth(5)
    said = entry.locator(".entry-said").inner_text()
    entry.click()
    expect(eve.at("#review-text")).to_contain_text(f"Your answer: {said}")
    shoot(eve, "review")
    eve.say_again(["x"], "skip")
    assert eve.caption() == before, "back to the question that was open"
    # A reload keeps the question that was open, and the history.
    eve.all_sent()
    page.reload()
    assert eve.caption() == before
    expect(eve["history-entry"]).not_to_have_count(0)
    while sum(map(len, eve.said.values())) < 30:
        eve.say_right()
    eve.press("?")
    expect(eve["help"]).to_be_visible()
    shoot(eve, "help")
    eve["help-close"].click()


def search_is_shown(eve, shoot):
    eve.ready()
    eve.press("b")
    expect(eve["search-input"].first).to_be_focused()
    expect(eve["search-option"].first).to_have_text("building")
    shoot(eve, "search")
    eve.press("Escape")
    expect(eve["search-option"].first).to_be_hidden()


def use_grid(eve, shoot):
    with eve.page.expect_response("**/api/grid") as reply:
        eve.press("g")
    found = reply.value.json()
    cards, proposed = found["cards"], found["proposed"]
    expect(eve["grid-tile"]).to_have_count(len(cards))
    right = [eve.book.right[card["query_id"]] == proposed for card in cards]
    if all(right):
        right[0] = False
    for place, fits in enumerate(right):
        if not fits:
            eve["grid-tile"].nth(place).click()
            expect(eve["grid-tile"].nth(place)).to_have_attribute("aria-pressed", "true")
    expect(eve["grid-confirm"]).to_contain_text(f"Confirm {sum(right)}, {len(right) - sum(right)} marked")
    shoot(eve, "grid")
    eve["grid-confirm"].click()
    expect(eve["toast"].last).to_contain_text(f"{sum(right)} mask")
    for card, fits in zip(cards, right, strict=True):
        if fits:
            kind = "confirm" if card["proposed"] == proposed else "correct"
            eve.keep(eve.book.captions[card["query_id"]], kind, [proposed])
    eve.press("Escape")
    eve.all_sent()
    eve.ready()


def answer_the_rest(person):
    """Until the round's answers are in; what was put off and what was marked comes back."""
    over = person.at("#resting-title").filter(has_text="All questions of the round are answered")
    for _ in range(130):
        expect(person["question"].or_(over).locator("visible=true").first).to_be_visible()
        if over.is_visible():
            return
        person.say_right()
    pytest.fail("the questions of the round do not end")


def look_and_accept(eve, shoot):
    eve.at("#resting-link").click()
    found = eve.server.ask("/api/spread")
    assert found["ready"] and found["total"] > 5 and len(found["pairs"]) > 1
    expect(eve["spread-total"]).to_have_text(f"{found['total']} automatic corrections to review")
    expect(eve["spread-pair"]).to_have_count(len(found["pairs"]))
    expect(eve["spread-accept"]).to_have_text(f"Accept {found['total']} corrections")
    shoot(eve, "spread")
    eve["spread-threshold"].fill("1")
    expect(eve["spread-accept"]).to_have_text("Accept about 0 corrections")
    threshold = round(float(np.median([item["probability"] for item in found["items"]])), 2)
    eve["spread-threshold"].fill(str(threshold))
    pair = found["pairs"][-1]
    row = eve["spread-pair"].last
    row.get_by_role("checkbox").uncheck()
    expect(row).to_have_class(re.compile("left-out"))
    row.get_by_role("button").click()
    expect(eve.at(".tiles.changes li")).to_have_count(min(24, pair["masks"]))
    shoot(eve, "spread-left-out")
    eve["spread-accept"].click()
    expect(eve["toast"].last).to_contain_text("excluded in review")
    expect(eve["spread-accept"]).to_be_disabled()
    with Project(eve.server.folder) as project:
        state = project.state()
        (details,) = [s.details for s in project.ledger.stages() if (s.round, s.stage) == (1, "correct")]
        automatic = state.source == AUTOMATIC
        first = project.masks.label
    assert details["threshold"] == threshold and details["rejected"] == [[pair["old"], pair["new"]]]
    assert 0 < automatic.sum() == found["total"] - details["left_out"] and details["left_out"] >= pair["masks"]
    assert not (automatic & (state.classes == pair["new"]) & (first == pair["old"])).any()
    eve["spread-undo"].click()
    expect(eve["toast"].last).to_contain_text(f"{automatic.sum()} mask")
    with Project(eve.server.folder) as project:
        assert not (project.state().source == AUTOMATIC).any()


def read_dashboard(eve, shoot):
    eve["tab-dashboard"].click()
    figures = eve.at(".figures")
    with Project(eve.server.folder) as project:
        recorded = len(project.ledger.answers())
    expect(figures).to_contain_text(f"{recorded}answers")
    expect(figures).to_contain_text("mIoU of the labels")
    expect(eve.at("tr", has_text="Robin")).to_contain_text("60")
    expect(eve.at("tr", has_text="Eve")).to_be_visible()
    eve["export"].click()
    with eve.page.expect_download() as coming:
        eve["export-link"].click()
    with zipfile.ZipFile(coming.value.path()) as files:
        assert files.testzip() is None
        written = {Path(name).stem for name in files.namelist() if name.endswith(".png")}
    with Project(eve.server.folder) as project:
        assert written >= {image.image_id for image in project.images}
    shoot(eve, "dashboard")


def reload_at_the_end(eve):
    eve.page.reload()
    expect(eve["tab-dashboard"]).to_have_attribute("aria-current", "page")
    expect(eve.at("#name-button")).to_have_text("Eve")
    eve["tab-answer"].click()
    expect(eve["panel-message"]).to_contain_text("--train")
    expect(eve["history-entry"]).to_have_count(12)


# ---- speed ----------------------------------------------------------------------------------------------------------


def test_from_key_to_next_card(many, visit):
    ada = visit(many, "Ada").enter()
    for place in range(60):
        ada.say(*((["0"], "void") if place % 3 == 2 else (["x"], "skip")))
    ada.all_sent()
    times = ada.page.evaluate("window.a2lcTimes")
    assert len(times) == 60
    ada.check_ledger()
    p50, p95 = np.percentile(times, [50, 95])
    print(
        f"\nfrom key to next card, {len(times)} cards: median {p50:.1f} ms, p95 {p95:.1f} ms, most {max(times):.1f} ms"
    )
    assert p95 < 500


# ---- the server is away ---------------------------------------------------------------------------------------------


def test_nothing_is_lost_while_the_server_is_away(many, visit, shoot):
    pat = visit(many, "Pat")
    pat.expected = r"net::ERR_(CONNECTION|EMPTY|SOCKET|INCOMPLETE)"
    pat.enter()
    for _ in range(3):
        pat.say_right()
    pat.all_sent()
    for _ in range(2):
        pat.say_right()
    many.kill()
    for _ in range(3):
        pat.say_right()
    expect(pat["offline"]).to_contain_text("Offline – ")
    expect(pat["offline"]).to_contain_text("stored, not yet sent")
    shown = pat.caption()
    shoot(pat, "offline")
    kept = pat.page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('a2lc.queue.')).length")
    assert 3 <= kept <= 5
    # The page cannot come anew from a server that is away; what it kept outlives it.
    with pytest.raises(playwright.Error, match="ERR_CONNECTION_REFUSED"):
        pat.page.reload()
    many.start()
    pat.page.goto(many.origin)
    pat.all_sent()
    expect(pat["offline"]).to_be_hidden()
    pat.check_ledger()
    assert pat.caption() == shown
    pat.say_right()
    pat.all_sent()
    pat.check_ledger()


def test_the_page_goes_on_by_itself_when_the_server_is_back(many, visit):
    kim = visit(many, "Kim")
    kim.expected = r"net::ERR_(CONNECTION|EMPTY|SOCKET|INCOMPLETE)"
    kim.enter()
    kim.say_right()
    many.kill()
    for _ in range(5):
        kim.say_right()
    expect(kim["offline"]).to_be_visible()
    many.start()
    expect(kim["offline"]).to_be_hidden()
    kim.say_right()
    kim.all_sent()
    kim.check_ledger()
    assert len(kim.book.answers("Kim", standing=False)) == 7


# ---- two at once ----------------------------------------------------------------------------------------------------


def test_two_people_never_see_the_same_question(many, visit):
    ann, ben = visit(many, "Ann").enter(), visit(many, "Ben").enter()
    leased = {}
    for person in (ann, ben):
        # What the server lent to each, as it says.
        lent = leased[person.name] = set()
        person.page.on("response", lambda reply, lent=lent: reply.url.endswith("/api/lease") and lent.add(reply))
    seen = {"Ann": Counter(), "Ben": Counter()}
    for _ in range(10):
        for person in (ann, ben):
            seen[person.name][person.caption()] += 1
            person.say_right()
    asked = Counter(caption for counts in seen.values() for caption in counts.elements())
    assert all(count <= len(many.book.by_caption[caption]) for caption, count in asked.items())
    for person in (ann, ben):
        person.all_sent()
        person.check_ledger()
    lent = [{card["query_id"] for reply in replies for card in reply.json()["cards"]} for replies in leased.values()]
    assert all(lent) and not lent[0] & lent[1]


def test_somebody_was_faster(many, visit):
    cho = visit(many, "Cho").enter()
    while len(many.book.by_caption[cho.caption()]) > 1:
        cho.say_right()  # which of two masks of one size it is cannot be told
    cho.all_sent()
    query = cho.query()
    answer = {"query_id": query.query_id, "kind": "void", "classes": [], "milliseconds": 1, "replaces": None}
    assert many.ask("/api/answers", annotator="Dee", answers=[answer])["results"][0]["status"] == "recorded"
    cho.press("m")
    expect(cho["toast"]).to_be_visible()
    expect(cho["toast"]).to_contain_text("Dee")
    expect(cho["history"]).not_to_contain_text("mixed")
    cho.say_right()
    cho.all_sent()
    cho.check_ledger()
    assert cho.book.answers("Dee") == [(cho.book.captions[query.query_id], "void", ())]


# ---- names that bite ------------------------------------------------------------------------------------------------


def test_names_of_classes_are_text(looked, visit, shoot):
    robin = visit(looked, "Robin").enter()
    expect(robin["history-entry"]).to_have_count(12)
    names = looked.book.names
    assert [names[index] for index in HOSTILE] == list(HOSTILE.values())
    # A question about a class of such a name, opened again.
    for place in range(12):
        robin["history-entry"].nth(place).click()
        expect(robin.at("#review")).to_be_visible()
        query = robin.query()
        if query.proposed in HOSTILE:
            break
    else:
        pytest.fail("none of the last questions is about one of the first classes")
    name = HOSTILE[query.proposed]
    expect(robin["question"].locator("strong")).to_have_text(name)
    expect(robin["keep"]).to_contain_text(name)
    for place, index in enumerate(query.suggestions[:9]):
        expect(robin[f"suggestion-{place + 1}"].locator(".name")).to_have_text(names[index])
    robin.press("/")
    expect(robin["search-option"]).to_have_count(len(names))
    for index, text in HOSTILE.items():
        expect(robin["search-option"].nth(index)).to_have_text(text)
    shoot(robin, "names")
    robin["search-input"].first.fill("<img")
    expect(robin["search-option"].first).to_have_text(HOSTILE[0])
    robin.press("Escape", "Escape")
    robin["tab-spread"].click()
    expect(robin["spread-pair"].first).to_be_visible()  # two requests at once would get in each other's way
    old = looked.ask("/api/spread")["pairs"][0]["old"]
    expect(robin["spread-pair"].first).to_contain_text(names[old])
    robin["tab-dashboard"].click()
    expect(robin.at("tr", has_text=HOSTILE[0])).not_to_have_count(0)
    assert robin.page.evaluate("document.querySelectorAll('img, script:not([src]), b').length") == 0


# ---- everybody ------------------------------------------------------------------------------------------------------


def violations(person, where):
    """What axe finds, of the kinds that shut people out."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe").Axe()
    found = []
    for scheme in ("light", "dark"):
        person.page.emulate_media(color_scheme=scheme)
        expect(person.at("html")).to_have_css("color-scheme", re.compile(scheme))
        for one in axe.run(person.page).response["violations"]:
            if one["impact"] in {"serious", "critical"}:
                nodes = [f"{node['target']}: {node.get('failureSummary', '')}" for node in one["nodes"][:3]]
                found.append(f"{where}, {scheme}: {one['id']}: {one['help']}\n  " + "\n  ".join(nodes))
    person.page.emulate_media(color_scheme="light")
    return found


def test_axe_finds_nothing_where_questions_are_answered(many, visit):
    fay = visit(many, "Fay").open()
    expect(fay["name-input"]).to_be_visible()
    found = violations(fay, "name")
    fay["name-input"].fill("Fay")
    fay["name-save"].click()
    fay.say_right()
    fay.ready()
    found += violations(fay, "answer")
    fay.press("/")
    expect(fay["search-option"].first).to_be_visible()
    found += violations(fay, "search")
    fay.press("Escape", "Backspace")
    expect(fay.at("#review")).to_be_visible()
    found += violations(fay, "review")
    fay.press("Escape", "c")
    expect(fay.at("#split-dialog")).to_contain_text("Choose a class, then click")
    found += violations(fay, "cut")
    fay.press("Escape", "?")
    expect(fay["help"]).to_be_visible()
    found += violations(fay, "help")
    fay.press("Escape", "g")
    expect(fay["grid-tile"].first).to_be_visible()
    fay["grid-tile"].first.click()
    found += violations(fay, "grid")
    assert not found, "\n".join(found)


def test_axe_finds_nothing_where_changes_and_figures_are_shown(looked, visit):
    guy = visit(looked, "Guy").enter()
    expect(guy.at("#resting-title")).to_have_text("All questions of the round are answered")
    found = violations(guy, "resting")
    address, held = re.compile("/api/spread"), []
    guy.page.route(address, lambda route: held.append(route))
    guy["tab-spread"].click()
    expect(guy["spread-total"]).to_have_text("One moment")
    expect(guy["spread-accept"]).to_be_disabled()
    found += violations(guy, "spread, not there yet")
    for route in held:
        route.continue_()
    guy.page.unroute(address)
    expect(guy["spread-pair"].first).to_be_visible()
    guy["spread-pair"].first.get_by_role("checkbox").uncheck()
    found += violations(guy, "spread")
    guy["tab-dashboard"].click()
    expect(guy.at("tr", has_text="Robin")).to_be_visible()
    found += violations(guy, "dashboard")
    assert not found, "\n".join(found)


def tab_to(person, target):
    """Press Tab until an element has the focus, and see that it shows."""
    for _ in range(60):
        person.press("Tab")
        if target.evaluate("(node) => node === document.activeElement"):
            break
    else:
        pytest.fail(f"no way to {target} with Tab")
    seen = target.evaluate(
        """(node) => {
            const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(node);
            return (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1) || boxShadow !== "none";
        }"""
    )
    assert seen, f"the focus does not show on {target}"


def test_a_round_without_a_mouse(projects, serve, visit):
    server = serve(projects.spread("keyboard", 100))
    lee = visit(server, "Lee").open()
    expect(lee["name-input"]).to_be_focused()
    lee.page.keyboard.type("Lee")
    lee.press("Enter")
    for _ in range(4):
        lee.say_right()
    # A button reached with Tab: it takes Enter, and the focus shows.
    caption = lee.caption()
    tab_to(lee, lee["cannot-tell"])
    lee.press("Enter")
    lee.keep(caption, "skip", ())
    assert lee.caption() != caption
    with lee.page.expect_response("**/api/grid") as reply:
        lee.press("g")
    found = reply.value.json()
    expect(lee["grid-tile"].first).to_be_focused()
    if len(found["cards"]) > 1:
        lee.press("ArrowRight")
        expect(lee["grid-tile"].nth(1)).to_be_focused()
        lee.press(" ")
        expect(lee["grid-tile"].nth(1)).to_have_attribute("aria-pressed", "true")
        del found["cards"][1]
    lee.press("Enter")
    for card in found["cards"]:
        kind = "confirm" if card["proposed"] == found["proposed"] else "correct"
        lee.keep(lee.book.captions[card["query_id"]], kind, [found["proposed"]])
    expect(lee["toast"]).to_contain_text("confirmed as")
    lee.press("Escape")
    answer_the_rest(lee)
    lee.all_sent()
    lee.check_ledger()
    tab_to(lee, lee.at("#resting-link"))
    lee.press("Enter")
    expect(lee["spread-accept"]).to_be_enabled()
    tab_to(lee, lee["spread-threshold"])
    lee.press("ArrowRight")
    expect(lee.at("output[for=spread-threshold]")).to_have_text("1\u202f%")
    lee.page.keyboard.press("Shift+Tab")
    expect(lee["spread-accept"]).to_be_focused()
    lee.press("Enter")
    expect(lee["toast"].last).to_contain_text("automatic correction")
    with Project(server.folder) as project:
        assert (project.state().source == AUTOMATIC).any() and next_stage(project) == (1, "train")


# ---- cutting --------------------------------------------------------------------------------------------------------


def test_a_mask_is_cut_into_parts(many, visit, shoot):
    ira = visit(many, "Ira").enter()
    ira.ready()
    # A mask of some size, so that there is something to cut.
    for _ in range(40):
        query = ira.query()
        area = int(re.sub(r"\D", "", ira.caption().split("·")[1]))
        if area > 60 and len(query.suggestions) > 2 and len(many.book.by_caption[ira.caption()]) == 1:
            break
        ira.say(["x"], "skip")
    with ira.page.expect_response("**/parts") as reply:
        ira.press("c")
    count = reply.value.json()["parts"]
    assert count >= 3
    line = ira.at("#split-dialog [role=status]")
    expect(line).to_contain_text("Choose a class, then click")
    caption, names = ira.caption(), list(dict.fromkeys([query.proposed, *query.suggestions]))
    # The first part by keys, the second void, the third clicked, the rest of the third class.
    ira.press("Tab", "2")
    expect(line).to_have_text(f"1 of {count} parts have a class.")
    ira.press("0")
    expect(line).to_have_text(f"2 of {count} parts have a class.")
    shoot(ira, "cut")
    ira.press("Backspace", "0")
    ira.press("3", "r")
    expect(line).to_have_text("All parts have a class.")
    ira["cut-save"].click()
    expect(ira.at("#split-dialog")).to_be_hidden()
    used = sorted({names[1], names[2]})
    ira.keep(caption, "classes", used)
    ira.say(["x"], "skip")
    ira.all_sent()
    ira.check_ledger()
    with Project(many.folder) as project:
        (answer,) = [a for a, _ in project.ledger.answers() if a.annotator == "Ira" and a.kind == "classes"]
        assert answer.pixels
        said = project.answered_pixels(answer.pixels)
        inside = np.isin(project.mask_map(project.all_images[query.image]), query.mask_ids)
    assert (said[~inside] == KEEP).all() and (said[inside] != KEEP).all()
    assert set(np.unique(said[inside]).tolist()) >= set(used)


def test_a_mask_is_cut_by_clicks(many, visit):
    joy = visit(many, "Joy").enter()
    # The cross begins in the middle of the mask's box: a mask that is there.
    with Project(many.folder) as project:
        while True:
            query, caption = joy.query(), joy.caption()
            inside = np.isin(project.mask_map(project.all_images[query.image]), query.mask_ids)
            rows, columns = np.nonzero(inside)
            x, y = int(columns.min() + columns.max() + 1) // 2, int(rows.min() + rows.max() + 1) // 2
            if inside[y, x] and query.proposed is not None and len(many.book.by_caption[caption]) == 1:
                break
            joy.say(["x"], "skip")
    joy.press("c")
    joy.page.get_by_role("button", name="Click points").click()
    joy.at("#split-dialog canvas").focus()
    joy.press(" ")
    expect(joy.at("#split-dialog [role=status]")).to_have_text("1 point set.")
    expect(joy["cut-save"]).to_be_enabled()
    joy.press("Enter")
    joy.keep(caption, "classes", [query.proposed])
    joy.ready()
    joy.all_sent()
    joy.check_ledger()
    with Project(many.folder) as project:
        (answer,) = [a for a, _ in project.ledger.answers() if a.annotator == "Joy" and a.kind == "classes"]
        said = project.answered_pixels(answer.pixels)
    assert (said[~inside] == KEEP).all() and said[y, x] == query.proposed


# ---- phones ---------------------------------------------------------------------------------------------------------


def swipe(person, by):
    """A finger on the picture, from its middle to the side."""
    box = person["canvas"].bounding_box()
    x, y = box["x"] + box["width"] / 2 - by / 2, box["y"] + box["height"] / 2
    hand = person.context.new_cdp_session(person.page)
    hand.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        hand.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + by * step / 5, "y": y}]})
    hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    hand.detach()


def test_a_phone(many, visit):
    max_ = visit(many, "Max", viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    max_.open()
    max_["name-input"].fill("Max")
    max_["name-save"].tap()
    query, caption = max_.query(), max_.caption()
    max_["keep"].tap()
    max_.keep(caption, "confirm", [query.proposed])
    query, caption = max_.query(), max_.caption()
    max_["suggestion-2"].tap()
    named = query.suggestions[1]
    max_.keep(caption, "confirm" if named == query.proposed else "correct", [named])
    for testid, kind in (("mixed", "mixed"), ("void", "void"), ("cannot-tell", "skip")):
        caption = max_.caption()
        max_[testid].tap()
        max_.keep(caption, kind, ())
    query, caption = max_.query(), max_.caption()
    swipe(max_, 160)
    expect(max_["history-entry"].first).to_contain_text("kept")
    max_.keep(caption, "confirm", [query.proposed])
    caption = max_.caption()
    swipe(max_, -160)
    expect(max_["history-entry"].first).to_contain_text("skipped for now")
    assert max_.caption() != caption
    # A finger's tip finds every button that answers, and the answers need no scrolling.
    for testid in ("keep", "suggestion-1", "suggestion-2", "skip", "cannot-tell", "mixed", "void", "undo"):
        box = max_[testid].bounding_box()
        assert box["height"] >= 36 and box["width"] >= 44, f"{testid}: {box}"
    box = max_["keep"].bounding_box()
    assert box["y"] + box["height"] <= PHONE["height"], "the answer is out of sight"
    max_.all_sent()
    max_.check_ledger()
