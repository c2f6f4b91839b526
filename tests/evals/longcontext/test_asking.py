"""Long-context items: lengths exact, answers found again in the text by a reader of its own, grades and the map."""

import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from k2model.documents.markup import plain
from k2model.documents.schema import make_document, write_documents
from k2model.errors import EvaluationError
from k2model.evals.answers import Answers
from k2model.evals.backend import Finish, Generation
from k2model.evals.backends.own import OwnModel
from k2model.evals.items import Grade
from k2model.evals.longcontext.asking import (
    DepthCell,
    LongContext,
    Place,
    ask,
    depth_map,
    item_at,
    marked,
    places_of,
)  # fmt: skip
from k2model.evals.longcontext.haystack import SLACK, fitted, prose, vocabulary
from k2model.evals.longcontext.tasks import AT_DEPTHS, IN_ENTRIES, TASKS, Form
from k2model.model.transformer import K2Model
from k2model.recipe.evaluation import Mode
from k2model.recipe.schema import ModelConfig, TokenizerConfig
from k2model.tokens import K2Tokenizer
from k2model.tokens.bpe import train_folder
from tests.evals.scripted import Scripted, cut_off, said
from tests.model.conftest import byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> K2Tokenizer:
    """A vocabulary of 1,024 learnt from the filling itself, as the laptop's is."""
    folder = tmp_path_factory.mktemp("bpe")
    words = prose()[0]
    documents = [
        make_document("prose", "prose", "MIT", "test", plain(" ".join(words[start : start + 400])))
        for start in range(0, 12_000, 400)
    ]
    write_documents(folder / "corpus" / "train" / "prose" / "00000.parquet", documents)
    (folder / "tokenizer").mkdir()
    train_folder(folder / "corpus", TokenizerConfig(vocab_size=1024), folder / "tokenizer")
    return K2Tokenizer.load(folder / "tokenizer")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> K2Tokenizer:
    return K2Tokenizer.load(byte_tokenizer(tmp_path_factory.mktemp("bytes")))


def silent(tokenizer: K2Tokenizer, **more: int) -> Scripted:
    return Scripted(tokenizer, lambda prompt, sampling: said("I do not know."), **more)


def read(task: str, text: str, question: str) -> set[str]:
    """The right answers, read from the text alone."""
    if task in ("needle", "multi_key"):
        key = re.search(r"number of (\w+ \w+) in", question)[1]
        return set(re.findall(rf"The secret number of {key} is (\d+)\.", text))
    if task == "multi_value":
        key = re.search(r"numbers of (\w+ \w+) in", question)[1]
        return set(re.findall(rf"A secret number of {key} is (\d+)\.", text))
    if task == "variable_tracking":
        values = dict(re.findall(r"Variable (\w+) is set to (\d+)\.", text))
        for name, other in re.findall(r"Variable (\w+) is set to the value of (\w+)\.", text):
            values[name] = values[other]  # in the order of the text
        value = re.search(r"have the value (\d+)", question)[1]
        return {name for name, found in values.items() if found == value}
    counts = Counter(text.removeprefix("Here is a list of words.").split()).most_common(4)
    assert counts[2][1] > counts[3][1]
    return {word for word, _ in counts[:3]}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("length", [1024, 16_384])
def test_items_are_as_long_as_asked_and_their_answer_is_in_the_text(
    task: str, length: int, tokenizer: K2Tokenizer
) -> None:
    backend = silent(tokenizer)
    place = Place(task, length, 0.3 if task in AT_DEPTHS else None, 0)
    asked = item_at(backend, LongContext(), place)
    taken = backend.tokens(asked.prompt) + asked.sampling.max_new_tokens
    assert length - SLACK - 8 <= taken <= length  # a word of the list is up to eight tokens
    text, question = asked.prompt.text.rsplit("\n\n", 1)
    assert set(asked.wanted) == read(task, text, question) <= asked.candidates
    assert item_at(backend, LongContext(), place) == asked
    assert item_at(backend, LongContext(seed=1), place).prompt != asked.prompt
    assert item_at(backend, LongContext(), place._replace(number=1)).prompt != asked.prompt


def test_a_text_of_half_a_million_tokens(byte_level: K2Tokenizer) -> None:
    backend = silent(byte_level)
    asked = item_at(backend, LongContext(), Place("needle", 524_288, 0.5, 0))
    assert 0 <= 524_288 - backend.tokens(asked.prompt) - asked.sampling.max_new_tokens <= 16
    assert backend.calls < 20
    place = asked.prompt.text.index("The secret number of") / len(asked.prompt.text)
    assert 0.49 < place < 0.51


@pytest.mark.parametrize("length", [128, 256, 1024])
def test_entries_of_a_small_model(length: int, tokenizer: K2Tokenizer) -> None:
    backend = silent(tokenizer)
    for task in IN_ENTRIES:
        asked = item_at(backend, LongContext(form=Form.ENTRIES), Place(task, length, 0.0, 0))
        assert length - SLACK - 6 <= backend.tokens(asked.prompt) + asked.sampling.max_new_tokens <= length
        text = asked.prompt.text
        entries, key = dict(re.findall(r"; (\w+) (\w+)", text)), re.search(r"\? (\w+)$", text)[1]
        assert (entries[key],) == asked.wanted and set(entries.values()) == asked.candidates
        assert text.startswith(f"; {key}") and set(entries) <= set(vocabulary()) and "?" in asked.sampling.stop


@pytest.mark.parametrize(("behind", "grade"), [(" and on", Grade.RIGHT), ("s\nand", Grade.WRONG), ("", Grade.CUT_OFF)])
def test_an_entry_ends_with_its_word(behind: str, grade: Grade, tokenizer: K2Tokenizer) -> None:
    def say(prompt, sampling):  # a model that learned entries one behind the other, and has no more room
        entries, key = dict(re.findall(r"; (\w+) (\w+)", prompt.text)), re.search(r"\? (\w+)$", prompt.text)[1]
        text = f" {entries[key]}{behind}"
        return Generation(text, None, text, 3, 0, Finish.LENGTH)

    config = LongContext(("needle",), (256,), depths=(0.5,), items=2, form=Form.ENTRIES)
    assert {one.grade for one in ask(Scripted(tokenizer, say), config)} == {grade}


def test_a_needle_is_where_its_depth_says(tokenizer: K2Tokenizer) -> None:
    backend = silent(tokenizer)
    for depth in (0.0, 0.25, 0.5, 1.0):
        text = item_at(backend, LongContext(), Place("needle", 4096, depth, 0)).prompt.text.rsplit("\n\n", 1)[0]
        before, _, behind = re.split(r"(The secret number of \w+ \w+ is \d+\.)", text)
        assert len(before) / (len(before) + len(behind)) == pytest.approx(depth, abs=0.03)
        assert depth in (0.0, 1.0) or before.rstrip().endswith(".")


def test_right_wrong_cut_off_and_too_long_are_told_apart(tokenizer: K2Tokenizer) -> None:
    config = LongContext(("needle", "variable_tracking"), (512, 1024, 4096), depths=(0.0, 1.0), items=2)

    def say(prompt, sampling):  # sees what is in front, names everything of the other task, and never ends once
        text, question = prompt.text.rsplit("\n\n", 1)
        if "variables" in question:
            return said(", ".join(re.findall(r"Variable (\w+)", text)))
        if "needle at the end" in question or text.rstrip().endswith("."):
            return cut_off("It")
        return said(f" {next(iter(read('needle', text, question)))}")

    backend, answers = Scripted(tokenizer, say, max_length=1024), Answers()
    results = ask(backend, config, answers)
    assert [r.score for r in results] == [place.task + f"/{place.length}" for place in places_of(config)] and len(
        {r.item for r in results}
    ) == len(results)
    once = len(backend.asked)
    assert ask(backend, config, answers) == results and len(backend.asked) == once  # nothing is asked twice
    needles = {(r.score, r.cluster): r.grade for r in results if r.score.startswith("needle")}
    assert needles["needle/512", "depth 0.00"] in (Grade.RIGHT, Grade.CUT_OFF)
    assert needles["needle/512", "depth 1.00"] is Grade.CUT_OFF
    assert {r.grade for r in results if r.score.endswith("/4096")} == {Grade.TOO_LONG}
    tracked = [r for r in results if r.score == "variable_tracking/1024"]
    assert [(r.grade, r.value) for r in tracked] == [(Grade.MEASURED, 0.5)] * 2  # both chains, one of which is right
    assert all(r.value == 0.0 for r in results if r.grade in (Grade.CUT_OFF, Grade.TOO_LONG))


def test_the_map_has_a_cell_for_each_depth_and_length(tokenizer: K2Tokenizer) -> None:
    def say(prompt, sampling):
        text, question = prompt.text.rsplit("\n\n", 1)
        if "secret" not in question:
            return said("no")
        near = text.index("The secret number") > len(text) / 2
        return said(next(iter(read("needle", text, question))) if near else "0")

    config = LongContext(("needle", "frequent_words"), (512,), depths=(0.1, 0.9), items=3)
    cells = depth_map(ask(Scripted(tokenizer, say), config))
    assert cells == [DepthCell("needle", 512, 0.1, 0.0, 3), DepthCell("needle", 512, 0.9, 1.0, 3)]


def test_chats_are_asked_without_the_beginning_of_an_answer(tokenizer: K2Tokenizer) -> None:
    backend = silent(tokenizer)
    asked = item_at(backend, LongContext(mode=Mode.HIGH, thinking=50), Place("needle", 1024, 0.5, 0))
    content = str(asked.prompt.turns[0]["content"])
    assert content.endswith("Answer with the number alone.") and asked.prompt.chat and asked.sampling.stop == ()
    assert asked.sampling.max_new_tokens > 50
    assert 0 <= 1024 - backend.tokens(asked.prompt) - asked.sampling.max_new_tokens <= SLACK + 8


def test_marks_are_what_is_wanted_in_all_that_is_named() -> None:
    candidates = frozenset(("12", "34", "56", "a-b"))
    assert marked("It is 12.", ["12"], candidates) == 1.0
    assert marked("12, 34, 56", ["12", "34"], candidates) == pytest.approx(2 / 3)
    assert marked("112 or 12345", ["12"], candidates) == marked("", ["12"], candidates) == 0.0
    assert marked("**a-b**", ["a-b"], candidates) == 1.0


def test_long_prompts_are_recorded_by_their_ends_and_digest(tokenizer: K2Tokenizer) -> None:
    config = LongContext(("frequent_words",), (16_384,), items=1)
    backend = silent(tokenizer)
    (result,) = ask(backend, config)
    whole = str(backend.asked[0][0].turns[0]["content"])
    assert len(result.prompt) < 21_000 < len(whole) and result.prompt[:9_000] == whole[:9_000]
    assert result.prompt.endswith(whole[-9_000:]) and re.search(
        r"\[\d+ characters, sha256 of all [0-9a-f]{64}\]", result.prompt
    )


def test_bad_input_is_refused_by_name(tokenizer: K2Tokenizer) -> None:
    backend = silent(tokenizer)
    with pytest.raises(EvaluationError, match="'neddle'; did you mean 'needle'"):
        list(places_of(LongContext(("neddle",))))
    with pytest.raises(
        EvaluationError, match=r"'variable_tracking' at 64, of which \d+ are for the answer, takes \d+ tokens"
    ):
        ask(backend, LongContext(("variable_tracking",), (64,)))
    with pytest.raises(EvaluationError, match="'multi_value' cannot be asked in entries"):
        ask(backend, LongContext(("multi_value",), (1024,), form=Form.ENTRIES))


@pytest.mark.parametrize(
    "cost", [lambda n: n, lambda n: 7 * n, lambda n: n // 5, lambda n: int(n**1.3), lambda n: n + n % 3]
)
def test_the_search_finds_the_longest_that_fits(cost) -> None:
    for length in (50, 1_000, 524_288):
        readings = []

        def tokens(size: int, readings: list = readings) -> int:
            readings.append(size)
            return 20 + cost(size)

        size = fitted(tokens, length, "it")
        assert 20 + cost(size) <= length
        assert length - 20 - cost(size) <= SLACK or 20 + cost(size + 1) > length
        assert len(readings) <= 40


def test_the_projects_own_model_is_asked(byte_level: K2Tokenizer) -> None:
    """Of a model with random weights nothing is right, and everything is asked and graded."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=274, hidden_size=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=16, ffn_size=32, init_std=0.05
    )
    own = OwnModel(K2Model(config, 1e4, 512).eval(), byte_level, precision=torch.float32)
    asked = LongContext(IN_ENTRIES, (256, 512, 1024), depths=(0.5,), items=2, form=Form.ENTRIES)
    results = ask(own, asked)
    assert len(results) == 12 and not any(r.right for r in results)
    assert {r.score for r in results} == {
        f"{task}_entries/{length}" for task in IN_ENTRIES for length in (256, 512, 1024)
    }
    assert [r.grade for r in results if r.score.endswith("/1024")] == [Grade.TOO_LONG] * 4
    assert all(r.tokens > 0 and r.generation for r in results if not r.score.endswith("/1024"))
    again = ask(own, replace(asked, tasks=("multi_key",), lengths=(512,)))
    assert again == [r for r in results if r.score == "multi_key_entries/512"]
