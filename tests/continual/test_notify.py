"""People are told by real HTTP, at least once each, whatever the other side does, and no secret is told."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.continual import notify
from k2model.continual.entries import Arrival, Becomes, Start, TurnBegan, TurnEnded
from k2model.continual.ledger import Ledger
from k2model.continual.notify import tell, tell_failure
from k2model.continual.state import Outcome, Standing
from k2model.continual.verdict.comparison import compared_step
from k2model.recipe import Recipe
from k2model.recipe.continual import ContinualConfig, NotifyConfig
from k2model.recipe.laptop import laptop
from tests.continual import samples
from tests.continual.compared import flips, nats, side

SECRET = "T0KEN-of-the-hook"


@dataclass
class Hook:
    """answers: a status for each request in turn, the last one for all further; pause: before each."""

    answers: list[int] = field(default_factory=lambda: [200])
    pause: float = 0.0
    location: str = ""
    taken: list[dict] = field(default_factory=list)
    asked: int = 0
    url: str = ""


@pytest.fixture
def hook() -> Iterator[Hook]:
    state = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(state.pause)
            status = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            if status == 200:
                state.taken.append({"path": self.path, **body})
            self.send_response(status)
            if state.location:
                self.send_header("Location", state.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, hook: Hook) -> None:
    monkeypatch.setattr(notify, "PAUSE", 0.02)
    monkeypatch.setenv("HOOK", hook.url)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def recipe(**changes: object) -> Recipe:
    config = NotifyConfig(webhook_env="HOOK", attempts=3, timeout_seconds=0.4)
    continual = ContinualConfig(tuned="sft", default_loss=0.3, notify=replace(config, **changes))  # type: ignore[arg-type]
    return replace(laptop(), name="line", continual=continual)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """A refused turn, a quarantined batch, and what is nobody's business."""
    ledger = Ledger.open(store, "line")
    state = ledger.append("start", Start(samples.model(store), samples.corpus(store)), after=0)
    state = ledger.append("turn_ended", samples.idle(1), after=state)
    state = ledger.append("arrival", Arrival("2026-01-02T00:00:00Z", samples.batch(store, "mon")), after=state)
    poisoned = replace(samples.batch(store, "bad", Standing.QUARANTINED), reason="a trigger <b>recurs</b>")
    state = ledger.append("arrival", Arrival("2026-01-02T00:00:00Z", poisoned), after=state)
    state = ledger.append("turn_began", TurnBegan(samples.began(2, "mon")), after=state)
    right = flips(64, 40, 2, 30)
    first = side(store, "the lifecycle's", {"sums/low": right[0]}, new={"facts": nats(2, 9, 7)})
    second = side(store, "turn 2", {"sums/low": right[1]}, new={"facts": nats(2, 9, 7, -0.2)})
    verdict = make(store, compared_step(store, first, second, recipe().continual))
    ended = replace(samples.ended(store, 2, Outcome.REFUSED, "mon"), verdict=verdict, reason="sums/low is worse")
    ledger.append("turn_ended", TurnEnded(ended, {"mon": Becomes(Standing.WAITING, "again", 1)}), after=state)
    return ledger


def test_each_entry_is_told_once_with_every_number(store: Store, ledger: Ledger, hook: Hook) -> None:
    assert tell(store, recipe(), ledger) == 2
    batch, turn = hook.taken
    assert (batch["id"], batch["kind"], batch["batch"]) == ("line/4", "quarantined", "bad")
    assert (turn["kind"], turn["turn"], turn["batches"], turn["champion"]) == ("refused", 2, ["mon"], None)
    assert turn["text"].startswith("line: turn 2 is refused: sums/low is worse (batches: mon)")
    (row,) = [row for row in turn["verdict"]["rows"] if row["score"] == "sums/low"]
    assert (row["n"], row["lost"], row["allowed"], row["outcome"]) == (64, 30, 0.3, "worse")
    assert tell(store, recipe(), ledger) == 0 and hook.asked == 2
    assert tell_failure(store, recipe(), "2026-01-03T02:00:00Z", "turn", "a node was lost") == 1
    assert tell_failure(store, recipe(), "2026-01-03T02:00:00Z", "turn", "a node was lost") == 0
    assert hook.taken[-1]["reason"] == "a node was lost" and hook.taken[-1]["kind"] == "failed"


def test_slack_gets_text_alone_and_no_markup(store: Store, ledger: Ledger, hook: Hook) -> None:
    assert tell(store, recipe(webhook_env="", slack_env="HOOK"), ledger) == 2
    assert set(hook.taken[0]) == {"path", "text", "mrkdwn"}
    assert "a trigger &lt;b&gt;recurs&lt;/b&gt;" in hook.taken[0]["text"]


def test_an_endpoint_that_is_down_costs_nothing_and_is_told_by_the_next_run(
    store: Store, ledger: Ledger, hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:9/{SECRET}")
    with caplog.at_level(logging.WARNING):
        assert tell(store, recipe(), ledger) == 0
    (line,) = caplog.messages
    assert line == "webhook did not take '00000004': Connection refused; the next run tries again"
    monkeypatch.setenv("HOOK", hook.url)
    assert tell(store, recipe(), ledger) == 2 and [one["entry"] for one in hook.taken] == [4, 6]


def test_a_slow_endpoint_is_not_waited_for(
    store: Store, ledger: Ledger, hook: Hook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook.pause = 5.0
    began = time.monotonic()
    assert tell(store, recipe(attempts=2, timeout_seconds=0.2), ledger) == 0
    assert (time.monotonic() - began < 2.0 and "seconds" in caplog.text) or "TimeoutError" in caplog.text
    monkeypatch.setattr(notify, "AT_MOST", 0.3)  # of all attempts together, whatever the recipe says
    began = time.monotonic()
    assert tell(store, recipe(attempts=100, timeout_seconds=60.0), ledger) == 0
    assert time.monotonic() - began < 2.0


def test_an_error_of_the_server_is_tried_again_and_one_of_ours_is_not(
    store: Store, ledger: Ledger, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [500, 503, 200]
    assert tell(store, recipe(), ledger) == 2 and hook.asked == 4
    again = Ledger.open(other := Store.open(store.uri + "-other"), "line")
    state = again.append("start", Start(samples.model(other), samples.corpus(other)), after=0)
    poisoned = replace(samples.batch(other, "bad", Standing.QUARANTINED))
    again.append("arrival", Arrival("2026-01-02T00:00:00Z", poisoned), after=state)
    hook.answers, hook.asked = [404], 0
    assert tell(other, recipe(), again) == 0 and hook.asked == 1 and "HTTP 404" in caplog.text


def test_a_notice_that_is_not_taken_holds_up_no_other(store: Store, ledger: Ledger, hook: Hook) -> None:
    hook.answers = [413, 200]
    assert tell(store, recipe(), ledger) == 1 and [one["entry"] for one in hook.taken] == [6]
    assert tell(store, recipe(), ledger) == 1 and [one["entry"] for one in hook.taken] == [6, 4]


def test_a_turn_whose_verdict_is_damaged_is_told_all_the_same(store: Store, ledger: Ledger, hook: Hook) -> None:
    path = Path(ledger.state().turns[-1].verdict.uri) / "verdict.json"  # type: ignore[union-attr]
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert tell(store, recipe(), ledger) == 2 and "verdict.json" in hook.taken[1]["verdict"]["unreadable"]


def test_no_redirect_is_followed(store: Store, ledger: Ledger, hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.answers, hook.location = [302], hook.url + "/elsewhere"
    assert tell(store, recipe(), ledger) == 0 and hook.asked == 1 and "HTTP 302" in caplog.text


def test_killed_between_the_post_and_its_marker_it_is_told_again(
    store: Store, ledger: Ledger, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is a post without a marker."""
    real = notify._markers

    class Killed(BaseException):
        pass

    class Dying:
        def __init__(self, files: object) -> None:
            self.files = files

        def sizes(self) -> dict[str, int]:
            return self.files.sizes()  # type: ignore[attr-defined,no-any-return]

        def create(self, *_: object) -> bool:
            raise Killed

    monkeypatch.setattr(notify, "_markers", lambda *of: Dying(real(*of)))
    with pytest.raises(Killed):
        tell(store, recipe(), ledger)
    monkeypatch.setattr(notify, "_markers", real)
    assert tell(store, recipe(), ledger) == 2
    assert [one["entry"] for one in hook.taken] == [4, 4, 6]  # at least once; `id` tells which is which


@pytest.mark.parametrize(
    "address", ["", "ftp://127.0.0.1/x", f"http://example.org/{SECRET}", "http://127.0.0.1.example.org/", "https://:x/"]
)
def test_a_secret_is_sent_by_https_alone_and_never_logged(
    store: Store, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    monkeypatch.setenv("HOOK", address)
    assert tell(store, recipe(), ledger) == 0
    assert "HOOK" in caplog.text and SECRET not in caplog.text and "example.org" not in caplog.text


def test_whoever_names_a_channel_later_is_not_told_what_is_long_past(store: Store, ledger: Ledger, hook: Hook) -> None:
    assert tell(store, recipe(webhook_env=""), ledger) == 0
    assert tell(store, recipe(), ledger) == 0 and hook.asked == 0
    state = ledger.state()
    mended = replace(samples.batch(store, "worse", Standing.QUARANTINED))
    ledger.append("arrival", Arrival("2026-01-03T00:00:00Z", mended), after=state)
    assert tell(store, recipe(), ledger) == 1


def test_nothing_is_raised_whatever_is_broken(store: Store, hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(store, "line")
    ledger.append("start", Start(samples.model(store), samples.corpus(store)), after=0)
    path = next((Path(store.uri) / "_continual").rglob("ledger/*.json"))
    path.write_bytes(b"{")
    assert tell(store, recipe(), Ledger.open(store, "line")) == 0 and "not told" in caplog.text
