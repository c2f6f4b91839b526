"""Joined corpora and tokens: what a corpus made in one piece gives, of files that are linked and not read again."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make, read_manifest
from k2model.continual.joined import joined_corpus_step, joined_tokens_step
from k2model.documents.schema import make_document, make_item, part_path, write_documents, write_items
from k2model.errors import CorpusError, TokensError
from k2model.evals.material import Material
from k2model.inspect.artifact import view_of
from k2model.recipe.schema import MixtureEntry, TokenizerConfig, ValidationConfig
from k2model.recipe.tasks import TASKS
from k2model.reporting.sections_data import validation
from k2model.tokens import sequences_step, tokenizer_step, tokens_step
from k2model.validation.documents import valid_step
from tests.tokens.conftest import SOURCES as MADE
from tests.tokens.phases import PHASE
from tests.validation.gates import as_artifact

SOURCES = ("prose", "facts", "arithmetic/think", "batch/tools", "batch/more")
CONFIG = ValidationConfig(min_documents_per_source=50)
WEIGHTS = {"prose": 30.0, "batch/tools": 30.0, "arithmetic/think": 40.0}
DRAWN = replace(PHASE, steps=12, mixture=tuple(MixtureEntry(name, weight) for name, weight in WEIGHTS.items()))


def write(folder: Path, sources: Sequence[str], items: Sequence[str] = ()) -> Path:
    """A curated corpus of these sources; what a source holds does not depend on the others."""
    for name in sources:
        domain, segments, _ = MADE[{"batch/tools": "chat/tools", "batch/more": "prose"}.get(name, name)]
        rng = random.Random(name)
        rows = [make_document(name, domain, "CC0-1.0", f"test {i}", segments(rng)) for i in range(130)]
        rows = list({row["text"]: row for row in rows}.values())  # no document is held out and trained on
        for split, own in (("heldout", rows[:10]), ("train", rows[10:])):
            write_documents(part_path(folder, split, name), own)
    for family in items:
        write_items(
            folder, family, [make_item(family, f"{i}", f"Compute {i} of {sources[0]} =", str(i)) for i in range(3)]
        )
    return folder


def validated(store: Store, folder: Path) -> ArtifactRef:
    return make(store, valid_step(store, CONFIG, {}, as_artifact(store, "corpus", folder)))


class Line:
    """A corpus in one piece, and the same sources in three with tokens in one tokenizer."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        old, first, second = SOURCES[:3], SOURCES[3:4], SOURCES[4:]
        places = [(SOURCES, ("arithmetic",)), (old, ("arithmetic",)), (first, ("arithmetic",)), (second, ())]
        corpora = [validated(store, write(folder / str(n), *place)) for n, place in enumerate(places)]
        self.tokenizer = make(store, tokenizer_step(store, TokenizerConfig(vocab_size=300), corpora[1]))
        tokens = [make(store, tokens_step(store, corpus, self.tokenizer)) for corpus in corpora]
        self.whole, self.whole_tokens = corpora[0], tokens[0]
        self.corpora, self.tokens = corpora[1:], tokens[1:]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line(Store.open(tmp_path_factory.mktemp("store")), tmp_path_factory.mktemp("corpora"))


def test_joined_tokens_are_those_of_a_corpus_in_one_piece(line: Line) -> None:
    made = make(line.store, joined_tokens_step(line.store, line.tokens))
    assert made.kind == "tokens"
    assert made.digest == line.whole_tokens.digest and made.stats == line.whole_tokens.stats
    rows = [make(line.store, sequences_step(line.store, DRAWN, tokens)) for tokens in (made, line.whole_tokens)]
    assert rows[0].digest == rows[1].digest
    linked = [entry for entry in read_manifest(made.uri).files if entry.at]
    assert {entry.path for entry in read_manifest(made.uri).files} - {entry.path for entry in linked} == {"counts.json"}


def test_packed_rows_of_unchanged_sources_are_found_again(line: Line) -> None:
    """Rows drawn from old sources alone hold what they held of the old tokens."""
    old = replace(DRAWN, mixture=tuple(one for one in DRAWN.mixture if one.source != "batch/tools"))
    made = make(line.store, joined_tokens_step(line.store, line.tokens))
    rows = [make(line.store, sequences_step(line.store, old, tokens)) for tokens in (made, line.tokens[0])]
    assert rows[0].digest == rows[1].digest


def test_a_joined_corpus_has_the_files_of_one_in_one_piece(line: Line) -> None:
    made = make(line.store, joined_corpus_step(line.store, line.corpora))
    assert made.kind == "corpus_valid"
    entries = {ref.uri: {entry.path: entry.sha256 for entry in read_manifest(ref.uri).files if entry.bears_digest}
               for ref in (made, line.whole)}  # fmt: skip
    merged = {"statistics.json", "validation.json"}
    assert {path: sha for path, sha in entries[made.uri].items() if path not in merged} == {
        path: sha for path, sha in entries[line.whole.uri].items() if path not in merged
    }
    own, whole = (json.loads(line.store.read(ref, "statistics.json")) for ref in (made, line.whole))
    for split in ("train", "heldout"):
        assert own[split]["lengths"].pop("quantiles") == {} and whole[split]["lengths"].pop("quantiles")
    assert own == whole
    own, whole = (json.loads(line.store.read(ref, "validation.json")) for ref in (made, line.whole))
    assert own["documents"] == whole["documents"] and own["quarantine"] == whole["quarantine"]
    assert {(one["suite"], one["shard"], one["expectation"]): one["success"] for one in own["expectations"]} == {
        (one["suite"], one["shard"], one["expectation"]): one["success"] for one in whole["expectations"]
    }
    assert made.stats["documents"] == line.whole.stats["documents"] and made.stats["families_left_out"] == 1.0
    on_mixtures = json.loads(line.store.read(made, "attachments/mixtures.json"))
    assert validation(own, on_mixtures)["failed"] == 0  # as the report reads it
    assert (line.store.fetch(made) / "attachments/data_docs/index.html").is_file()


def test_joined_by_and_by_is_joined_at_once(line: Line) -> None:
    for step, refs in ((joined_corpus_step, line.corpora), (joined_tokens_step, line.tokens)):
        at_once = make(line.store, step(line.store, refs))
        first = make(line.store, step(line.store, refs[:2]))
        made = make(line.store, step(line.store, [first, refs[2]]))
        assert made.identity != at_once.identity and made.digest == at_once.digest
        assert not any(entry.at.startswith(first.name) for entry in read_manifest(made.uri).files
                       if entry.bears_digest)  # fmt: skip
        assert make(line.store, step(line.store, refs[:1])) == refs[0]


def test_scores_of_the_first_corpus_are_found_again(line: Line) -> None:
    """What stands for items and held-out documents in a score's identity is what it was."""
    made = make(line.store, joined_corpus_step(line.store, line.corpora))
    tokens = make(line.store, joined_tokens_step(line.store, line.tokens))
    old, joined = Material(line.store, line.corpora[0], line.tokens[0]), Material(line.store, made, tokens)
    task = next(task for task in TASKS if task.items == "arithmetic")
    assert joined.digest_of(task) == old.digest_of(task) != Material(line.store, line.corpora[1]).digest_of(task)
    assert joined.family("arithmetic") == old.family("arithmetic")
    assert joined.domains().keys() - old.domains().keys() == {"tools"}
    for domain in ("knowledge", "mathematics"):
        sources = joined.domains()[domain]
        assert sources == old.domains()[domain] and joined.heldout_digest(sources) == old.heldout_digest(sources)
    assert list(joined.heldout("batch/tools", 500)) == list(
        Material(line.store, line.corpora[1]).heldout("batch/tools", 500)
    )


def test_it_is_looked_into_like_any_other(line: Line) -> None:
    corpus = view_of(make(line.store, joined_corpus_step(line.store, line.corpora)).name, line.store.uri)
    assert corpus.tables("train", "batch/tools") == ["train/batch-tools/00000.parquet"]
    tokens = view_of(make(line.store, joined_tokens_step(line.store, line.tokens)).name, line.store.uri)
    assert tokens.shard_sources("train")["batch-tools"] == {"source": "batch/tools", "domain": "tools"}
    assert tokens.tokenizer().vocab_size == 300
    first = make(line.store, joined_tokens_step(line.store, line.tokens[:2]))
    again = make(line.store, joined_tokens_step(line.store, [first, line.tokens[2]]))
    assert view_of(again.name, line.store.uri).tokenizer().vocab_size == 300


def test_two_sources_of_one_name_are_refused_by_name(line: Line) -> None:
    twice = joined_corpus_step(line.store, [line.corpora[0], line.whole])
    with pytest.raises(
        CorpusError, match=rf"the source arithmetic-think is in {line.corpora[0].uri} and in {line.whole.uri}"
    ):
        make(line.store, twice)
    with pytest.raises(CorpusError, match="the source batch-tools is in"):
        make(line.store, joined_tokens_step(line.store, [line.tokens[1], line.tokens[1]]))
    assert line.store.find(twice.identity) is None


def test_tokens_of_another_tokenizer_are_refused(line: Line) -> None:
    other = make(line.store, tokenizer_step(line.store, TokenizerConfig(vocab_size=301), line.corpora[0]))
    tokens = make(line.store, tokens_step(line.store, line.corpora[1], other))
    joined = make(line.store, joined_tokens_step(line.store, [line.tokens[0], line.tokens[2]]))
    with pytest.raises(TokensError, match="were encoded by different tokenizers"):
        make(line.store, joined_tokens_step(line.store, [joined, tokens]))


def test_files_of_another_kind_are_refused(line: Line, tmp_path: Path) -> None:
    (write(tmp_path / "odd", SOURCES[4:]) / "surprise.json").write_text("{}")
    odd = as_artifact(line.store, "corpus_valid", tmp_path / "odd")
    with pytest.raises(CorpusError, match=r"holds surprise\.json, which this version cannot join"):
        make(line.store, joined_corpus_step(line.store, [line.corpora[0], odd]))


def put(store: Store, line: Line, ref: ArtifactRef) -> ArtifactRef:
    """The artifact in another store, made with the same tokenizer."""

    def copy(folder: Path) -> dict[str, float]:
        shutil.copytree(ref.uri, folder, dirs_exist_ok=True)
        return ref.stats

    return store.build(Identity(ref.kind, "1", {"digest": ref.digest}, {"tokenizer": line.tokenizer}), copy)


def test_on_an_object_store_the_joined_are_the_same(line: Line, s3_uri: str) -> None:
    store = Store.open(s3_uri)
    for step, refs in ((joined_corpus_step, line.corpora), (joined_tokens_step, line.tokens)):
        made = make(store, step(store, [put(store, line, ref) for ref in refs]))
        assert made.digest == make(line.store, step(line.store, refs)).digest
        assert not any(path.endswith((".parquet", ".arrow")) for path in store.files_of(made.name).sizes())
    rows = make(store, sequences_step(store, DRAWN, made))
    assert rows.digest == make(line.store, sequences_step(line.store, DRAWN, line.whole_tokens)).digest
