"""K2's suites: what they declare, what of them can be asked where, and their averages."""

import json
from pathlib import Path

import pytest

from k2model.errors import EvaluationError
from k2model.evals.answers import Answers
from k2model.evals.harness import HarnessTask, averages, known_suites, prepare, run, tasks_at, tasks_named
from k2model.evals.harness.asking import TaskResult, measure_of
from k2model.evals.harness.data import Absent, find_dataset
from k2model.evals.harness.suites import averages_along, parse_suites
from k2model.evals.items import Grade
from k2model.evals.measures import Bounds
from tests.evals.harness.conftest import REAL
from tests.evals.harness.made_up import Scripted, sums, write, write_all

IFEVAL = "langdetect"  # what its code imports, and this project does not install


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_all(root)
    return root


def test_where_the_data_lie_both_suites_run(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_EVAL_DATA", str(everything))
    backend = Scripted(sums)
    results: dict[str, TaskResult] = {}
    for suite in ("k2_base", "k2_instruct"):
        tasks = [f"{suite}/{task.name}" for task in known_suites()[suite].tasks if task.grade != "program"]
        results |= {f"{one.task.suite}/{one.task.name}": one for one in run(tasks, backend, limit=1)}
    absent = {name: one.absent for name, one in results.items() if not one.complete}
    assert set(absent) == {"k2_base/ifeval", "k2_instruct/ifeval"}
    assert all(IFEVAL in why for one in absent.values() for why in one.values())
    for name, one in results.items():
        if one.complete and "ruler" not in name:
            assert one.items, name
            assert not {item.grade for item in one.items} & {Grade.CUT_OFF, Grade.TOO_LONG, Grade.UNSCORED}, name
    value = {name: sum(item.value for item in one.items) / max(1, len(one.items)) for name, one in results.items()}
    right = ("gsm8k_reasoning_base", "minerva_math", "minerva_math500", "minerva_math_reasoning_base", "gsm8k")
    assert [value[f"k2_base/{name}"] for name in right] == [1.0] * 5
    for name in ("aime24", "aime25", "gsm8k_reasoning_instruct", "minerva_math500_instruct"):
        assert value[f"k2_instruct/{name}"] == 1.0
    assert len(results["k2_base/mmlu"].items) == 57 and len(results["k2_base/bbh"].items) == 27
    assert 0 < value["k2_base/mmlu_pro"] < 1  # always A
    assert results["k2_base/arc_challenge"].record["parts"]["arc_challenge"]["shots"] == 25


def test_shots_and_settings_are_k2s(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_EVAL_DATA", str(everything))
    backend = Scripted(sums)
    run(["k2_base/gsm8k", "k2_base/gpqa_diamond_reasoning_base"], backend, limit=1)
    (greedy, _), (drawn, sampling) = backend.asked[0], backend.asked[1]
    assert backend.asked[0][1].temperature == 0.0 and greedy.text.count("Question:") == 6  # five shots and the item
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (1.0, 1.0, 32_000)
    assert drawn.mode.value == "think"
    run(["aime25"], backend, limit=1, effort="medium")
    prompt, sampling = backend.asked[-1]
    assert prompt.mode.value == "medium" and [turn["role"] for turn in prompt.turns] == ["user"]
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (1.0, 0.95, 32_768)


def test_ruler_gives_a_score_for_each_length(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_EVAL_DATA", str(everything))
    (one,) = run(["k2_base/ruler"], Scripted(lambda prompt, sampling: " 2 "))
    assert {item.score for item in one.items} == {f"ruler@{4096 << n}" for n in range(6)}
    assert {item.value for item in one.items if item.score == "ruler@16384"} == {1.0}
    assert {item.value for item in one.items if item.score == "ruler@8192"} == {0.0}


def test_what_is_absent_is_told_with_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = []
    results = run(["k2_base/bbh", "k2_base/piqa", "k2_base/ruler"], Scripted(), limit=1, told=told.append)
    bbh, piqa, ruler = results
    assert len(bbh.items) == 2 and len(bbh.absent) == 25 and not bbh.complete  # runs what is there
    assert not piqa.items and "looked in" in piqa.absent["piqa"] and str(REAL / "baber/piqa") in piqa.absent["piqa"]
    assert "hf download --repo-type dataset baber/piqa" in piqa.absent["piqa"]
    assert "made beforehand" in ruler.absent["vt"]
    assert [one.name for one in told] == ["bbh", "piqa", "ruler"]
    assert list(told[0].told) == ["bbh, 25 of 27 parts"] and list(told[1].told) == ["piqa"]
    with pytest.raises(Absent, match="piqa"):
        measure_of(told[1], Bounds(4096))
    monkeypatch.delenv("K2_EVAL_DATA")
    with pytest.raises(Absent, match="looked in the cache of Hugging Face"):
        find_dataset("openai/gsm8k", "main")
    write(tmp_path / "openai/gsm8k/main", {"train": [{"question": "q", "answer": "#### 1"}]})
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))
    assert "has no 'test', only train" in str(prepare(tasks_named(["gsm8k"])[0]).absent["gsm8k"])


def test_a_broken_file_of_data_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openai/gsm8k").mkdir(parents=True)
    (tmp_path / "openai/gsm8k/test.jsonl").write_text('{"question": ')
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))
    with pytest.raises(EvaluationError, match=r"test\.jsonl cannot be read as jsonl"):
        prepare(tasks_named(["gsm8k"])[0])


def test_a_copy_of_a_datasets_repository_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "openai" / "gsm8k"
    (folder / "main").mkdir(parents=True)
    for split in ("train", "test"):
        rows = [{"question": f"{split}?", "answer": "#### 1"}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "main" / f"{split}-00000-of-00001.parquet")
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))
    found = find_dataset("openai/gsm8k", "main")
    assert sorted(found.splits) == ["test", "train"] and found.splits["test"][0]["question"] == "test?"
    (folder / "elsewhere").mkdir()
    (folder / "main" / "test-00000-of-00001.parquet").rename(folder / "elsewhere" / "a.parquet")
    (folder / "main" / "train-00000-of-00001.parquet").unlink()
    card = "configs:\n- config_name: main\n  data_files:\n  - split: test\n    path: elsewhere/a.parquet\n"
    (folder / "README.md").write_text(f"---\n{card}---\n")
    assert find_dataset("openai/gsm8k", "main").splits["test"][0]["question"] == "test?"


def test_names() -> None:
    assert [task.name for task in tasks_named(["gsm8k", "k2_base/gsm8k", "harness:arc/arc_easy.yaml"])] == [
        "gsm8k", "arc_easy",
    ]  # fmt: skip
    for wrong, said in (
        ("gsm9k", "did you mean"),
        ("mmlu_pro", "stands in several suites: k2_base and k2_instruct"),
    ):
        with pytest.raises(EvaluationError, match=said):
            tasks_named([wrong])
    with pytest.raises(EvaluationError, match=r"has no nothing/here\.yaml"):
        prepare(tasks_named(["harness:nothing/here.yaml"])[0])


def test_chats_are_asked_at_the_effort_that_a_name_ends_with() -> None:
    both = [(task.name, effort) for task, effort in tasks_at(["k2_instruct/low", "k2_instruct"])]
    instruct = known_suites()["k2_instruct"].tasks
    chats = [task.name for task in instruct if task.mode == "chat"]
    assert 0 < len(chats) < len(instruct)  # what is no chat is asked once
    assert sorted(both) == sorted([(task.name, "high") for task in instruct] + [(name, "low") for name in chats])
    ((task, effort),) = tasks_at(["k2_instruct/mmlu_pro/medium"])
    assert prepare(task, effort).name == "mmlu_pro/medium"
    assert [effort for _, effort in tasks_at(["harness:arc/arc_easy.yaml"])] == ["high"]
    with pytest.raises(EvaluationError, match="'k2_base/low' names an effort, and 'k2_base' is asked in no chat"):
        tasks_at(["k2_base/low"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tittle = ''", "field 'tittle' is not known; did you mean 'title'"),
        ("[s.tasks.a]\nfiles = ['x']\nmetric = 'acc'\nshot = 1", "field 'shot' is not known; did you mean 'shots'"),
        ("[s.tasks.a]\nfiles = ['x']\nmetric = 'acc'\nmode = 'chatt'", "mode 'chatt' is none"),
        ("[s.tasks.a]\nfiles = ['x']", "needs files, and a metric or scores"),
        (
            "[s.tasks.a]\nfiles = ['x']\nmetric = 'acc'\nrepeats = 64\nmeasure = 'pass@46'",
            "measure 'pass@46' is none of its repeats'; did you mean",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_told(text: str, said: str) -> None:
    head = "[s]\ntitle = 't'\npooled_checkpoints = 1\ncategories = []\n"
    with pytest.raises(EvaluationError, match=said):
        parse_suites(head + text)


def test_a_filter_or_metric_that_a_task_has_not_is_told() -> None:
    wrong = HarnessTask("g", ("gsm8k/gsm8k.yaml",), shots=0, metric="acc", filter="flexible-extract")
    with pytest.raises(EvaluationError, match="gsm8k has no metric 'acc'"):
        prepare(wrong, limit=1).ask(Scripted(), Answers())
    wrong = HarnessTask("g", ("gsm8k/gsm8k.yaml",), shots=0, metric="exact_match", filter="flexible")
    with pytest.raises(EvaluationError, match="has no filter 'flexible'; did you mean 'flexible-extract'"):
        prepare(wrong, limit=1).ask(Scripted(), Answers())


def test_of_repeats_what_counts_is_the_rows_measure() -> None:
    (task,) = tasks_named(["k2_base/humaneval_64"])
    assert task.value({"humaneval_64": 0.2, "humaneval_64/pass@64": 0.7}) == 0.7
    assert task.value({"humaneval_64": 0.2}) is None
    (pair,) = tasks_named(["k2_instruct/ifeval"])
    names = pair.score_names("low")
    assert len(names) > 1
    values = {name: number / 10 for number, name in enumerate(names)}
    assert pair.value(values, "low") == pytest.approx(sum(values.values()) / len(names))


def test_averages_follow_k2s_rule_and_stand_beside_what_is_there() -> None:
    base = known_suites()["k2_base"]
    counted = [task for task in base.tasks if task.tags]
    full = {task.name: 0.5 for task in counted} | {"humaneval": 0.25, "minerva_math500": 0.0}
    found = averages(base, [full] * 4)
    assert found.overall == pytest.approx(100 * (0.5 * (len(counted) - 1) + 0.25) / len(counted))
    assert found.categories["code"] == pytest.approx(100 * (0.5 + 0.5 + 0.25) / 3) and not found.missing
    zero = averages(base, [full] * 3 + [full | {"mbpp": 0.0}])
    assert zero.overall == zero.categories["code"] == 0.0 and zero.categories["mc"] == 50.0
    assert zero.categories_there["code"] == pytest.approx(25.0)
    part = averages(base, [{"gsm8k": 0.4}] * 4)
    assert (part.overall, part.overall_there) == (0.0, pytest.approx(40.0)) and "mmlu" in part.missing
    assert part.categories_there["math"] == pytest.approx(40.0) and part.categories_there["mc"] is None
    with pytest.raises(EvaluationError, match="averages over 4 neighbouring checkpoints, not 1"):
        averages(base, [full])


def test_neighbours_are_pooled_within_a_phase() -> None:
    base = known_suites()["k2_base"]
    scores = [
        {score: 0.1 * step for task in base.tasks for score in task.score_names("high")} for step in (1, 2, 3, 4, 5, 6)
    ]
    found = averages_along(base, ["a", "a", "a", "a", "a", "b"], scores)
    assert [count for count, _ in found] == [1, 2, 3, 4, 4, 1]
    assert [one.overall for _, one in found] == pytest.approx([10, 15, 20, 25, 35, 60])
    assert found[4][1].categories["code"] == pytest.approx(50)  # of the last alone
    del scores[1]["humaneval_64/pass@64"]
    gone = averages_along(base, ["a"] * 6, scores)
    assert [one.overall for _, one in gone][:5] == pytest.approx([10, 0, 0, 0, 0]) and gone[5][1].overall > 0
    assert gone[1][1].missing == ("humaneval_64",)


def test_every_row_says_what_the_harness_has() -> None:
    """Metrics and filters of the installed tasks, but for those that are marked by us."""
    from k2model.evals.harness.tasks import _config, files_of

    for suite in known_suites().values():
        for task in suite.tasks:
            for file in files_of(task):
                config = _config(task, file)
                if task.grade:
                    continue
                metrics = [one["metric"] for one in config["metric_list"]]
                assert set(task.scores or [task.metric]) <= set(metrics), (task.name, metrics)
                filters = [one["name"] for one in config.get("filter_list", [])]
                assert not task.filter or task.filter in filters, (task.name, filters)


def test_a_text_without_room_counts_for_its_own_length_alone(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_EVAL_DATA", str(everything))
    backend = Scripted()
    backend.max_length = 1  # type: ignore[misc]
    (one,) = run(["k2_base/ruler"], backend)
    parts = 13
    assert {item.grade for item in one.items} == {Grade.TOO_LONG} and len(one.items) == 6 * parts
    assert all(item.item.endswith("/0") for item in one.items if item.score == "ruler@4096")


def test_lines_end_at_line_feeds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_EVAL_DATA", str(tmp_path))
    (tmp_path / "a/b").mkdir(parents=True)
    rows = [{"question": "one\u2028two\x85"}, {"question": "three"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a/b/test.jsonl").write_bytes(text.encode())
    assert list(find_dataset("a/b").splits["test"]) == rows
