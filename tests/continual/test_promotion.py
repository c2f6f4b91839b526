"""What MLflow shows of a line's ledger: a real MLflow on SQLite, read back through its own client."""

import http.server
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.continual import promotion
from k2model.continual.entries import Arrival, Becomes, Promote, Rollback, Start, TurnBegan, TurnEnded
from k2model.continual.ledger import Ledger
from k2model.continual.promotion import LONGEST, SHOWN, apply
from k2model.continual.state import Batch, Began, Corpus, Ended, Model, Outcome, Standing, State
from k2model.continual.verdict.comparison import compared_step, verdict_of
from k2model.recipe import Recipe
from k2model.recipe.continual import BatchKind, ContinualConfig
from k2model.recipe.schema import GateConfig
from k2model.registry import RegistryError
from k2model.registry.tracking import tracking
from tests.continual.compared import flips, nats, side
from tests.registry.conftest import RECIPE, make_phase, tracking_uri  # noqa: F401  a fixture

GATE = GateConfig("sft", "arithmetic/low", 0.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def client(tracking_uri: str):  # noqa: F811
    with tracking(tracking_uri) as opened:
        yield opened


@dataclass
class Line:
    """A line whose turns are put into its ledger by hand."""

    uri: str
    store: Store
    recipe: Recipe
    ledger: Ledger

    @staticmethod
    def begun(uri: str, store: Store, name: str) -> "Line":
        recipe = replace(RECIPE, name=name, gates=(GATE,), continual=ContinualConfig(tuned="sft", default_loss=0.3))
        line = Line(uri, store, recipe, Ledger.open(store, name))
        model = line.model(0, 0.8)
        assert line.phase(0, 0.8).register(uri, store, name, (GATE,)).version == 1
        valid = model.made["corpus_valid"]
        line.ledger.append("start", Start(model, Corpus("lifecycle", None, valid, model.made["tokens"])), after=0)
        return line

    def phase(self, turn: int, score: float):
        made = make_phase(self.store, "sft", {"arithmetic/low": score}, steps=3, seed=turn)
        return replace(made, config=replace(made.config, parent=""))

    def model(self, turn: int, score: float) -> Model:
        refs = self.phase(turn, score).references
        made = {f"tuned/{kind}": refs[kind] for kind in ("checkpoint", "export", "scores", "sequences")}
        return Model(turn, made | {"corpus_valid": refs["corpus"], "tokens": refs["sequences"]}, ("lifecycle",))

    def turn(self, number: int, outcome: Outcome, score: float = 0.8) -> None:
        """A whole turn on a batch of its own."""
        state, name = self.ledger.state(), f"day{number}"
        corpus = Corpus(name, None, state.corpora["lifecycle"].valid, state.corpora["lifecycle"].tokens)
        at = f"2026-11-{number:02d}T02:00:00Z"
        batch = Batch(name, BatchKind.TUNED, f"digest {name}", Standing.WAITING, tokens=9, corpus=corpus)
        state = self.ledger.append("arrival", Arrival(at, batch), after=state)
        began = Began(number, at, BatchKind.TUNED, (name,), state.champion or 0)
        state = self.ledger.append("turn_began", TurnBegan(began), after=state)
        verdict = make(self.store, self.verdict(number, outcome))
        ended = Ended(
            number, at, outcome, f"because {number}", (name,), self.model(number, score), verdict, trained_tokens=4096
        )
        becomes = Standing.TAKEN if outcome is Outcome.PROMOTED else Standing.WAITING
        content = TurnEnded(ended, {name: Becomes(becomes, "so", int(outcome is Outcome.REFUSED))})
        self.ledger.append("turn_ended", content, after=state)

    def verdict(self, number: int, outcome: Outcome):
        right = flips(64, 40, 2, 2 if outcome is Outcome.PROMOTED else 30)
        new = {"facts": nats(2.0, 24, 7)}, {"facts": nats(2.0, 24, 7, -0.2)}
        first = side(self.store, f"before {number}", {"arithmetic/low": right[0]}, new=new[0])
        second = side(self.store, f"turn {number}", {"arithmetic/low": right[1]}, new=new[1])
        return compared_step(self.store, first, second, self.recipe.continual)

    def apply(self):
        return apply(self.uri, self.store, self.recipe, self.ledger, lambda ended: self.challenger(ended.turn))

    def challenger(self, turn: int) -> Recipe:
        return replace(self.recipe, phases=(self.phase(turn, 0.0).config,))


def aliases(client, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_a_promoted_turn_is_the_champion_and_says_why(store: Store, tracking_uri: str, client) -> None:  # noqa: F811
    line = Line.begun(tracking_uri, store, "promoted")
    line.turn(1, Outcome.PROMOTED)
    applied = line.apply()
    assert (applied.champion, applied.registered) == (2, 1)
    assert aliases(client, "k2-promoted") == {"sft": "1", "candidate": "2", "champion": "2", "previous": "1"}
    version = client.get_model_version("k2-promoted", "2")
    tags = version.tags
    assert tags["k2.promotion"] == "none: turn 1 decides"
    assert (tags["k2.continual.turn"], tags["k2.continual.outcome"]) == ("1", "promoted")
    assert (tags["k2.continual.batches"], tags["k2.continual.line"]) == ("day1", "promoted")
    assert tags["k2.continual.verdict.digest"] == line.ledger.state().turns[0].verdict.digest
    assert tags["k2.continual.arithmetic/low"].startswith("0.625 → 0.625 (+0.0 points, at worst -")
    assert "allowed -30.0: no worse" in tags["k2.continual.arithmetic/low"]
    assert tags["k2.continual.loss/facts_at_new"].endswith("better)")
    assert tags["k2.parent.version"] == "1"
    assert version.description.startswith("**Turn 1: promoted.** because 1")
    assert "| loss/facts@new | " in version.description and "| better |" in version.description
    run = client.get_run(version.run_id)
    assert run.info.run_name == "sft@2, turn 1" and run.data.tags["k2.continual.batches"] == "day1"
    # The tokens of the line go on from those of the champion's phase.
    first = client.get_model_version("k2-promoted", "1").tags["k2.tokens_seen"]
    assert int(tags["k2.tokens_seen"]) == 2 * int(first)


def test_it_is_repeated_without_a_change_and_nothing_is_lost_while_mlflow_is_down(
    store: Store, tracking_uri: str, client, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    line = Line.begun(tracking_uri, store, "repeated")
    line.turn(1, Outcome.REFUSED)
    line.turn(2, Outcome.PROMOTED)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # only how long it takes to see that nobody is there
    down, line.uri = line.uri, f"http://127.0.0.1:{_closed_port()}"
    with pytest.raises(RegistryError, match="did not take the registration"):
        line.apply()
    line.uri = down
    assert line.apply().registered == 2
    assert line.apply() == line.apply() and line.apply().changed == 0
    assert aliases(client, "k2-repeated") == {"sft": "1", "candidate": "3", "champion": "3", "previous": "1"}
    assert client.get_model_version("k2-repeated", "2").tags["k2.continual.outcome"] == "refused"
    assert len(client.search_model_versions("name = 'k2-repeated'")) == 3
    # Half of it was done when it was killed: the rest follows.
    client.delete_model_version_tag("k2-repeated", "2", SHOWN)
    client.set_registered_model_alias("k2-repeated", "champion", "2")
    applied = line.apply()
    said = "alias champion of k2-repeated was moved by hand from version 3 to version 2 in MLflow"
    assert applied.changed == 2 and applied.by_hand == (f"{said}; it is at version 3 again",)
    assert aliases(client, "k2-repeated")["champion"] == "3"


def _closed_port() -> int:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.server_close).start()
    return server.server_port


def test_after_a_rollback_an_older_version_is_the_champion(store: Store, tracking_uri: str, client) -> None:  # noqa: F811
    line = Line.begun(tracking_uri, store, "undone")
    line.turn(1, Outcome.PROMOTED)
    line.turn(2, Outcome.PROMOTED)
    line.apply()
    assert aliases(client, "k2-undone")["champion"] == "3"
    state = line.ledger.state()
    line.ledger.append("rollback", Rollback(0, "it forgets names", "canary", "2026-11-03T02:00:00Z"), after=state)
    assert line.apply().champion == 1
    assert aliases(client, "k2-undone") == {"sft": "1", "candidate": "3", "champion": "1"}  # nothing before it
    for version in ("2", "3"):
        told = client.get_model_version("k2-undone", version)
        assert told.tags["k2.continual.rolled_back"] == "it forgets names (by canary)"
        assert told.tags["k2.continual.outcome"] == "rolled back"
        assert told.description.startswith("**Rolled back:** it forgets names")


def test_what_mlflow_missed_is_registered_by_recipes_as_they_were_then(
    store: Store, tracking_uri: str, client, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """Both turns ended while it was down, and the second was undone since."""
    line = Line.begun(tracking_uri, store, "missed")
    line.turn(1, Outcome.PROMOTED)
    line.turn(2, Outcome.PROMOTED)
    line.ledger.append("rollback", Rollback(1, "in doubt"), after=line.ledger.state())
    seen = []

    def continued(_: Store, recipe: Recipe, state: State, began: Began) -> Recipe:
        seen.append((began.turn, began.champion, state.champion, state.open == began, recipe.name))
        return line.challenger(began.turn)

    monkeypatch.setattr("k2model.continual.continuation.continuation", continued)
    applied = apply(tracking_uri, store, line.recipe, line.ledger)
    assert (applied.champion, applied.registered) == (2, 2)
    assert seen == [(1, 0, 0, True, "missed"), (2, 1, 1, True, "missed")]
    parents = [client.get_model_version("k2-missed", version).tags["k2.parent.version"] for version in ("2", "3")]
    assert parents == ["1", "2"]


def test_a_held_turn_is_promoted_by_a_person(store: Store, tracking_uri: str, client) -> None:  # noqa: F811
    line = Line.begun(tracking_uri, store, "held")
    line.turn(1, Outcome.HELD)
    assert line.apply().champion == 1
    assert client.get_model_version("k2-held", "2").tags["k2.continual.outcome"] == "held"
    line.ledger.append("promote", Promote(1, "looks good", "ada"), after=line.ledger.state())
    assert line.apply().champion == 2
    assert client.get_model_version("k2-held", "2").tags["k2.continual.outcome"] == "promoted"


def test_a_champion_that_mlflow_does_not_know_is_an_error_with_the_remedy(
    store: Store, tracking_uri: str, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    line = Line.begun(tracking_uri, store, "unknown")
    line.uri = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(RegistryError, match=r"no version of k2-unknown for the lifecycle's model"):
        line.apply()


def test_a_description_fits_every_database(store: Store) -> None:
    many = {f"family_{i}/low": flips(64, 40, 2, 2) for i in range(90)}
    sides = [side(store, name, {score: right[at] for score, right in many.items()}) for at, name in enumerate("ab")]
    found = verdict_of(store, *sides, ContinualConfig(tuned="sft"))
    ended = Ended(1, "2026-11-01T02:00:00Z", Outcome.REFUSED, "so " * 3000, ("day1",))
    for reason in ("so", ended.reason):
        text = promotion._description(State("line"), replace(ended, reason=reason), found, "", "")
        assert len(text) <= LONGEST and text.endswith("The verdict has the other rows.")
    assert "| family_0/low | 0.625 | 0.625 | +0.0 | " in promotion._description(
        State("line"), replace(ended, reason="so"), found, "", ""
    )
