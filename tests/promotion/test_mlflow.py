"""MLflow follows the ledger of lifecycles: a real one on SQLite, and the commands that people decide with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from k2model.cli.main import main
from k2model.continual.month.home import judged_alone
from k2model.promotion import decide
from k2model.registry.tracking import tracking
from tests.promotion.lifecycles import GATE, Home, Trained, recipe

NAME = "k2-line"


@pytest.fixture
def k2(home: Home, trained: dict[str, Trained], tracking_uri: str, monkeypatch: pytest.MonkeyPatch):
    """The command, for the line and its recipe, whose model is too small for a recipe's file."""
    own = replace(recipe(), phases=(trained["good"].phase,))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setattr("k2model.recipe.chosen_recipe", lambda name, overrides: own)
    monkeypatch.setenv("K2_STORE", home.store.uri)

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return run


def test_what_was_promoted_refused_rolled_back_and_moved_by_hand(
    home: Home, trained: dict[str, Trained], tracking_uri: str, k2, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = recipe()
    first = home.lifecycle(tracking_uri, own, trained["good"])
    assert (first.version, first.promotion, first.aliases) == (1, "champion", ("candidate", "sft", "champion"))
    ruined = home.lifecycle(tracking_uri, replace(own, gates=()), trained["ruined"])
    assert ruined.promotion.startswith("none: refused: scores: no gate is declared on phase sft")
    with tracking(tracking_uri) as client:

        def held() -> dict[str, int]:
            return {alias: int(at) for alias, at in client.get_registered_model(NAME).aliases.items()}

        assert held() == {"champion": 1, "candidate": 2, "sft": 2}
        assert client.get_model_version(NAME, "2").tags["k2.promotion"] == ruined.promotion
        assert client.get_model_version(NAME, "1").tags["k2.promotion"] == "champion"

        told = k2("gates", "sft@2", status=1).output
        assert "champion: sft@1; challenger: sft@2" in told
        beside = json.loads(k2("gates", "sft@2", "--json", status=1).output)
        assert "no gate is declared on phase sft" in beside["reason"] and beside["against"] == "sft@1"
        (row,) = (one for one in beside["beside"] if one["score"] == "arithmetic/low")
        assert (row["champion"], row["challenger"], row["outcome"]) == (1.0, 0.0, "worse")
        assert (
            "arithmetic/low: 0.000, at least 0.5"
            in k2("promote", "sft@2", "--by", "ann", "--why", "x", status=1).output
        )
        assert "--by NAME --why TEXT" in k2("promote", "sft@2", status=2).output

        # Killed between the entry and MLflow: the next run brings it there.
        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(decide, "bring", dies)
            home.lifecycle(tracking_uri, own, trained["other"])
        assert home.ledger.state().model.version == 3 and held()["champion"] == 1
        late = json.loads(k2("ledger", "--verify", "--json", status=1).output)
        assert "MLflow was not told yet" in late["aliases"][0]
        assert home.lifecycle(tracking_uri, own, trained["other"]).promotion == "champion"
        assert held() == {"champion": 3, "previous": 1, "candidate": 3, "sft": 3}
        assert (
            client.get_model_version(NAME, "1")
            .tags["k2.promotion"]
            .startswith("none: it was the champion, which is sft@3")
        )
        assert json.loads(k2("ledger", "--verify", "--json").output)["aliases"] == []

        assert home.lifecycle(tracking_uri, own, trained["good"]).promotion.startswith("none: it was the champion")
        assert held() == {"champion": 3, "previous": 1, "candidate": 1, "sft": 1}, "old settings again"

        client.set_registered_model_alias(NAME, "champion", "2")
        moved = "alias champion of k2-line was moved by hand from version 3 to version 2 in MLflow"
        assert json.loads(k2("ledger", "--verify", "--json", status=1).output)["aliases"] == [moved]
        said = " ".join(k2("rollback", "--by", "ann", "--why", "worse at spelling").output.split())
        assert "the champion of line is sft@1" in said and moved in said
        assert held() == {"champion": 1, "candidate": 1, "sft": 1}
        assert judged_alone(home.ledger).model == home.ledger.state().model, "a month begins with who it is now"
        listed = [one["what"] for one in json.loads(k2("ledger", "--json").output)]
        assert listed[-2].startswith("sft@3: promoted: ") and listed[-1] == "back to turn 0 by ann: worse at spelling"
        k2("promote", "sft@3", "--by", "ann", "--why", "it was right")
        assert held()["champion"] == 3 and home.ledger.verify().lost == ()

    line = Path(home.store.uri, "_continual", "line")
    line.rename(line.with_name("elsewhere"))
    (said,) = json.loads(k2("ledger", "--verify", "--json", status=1).output)["aliases"]
    assert "alias champion of k2-line is at version 3, and the ledger of line knows of no champion" in said
    line.with_name("elsewhere").rename(line)

    entry = Path(home.store.uri, "_continual", "line", "ledger", "00000002.json")
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b"refused", b"promoted"))
    assert "LedgerDamaged" in k2("ledger", "--verify", status=1).output


def test_a_tracking_server_that_is_another_one_knows_no_champion_of_before(
    home: Home, trained: dict[str, Trained], tracking_uri: str, tmp_path: Path, caplog
) -> None:
    own = replace(recipe(), gates=(GATE,))
    home.judged(own, trained["good"], 7)  # it is registered nowhere
    other = home.lifecycle(f"sqlite:///{tmp_path}/other.db", own, trained["other"])
    assert other.promotion == "champion" and "no version of k2-line for sft@7" in caplog.text
