"""Somebody who has just started dwctl for the first time: from the sign-in to the cost of a first request, with a mouse or with keys."""

import contextlib
import re
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from playwright.sync_api import Locator, expect

from tests.appliance import ADMIN_EMAIL, FROM_SOURCE, Appliance, Simulator, environment, until
from tests.browser.conftest import PASSWORD, Site, Watched

INPUT_PRICE, OUTPUT_PRICE = "2.50", "10.000001"
MOST_KEYS = 120
"""Tabs on the way to anything."""

_SEEN = """() => {
  const at = document.activeElement;
  if (!at || at === document.body || at === document.documentElement) return "nothing has the focus";
  const box = at.getBoundingClientRect(), ring = [at, at.closest("tr")].some((shown) => {
    const style = shown && getComputedStyle(shown);
    return style && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  });
  const what = `${at.tagName} ${(at.getAttribute("aria-label") || at.textContent || at.name || "").trim().slice(0, 40)}`;
  if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) return `out of view: ${what}`;
  return ring ? "" : `no ring: ${what}`;
}"""


@contextlib.contextmanager
def first_start(directory: Path, program: Sequence[str] = FROM_SOURCE) -> Iterator[Site]:
    """A server without any data, whose administrator has the password that was printed, and a provider to be found."""
    directory.mkdir(parents=True, exist_ok=True)
    cheap = {"auth": {"native": {"password": {"argon2_memory_kib": 8, "argon2_iterations": 1}}}}
    simulator = Simulator(directory, program, "--api-key", "provider-key")
    appliance = Appliance(directory, program=program, settings={**cheap, "admin_password": None})
    try:
        appliance.start()
        yield Site(appliance, simulator)
    finally:
        appliance.close()
        simulator.close()


def printed_password(appliance: Appliance) -> str:
    """What the terminal said."""
    found = until(lambda: re.search(r"with the password (\S+) ", appliance.log.read_text()), 10, "the password is printed")
    return str(found.group(1))


@dataclass
class Hand:
    """Works a window with the mouse, and counts."""

    window: Watched
    clicks: int = 0
    fields: int = 0
    pages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window.page.on("domcontentloaded", lambda page: self.pages.append(urlsplit(page.url).path))

    def press(self, target: Locator) -> None:
        """A link or a button."""
        self.clicks += 1
        target.click()

    def toggle(self, target: Locator) -> None:
        """A checkbox."""
        self.press(target)

    def write(self, target: Locator, text: str) -> None:
        self.fields += 1
        target.fill(text)

    def send(self, button: Locator) -> None:
        """The form that was just written into."""
        self.press(button)

    def linger(self, target: Locator) -> None:
        """Be there, and do nothing."""

    def look(self) -> None:
        """See where one is."""

    def go(self, name: str, key: str) -> None:
        """A page of the navigation; ``key`` is the one after g."""
        self.press(self.window.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True))


@dataclass
class Keys(Hand):
    """Works a window by keyboard alone, and looks where the focus is after every key."""

    unseen: list[str] = field(default_factory=list)

    def press(self, target: Locator) -> None:
        self.reach(target)
        self.key("Enter")

    def toggle(self, target: Locator) -> None:
        self.reach(target)
        self.key("Space")
        self.look()

    def write(self, target: Locator, text: str) -> None:
        self.fields += 1
        self.reach(target)
        self.key("Control+A")
        self.window.page.keyboard.type(text)
        self.look()

    def send(self, button: Locator) -> None:
        expect(button).to_be_visible()
        self.key("Enter")

    def go(self, name: str, key: str) -> None:
        # Keys of the page are not heard where somebody writes.
        expect(self.window.page.locator("input:focus, textarea:focus")).to_have_count(0)
        self.key("g")
        self.key(key)

    def linger(self, target: Locator) -> None:
        self.reach(target)

    def key(self, key: str) -> None:
        self.clicks += 1
        self.window.page.keyboard.press(key)

    def look(self) -> None:
        """The focus is somewhere, and can be seen."""
        wrong = self.window.page.evaluate(_SEEN)
        if wrong:
            self.unseen.append(f"{self.window.page.url}: {wrong}")

    def reach(self, target: Locator) -> None:
        target.wait_for()
        for _ in range(MOST_KEYS):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.key("Tab")
            # After the last thing of a page comes the browser's own frame.
            if self.window.page.evaluate("document.activeElement !== document.body"):
                self.look()
        raise AssertionError(f"not reached by keyboard: {target}")


@dataclass
class Newcomer:
    """What somebody does who has the pages and nothing else. Each step begins where the step before has led."""

    site: Site
    hand: Hand
    request_id: str = ""

    @property
    def page(self) -> Any:
        return self.hand.window.page

    def _button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)  # type: ignore[no-any-return]

    def _link(self, name: str) -> Locator:
        return self.page.get_by_role("main").get_by_role("link", name=name, exact=True)  # type: ignore[no-any-return]

    def _field(self, label: str) -> Locator:
        return self.page.get_by_label(label).first  # type: ignore[no-any-return]

    def steps(self) -> dict[str, bool]:
        """The set-up list of Home: step -> done."""
        return {
            step.get_attribute("data-step"): step.get_attribute("data-done") == "yes" for step in self.page.locator("[data-step]").all()
        }

    def sign_in(self) -> None:
        """With the printed password, which must be changed at once."""
        hand, made = self.hand, printed_password(self.site.appliance)
        hand.window.open("/")
        hand.write(self._field("E-mail address"), ADMIN_EMAIL)
        hand.write(self._field("Password"), made)
        hand.send(self._button("Sign in"))
        self.page.wait_for_url("**/password*")
        hand.write(self._field("Present password"), made)
        hand.write(self.page.get_by_label("New password", exact=True), PASSWORD)
        hand.write(self._field("New password again"), PASSWORD)
        hand.send(self._button("Save password"))
        expect(self.page.locator("[data-step]")).to_have_count(7)
        assert self.steps() == {"password": True} | dict.fromkeys(("endpoint", "model", "share", "key", "request", "price"), False)

    def add_endpoint(self) -> None:
        """The wizard: reach the provider, choose two of its models, share them with everyone at a price."""
        hand = self.hand
        hand.press(self._link("Add endpoint"))
        hand.write(self.page.get_by_label("Name", exact=True), "provider")
        hand.write(self.page.get_by_label("URL", exact=True), self.site.simulator.url)
        hand.write(self._field("API key"), "provider-key")
        hand.send(self._button("Test connection"))
        expect(self.page.locator("main")).to_contain_text("provider answered in")
        for name in ("sim-image", "sim-rerank", "sim-speech", "sim-transcribe"):
            hand.toggle(self._field(f"Take in {name}"))
        hand.press(self._button("Take in chosen models"))
        self.page.wait_for_url("**/share")
        expect(self._field("Everyone")).to_be_checked()
        expect(self.page.locator("main")).to_contain_text("Nobody may use these 2 models yet")
        hand.write(self._field("Input"), INPUT_PRICE)
        hand.write(self._field("Output"), OUTPUT_PRICE)
        hand.send(self._button("Share"))
        self.page.wait_for_url("**/ready")

    def find_credits(self) -> None:
        """What has a price is refused to an account without credits: the wizard's end says so and leads to giving some."""
        hand = self.hand
        expect(self.page.locator("main")).to_contain_text("costs credits and your account has none")
        hand.press(self._link("Give yourself credits"))
        hand.write(self._field("Amount"), "5")
        hand.write(self._field("Reason"), "to begin with")
        hand.send(self._button("Book"))
        expect(self.page.locator("#toasts")).to_contain_text("given to")

    def make_key(self) -> str:
        """From Home's list to the page that shows the secret; the line for the terminal as it stands there."""
        hand = self.hand
        hand.go("Home", "h")
        expect(self.page.locator("[data-step=credit]")).to_have_attribute("data-done", "yes")
        assert [name for name, done in self.steps().items() if not done] == ["key", "request"]
        hand.press(self._link("New key"))
        hand.write(self.page.get_by_label("Name", exact=True), "first")
        hand.send(self._button("Create key"))
        expect(self.page.get_by_label("Secret key")).to_be_visible()
        expect(self.page.locator("main")).not_to_contain_text("costs credits")
        return str(self.page.locator("figure.snippet code").first.inner_text())

    def await_request(self, line: str, *, scripts: bool = True) -> None:
        """Home waits for the first request, which the line makes; the step ticks itself on the page that is open."""
        hand = self.hand
        hand.press(self._link("I have stored it"))
        self.page.wait_for_url(re.compile(r"/keys/[0-9a-f-]+$"))
        hand.go("Home", "h")
        step = self.page.locator("[data-step=request]")
        expect(step.locator(".snippet")).to_contain_text("/chat/completions")
        if scripts:
            expect(step.locator("live-feed")).to_have_attribute("state", "live")
            self.page.evaluate("window.notReloaded = true")
            hand.linger(step.get_by_role("link", name="Look again"))
        done = run(line)
        assert '"choices"' in done.stdout, done.stdout + done.stderr
        if not scripts:
            until(self._recorded, 10, "the request is in the log")
            expect(step).to_have_attribute("data-done", "no")
            hand.press(self._link("Look again"))
        if scripts:
            expect(step).to_have_attribute("data-done", "yes")
            assert self.page.evaluate("window.notReloaded")
            expect(self.page.locator("#checklist")).to_contain_text("Set-up complete")
            hand.look()
        else:
            # The last step is done, and the list has gone.
            expect(self.page.locator("[data-step]")).to_have_count(0)

    def _recorded(self) -> bool:
        with contextlib.closing(sqlite3.connect(self.site.appliance.data_dir / "dwctl.db")) as database:
            return bool(database.execute("SELECT count(*) FROM requests").fetchone()[0])

    def inspect(self) -> str:
        """From the newest requests of Home to the one that was made; the charge that its page shows."""
        row = self.page.locator("live-tail tr[data-request]").first
        expect(row).to_be_visible()
        self.request_id = str(row.get_attribute("data-request"))
        self.hand.press(row.get_by_role("link").first)
        expect(self.page.locator("[data-charged]")).to_be_visible()
        return str(self.page.locator("[data-charged] data").get_attribute("value"))

    def whole_way(self, *, scripts: bool = True) -> str:
        """All of it; the charge."""
        self.sign_in()
        self.add_endpoint()
        self.find_credits()
        self.await_request(self.make_key(), scripts=scripts)
        return self.inspect()


def run(line: str) -> subprocess.CompletedProcess[str]:
    """What somebody pastes into a terminal."""
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), timeout=30, check=True)


def booked(appliance: Appliance, request_id: str) -> int:
    """The ledger's charge of a request in nano-credits, read from the database."""
    database = sqlite3.connect(f"file:{appliance.data_dir / 'dwctl.db'}?mode=ro", uri=True)
    with contextlib.closing(database):
        rows = database.execute(
            "SELECT amount_nano FROM credits_transactions WHERE transaction_type = 'usage' AND source_id = ?", (str(UUID(request_id)),)
        ).fetchall()
    assert len(rows) == 1, rows
    return int(rows[0][0])
