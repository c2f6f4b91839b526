"""A curated corpus against items that come later: what overlaps is told, and nothing is changed."""

import json
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.curation.selection import recheck
from k2model.documents.schema import part_path
from tests.curation.chain import curate_folder
from tests.curation.planted import CONFIG, prose, sentences, tool_document, write_raw


@pytest.fixture
def leaky(tmp_path: Path) -> tuple[Path, Path, str]:
    """A curated corpus, a file of two items, and the text of the one that two training documents hold."""
    rng, raw, folder = Random(0), tmp_path / "raw", tmp_path / "corpus"
    leaked, free = sentences(rng, 12), sentences(rng, 12)
    pages = [[prose(sentences(rng, 30), f"{part} {i}") for i in range(20)] for part in range(3)]
    for part in (0, 2):
        pages[part].append(prose(f"{sentences(rng, 10)} {leaked} {sentences(rng, 10)}", f"leak {part}"))
    parts = {("train", "prose", part): documents for part, documents in enumerate(pages)}
    parts["heldout", "prose", 0] = [prose(leaked + sentences(rng, 5), "held out")]
    parts["train", "chat/tools", 0] = [tool_document("1+1")]
    write_raw(raw, parts)
    folder.mkdir()
    curate_folder(raw, folder, CONFIG)
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(json.dumps({"prompt": text, "id": name}) + "\n" for name, text in
                            (("leaked", leaked), ("free", free))))  # fmt: skip
    return folder, quiz, leaked


def test_later_items_are_found_in_every_part_and_the_corpus_stays_as_it_is(leaky: tuple[Path, Path, str]) -> None:
    folder, quiz, leaked = leaky
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}

    found = recheck(folder, [str(quiz)], CONFIG)
    assert (found.read, found.documents) == (63, 2)
    assert found.families == {
        "quiz": {"items": 2, "holds_out": True, "touched": 1, "overlapping": 0, "removed": 2, "kept": 0}
    }
    assert [(row["item"], row["removed"], row["removed_coverage"]) for row in found.tally.table().to_pylist()] == [
        ("leaked", 2, 1.0), ("free", 0, 0.0),
    ]  # fmt: skip
    matches = found.matches()
    assert len(matches) == 2
    for match in matches:
        assert match["item_id"] == "leaked" and match["document"]["match"] == leaked.rstrip(".")
        assert match["document"]["before"] and match["item"]["start"] == 0
    assert part_path(folder, "train", "prose", 2) in before
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before
    shared = recheck(folder, [str(quiz)], CONFIG, workers=2)
    assert (shared.read, shared.documents, shared.families) == (found.read, found.documents, found.families)
    assert shared.matches() == matches


def test_the_command_tells_families_and_matches(leaky: tuple[Path, Path, str]) -> None:
    folder, quiz, leaked = leaky
    asked = ["data", "recheck", str(folder), str(quiz), "--recipe", "laptop"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert "2 of 63 documents hold an item" in result.output and result.output.count("100% of quiz leaked") == 2
    told = json.loads(CliRunner().invoke(main, [*asked, "-n", "1", "--json"]).output)
    assert told["families"]["quiz"]["touched"] == 1 and [m["item_id"] for m in told["matches"]] == ["leaked"]
    assert leaked.split()[0] in told["matches"][0]["document"]["match"]


def test_the_command_refuses_what_has_nothing_to_compare(leaky: tuple[Path, Path, str], tmp_path: Path) -> None:
    _, quiz, _ = leaky
    result = CliRunner().invoke(main, ["data", "recheck", str(tmp_path), str(quiz), "--recipe", "laptop"])
    assert result.exit_code == 1 and "name a corpus" in result.output
    quiz.write_text(json.dumps({"question": "What?"}) + "\n")
    result = CliRunner().invoke(main, ["data", "recheck", str(leaky[0]), str(quiz), "--recipe", "laptop"])
    assert result.exit_code == 1 and "corpus.decontamination.prompt_field" in result.output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("quiz.parquet", b"not Parquet", "quiz.parquet cannot be read as Parquet"),
        ("quiz.jsonl", b'{"prompt": "What is it?"}\n{"prompt": "caf\xe9"}\n', "line 2 is not JSON in UTF-8"),
        ("quiz.jsonl", b'{"prompt":', "line 1 is not JSON in UTF-8"),
    ],
)
def test_a_damaged_file_of_items_is_named(
    leaky: tuple[Path, Path, str], tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    quiz = tmp_path / name
    quiz.write_bytes(content)
    result = CliRunner().invoke(main, ["data", "recheck", str(leaky[0]), str(quiz), "--recipe", "laptop"])
    assert result.exit_code == 1 and message in result.output
