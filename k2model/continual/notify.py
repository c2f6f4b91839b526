"""People are told what became of turns, batches and champions: by Slack, and by a webhook that takes JSON.

What is told are entries of the ledger, each once a channel: a marker in the store says so, made when the other side has
taken it (`_continual/<line>/told/00000012-slack`). Whoever is killed between the two tells it again, so a reader of the
webhook takes `id` for what it has seen: every entry arrives at least once. An endpoint that is down delays nothing: a
run tries for `AT_MOST` seconds in all, and the next one goes on where it stopped. E-mail is the orchestrator's.

Addresses come from the environment and are secrets: none is logged or stored, redirects are not followed, and plain
http goes to this machine alone.
"""

import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.continual.entries import Arrival, Promote, Rollback, TurnEnded
from k2model.continual.ledger import FOLDER, Entry, Ledger
from k2model.continual.state import Annealed, Judged, Outcome, Standing
from k2model.continual.verdict.comparison import PAGE, read_verdict
from k2model.errors import ArtifactError, K2Error, visible
from k2model.plain import to_plain
from k2model.recipe import Recipe
from k2model.recipe.continual import NotifyConfig
from k2model.settings import Location

AT_MOST = 45.0  # seconds that a run spends on telling, whatever the recipe's time-outs
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST = 3000  # characters of a text for people
SEEN = "through"  # a marker beside those of channels: everything up to this entry was told on every one
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """key: names it among the markers. content: every number of it, as the webhook has it."""

    key: str
    text: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Channel:
    """variable: of the environment, with its address. body: what it is sent of a notice."""

    name: str
    variable: str
    body: Callable[[Notice], Mapping[str, Any]]


class NotTaken(Exception):
    """The other side did not take a notice; says why without its address. final: asking again at once is in vain.
    alone: it is this notice that it does not take, others it may."""

    def __init__(self, why: str, final: bool = False, alone: bool = False) -> None:
        super().__init__(why)
        self.final, self.alone = final, alone


def tell(store: Store, recipe: Recipe, ledger: Ledger) -> int:
    """Tells what has not been told; gives how many notices were taken. Raises nothing: what fails is one line in the
    log, and is tried again by the next run."""
    return _guarded(lambda: _tell(store, recipe, ledger))


def tell_failure(store: Store, recipe: Recipe, kickoff: str, what: str, error: str) -> int:
    """The same for a run that failed, which is no entry of the ledger: once for each kickoff and failure."""
    text = f"{recipe.name}: {what} of {kickoff} failed: {error}"
    key = f"failed-{fingerprint([kickoff, what, error])[:16]}"
    content = {"kind": "failed", "line": recipe.name, "kickoff": kickoff, "what": what, "reason": error}
    notice = Notice(key, text, {"id": f"{recipe.name}/{key}", **content})
    return _guarded(lambda: _send_all(store, recipe, [notice], time.monotonic() + AT_MOST)[0])


def _guarded(telling: Callable[[], int]) -> int:
    """A turn that has ended has ended, whether or not people can be told: nothing of this may fail it."""
    try:
        return telling()
    except K2Error as error:
        _log.warning("not told: %s", error)
    except Exception as error:  # whatever a library raises, its text may hold an address
        _log.warning("not told: %s", type(error).__name__)
    return 0


def _tell(store: Store, recipe: Recipe, ledger: Ledger) -> int:
    deadline, markers = time.monotonic() + AT_MOST, _markers(store, recipe)
    through = max([int(name[:8]) for name in _names(markers) if name.endswith(f"-{SEEN}")], default=0)
    last, notices = through, []
    for entry in ledger.entries(through):
        last = entry.number
        if (notice := notice_of(store, recipe.name, entry)) is not None:
            notices.append(notice)
    told, done = _send_all(store, recipe, notices, deadline)
    if done and last > through:
        markers.create(f"{last:08d}-{SEEN}", b"")
    return told


def _send_all(store: Store, recipe: Recipe, notices: list[Notice], deadline: float) -> tuple[int, bool]:
    """(How many were taken, whether nothing is left). A channel that fails is left alone until the next run."""
    config, markers = recipe.continual.notify, _markers(store, recipe)
    there, told, done = set(_names(markers)), 0, True
    for channel in channels(config):
        for notice in notices:
            if (marker := f"{notice.key}-{channel.name}") in there:
                continue
            try:
                _send(channel, notice, config, deadline)
            except NotTaken as failed:
                _log.warning("%s did not take '%s': %s; the next run tries again", channel.name, notice.key, failed)
                done = False
                if failed.alone:
                    continue
                break
            markers.create(marker, b"")
            told += 1
    return told, done


def _markers(store: Store, recipe: Recipe) -> Any:
    return store.files_of(f"{FOLDER}/{recipe.name}/told")


def _names(markers: Any) -> Iterator[str]:
    return (path for path in markers.sizes() if "/" not in path)


def channels(config: NotifyConfig) -> list[Channel]:
    """Those that a recipe names."""
    known = [
        Channel("slack", config.slack_env, lambda notice: {"text": slack_text(notice.text), "mrkdwn": False}),
        Channel("webhook", config.webhook_env, lambda notice: {"text": notice.text, **notice.content}),
    ]
    return [one for one in known if one.variable]


def slack_text(text: str) -> str:
    """What Slack would take for markup is escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def notice_of(store: Store, line: str, entry: Entry) -> Notice | None:
    """What people are told of an entry; None where it is none of theirs: idle turns, accepted and refused batches."""
    said, text = entry.content, ""
    content: dict[str, Any] = {}
    if isinstance(said, TurnEnded | Annealed) and said.ended.outcome is not Outcome.IDLE:
        ended = said.ended
        content = {
            "kind": ended.outcome.value, "turn": ended.turn, "kickoff": ended.kickoff, "reason": ended.reason,
            "batches": [*ended.batches], "trained_tokens": ended.trained_tokens, "champion": ended.champion,
            "gates": to_plain(ended.gates),
        }  # fmt: skip
        text = f"turn {ended.turn} is {ended.outcome.value}: {ended.reason} (batches: {', '.join(ended.batches)})"
        if isinstance(said, Annealed):
            content["kind"] = "annealed"
            text = f"{said.began.challenger}: {ended.released}: {ended.reason}"
        if ended.verdict:
            content["verdict"] = {"uri": ended.verdict.uri, **_verdict(store, ended.verdict)}
            text = f"{_cut(text)}\n{ended.verdict.uri}/{PAGE}"
    elif isinstance(said, Arrival) and said.batch.standing is Standing.QUARANTINED:
        batch = said.batch
        uri = batch.arrival.uri if batch.arrival else ""
        content = {"kind": "quarantined", "batch": batch.name, "reason": batch.reason, "evidence": uri}
        text = f"batch {batch.name} is quarantined: {batch.reason}" + (f"\n{uri}" if uri else "")
    elif isinstance(said, Judged):
        content = {
            "kind": said.outcome.value, "model": said.name, "reason": said.reason, "gates": to_plain(said.gates),
            "champion": said.champion, "who": said.who, "why": said.why,
        }  # fmt: skip
        text = f"{said.name} is {said.outcome.value}: {said.reason}"
        if said.verdict:
            content["verdict"] = {"uri": said.verdict.uri, **_verdict(store, said.verdict)}
            text = f"{_cut(text)}\n{said.verdict.uri}/{PAGE}"
    elif isinstance(said, Rollback):
        content = {"kind": "rollback", "to": said.to, "reason": said.reason, "who": said.who, "kickoff": said.kickoff}
        text = f"rolled back to {f'turn {said.to}' if said.to > 0 else 'the model of a lifecycle'}: {said.reason}"
    elif isinstance(said, Promote):
        content = {"kind": "promoted", "turn": said.turn, "reason": said.reason, "who": said.who,
                   "gates": to_plain(said.gates)}  # fmt: skip
        text = f"turn {said.turn} is promoted by {said.who or 'a person'}{f': {said.reason}' if said.reason else ''}"
    if not content:
        return None
    told = {"id": f"{line}/{entry.number}", "line": line, "entry": entry.number, **content}
    return Notice(f"{entry.number:08d}", visible(_cut(f"{line}: {text}")), told)


def _verdict(store: Store, ref: ArtifactRef) -> dict[str, Any]:
    """Every number of it; where it cannot be read, people are told of the turn all the same."""
    try:
        return read_verdict(store, ref).to_dict()
    except ArtifactError as error:
        return {"unreadable": str(error)}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _send(channel: Channel, notice: Notice, config: NotifyConfig, deadline: float) -> None:
    """Sends until it is taken. Raises NotTaken."""
    address = _address(channel)
    body = json.dumps(channel.body(notice), ensure_ascii=False).encode()
    pause = PAUSE
    for attempt in range(1, max(1, config.attempts) + 1):
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotTaken(f"the {AT_MOST:g} seconds for telling are over")
        try:
            return _within(min(config.timeout_seconds, left), lambda seconds: post(address.whole, body, seconds))
        except NotTaken as failed:
            if failed.final or attempt >= config.attempts or time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)
        pause *= 2


def _address(channel: Channel) -> Location:
    """Raises NotTaken for one that is not set, or that a secret may not be sent to."""
    address = os.environ.get(channel.variable, "").strip()
    if not address:
        raise NotTaken(f"the environment has no {channel.variable}, which the recipe names", final=True)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)):
        raise NotTaken(f"{channel.variable} holds no https address (plain http goes to this machine alone)", final=True)
    return Location(address)


def _within(seconds: float, sending: Callable[[float], None]) -> None:
    """A sending with an end: looking a name up has no time-out, and a server may answer a byte at a time. What hangs is
    left behind in a thread that ends with the process."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            sending(seconds)
        except BaseException as error:  # handed to the caller below
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise NotTaken(f"no answer within {seconds:.3g} seconds")
    if failed:
        raise failed[0]


class _Staying(HTTPRedirectHandler):
    """Follows no redirect: what it names has no claim on what is told."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(address: str, body: bytes, seconds: float) -> None:
    """Raises NotTaken for whatever is no 2xx answer."""
    request = Request(address, body, {"Content-Type": "application/json", "User-Agent": "k2model"}, method="POST")
    try:
        near = [ProxyHandler({})] if urlsplit(address).hostname in LOOPBACK else []  # no proxy sees what stays here
        with build_opener(_Staying, *near).open(request, timeout=seconds) as answer:
            status = answer.status
    except OSError as error:  # URLError and HTTPError among them, whose texts may hold the address
        status = getattr(error, "code", None)
        if status is None:
            raise NotTaken(_reason(error)) from None
    except (http.client.HTTPException, ValueError) as error:
        raise NotTaken(type(error).__name__) from None
    if not 200 <= status < 300:
        final = 300 <= status < 500 and status not in (408, 425, 429)
        raise NotTaken(f"HTTP {status}", final, alone=status in (400, 413, 422))


def _reason(error: OSError) -> str:
    """Of a connection that failed, without any name in it."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    return type(cause).__name__
