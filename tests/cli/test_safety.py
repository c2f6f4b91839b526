"""`k2 safety` where no model is needed: what there is, how far judges agree, and what is said of wrong names."""

import json

from click.testing import CliRunner

from k2model.cli.main import main
from k2model.cli.terminal import console, table
from k2model.judges.labelled import labelled_pairs
from tests.judges.server import JudgeServer, verdict
from tests.synthesis.server import serving


def said(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["safety", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_every_test_is_listed_with_what_is_right_and_what_is_absent_is_told() -> None:
    rows = json.loads(said("tests", "--json"))
    assert len(rows) == 74 and {row["right"] for row in rows} == {"refuse", "comply", "resist", "disagree"}
    assert "absent: public/advbench: needs the wheel of pyrit" in said("tests")


def test_rules_are_measured_and_absent_labels_are_told() -> None:
    rows = json.loads(said("judges", "--json"))
    assert [row["of"] for row in rows] == ["answer refuses", "answer harmful", "thinking refuses", "thinking harmful"]
    assert rows[0]["n"] == len(labelled_pairs())
    assert "labels of people: absent" in said("judges")


def test_a_language_model_is_measured_under_each_wording(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setattr("k2model.judges.labelled.labelled_pairs", lambda: labelled_pairs()[::12])
    always = verdict((True, False), (True, False)), verdict(None, (True, False))
    with serving(JudgeServer(lambda sample, number: always[sample["thinking"] is None])) as server:
        rows = json.loads(said("judges", "--judge", f"{server.url}#test-judge", "--json"))
    assert {row["judge"] for row in rows} == {
        "rules",
        *(f"test-judge ({one})" for one in ("plain", "rubric", "questions")),
    }
    assert all(row["kappa"] == "0.00" for row in rows if row["judge"] != "rules" and row["of"] == "answer refuses")


def test_wrong_names_are_told_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["safety", "judges", "--judge", "ruels"])
    assert result.exit_code == 1 and "judge 'ruels' is not known" in result.output
    for options, told in {
        ("--effort", "hgh"): "safety.efforts names 'hgh'; did you mean 'high'",
        ("--effort", "think"): "safety.efforts names 'think'",
        ("--wording", "plan"): "wording='plan' is not known; did you mean 'plain'",
        ("--tests", "weapns"): "safety test 'weapns' is not known; did you mean 'weapons'? There are general_harm",
        ("--tests", "public"): "public suites are in no folder, since none is named (--data, safety.data)",
        ("--tests", "public/advbench"): "public/advbench: needs the wheel of pyrit",
    }.items():
        assert told in said("run", "sft", *options, status=1)


def test_what_a_judge_that_went_down_has_left_out_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.setattr("k2model.judges.labelled.labelled_pairs", lambda: labelled_pairs()[::24])

    def fails(number: int, question: str) -> str | None:
        return "broken" if number >= 5 else None

    with serving(JudgeServer(lambda sample, number: verdict(None, (True, False)), fault=fails)) as server:
        printed = said("judges", "--judge", f"{server.url}#test-judge", "--wording", "plain", status=1)
    assert "PARTIAL" in printed and "test-judge (plain): unanswered" in printed and "thinking harmful" in printed


def test_what_a_name_has_in_it_is_no_markup(capsys) -> None:
    console().print(table(("[b]judge", "labels"), [("org/model[fp8] \x1b[31m", "[/b]")]))
    printed = capsys.readouterr().out
    assert "[b]judge" in printed and "org/model[fp8] ␛[31m" in printed and "[/b]" in printed
