"""Defects of token shards and packed rows: each is found by the expectation meant for it, in its part and row.

All defects of a table are planted in one artifact, each in a row of its own, since Great Expectations takes
longer to start than to look. Rows that were not touched must not be named by anything.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2model.artifacts import ArtifactRef, Store, make
from k2model.recipe.expectations import Severity
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import MixtureEntry, SeverityOverride, ValidationConfig
from k2model.tokens.sequences import pack_folder
from k2model.validation import Outcome, ValidationFailed
from k2model.validation.tokens import sequences_checks_step, tokens_checks_step
from k2model.validation.tokens.step import sequence_findings
from tests.validation.gates import as_artifact
from tests.validation.tokens.conftest import BOS, PAD, VOCABULARY, Row, Rows, token_findings, tokens_of

CONFIG = ValidationConfig()
PHASE = replace(
    laptop().phases[0], name="mid_1", sequence_length=64, global_batch=4, steps=6, seed=3,
    mixture=(MixtureEntry("prose", 3.0), MixtureEntry("chat/tools", 1.0)),
)  # fmt: skip


def check_tokens(folder: Path, home: Path, config: ValidationConfig) -> ArtifactRef:
    """The gate on the tokens in `folder`, passed on a new store in `home`."""
    store = Store.open(home)
    return make(store, tokens_checks_step(store, config, as_artifact(store, "tokens", folder)))


def failures(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {one.name: one for one in outcomes if not one.success}


def named_rows(one: Outcome) -> list[str]:
    return [sample.partition(":")[0] for sample in one.samples]


def test_clean_tokens_and_rows_meet_every_expectation(shards: dict[str, Rows], tmp_path: Path) -> None:
    tokens = tokens_of(shards, tmp_path / "tokens")
    found = check_tokens(tokens, tmp_path / "store", CONFIG)
    assert found.stats["expectations"] == 3 * 10 + 5  # three sources by ten rules, and five over the whole
    assert found.stats["warnings"] == 0
    (tmp_path / "rows").mkdir()
    pack_folder(tokens, PHASE, tmp_path / "rows", 60.0)
    assert not failures(sequence_findings(tmp_path / "rows", replace(CONFIG, max_padding=0.5), PHASE).outcomes)
    assert json.loads((Path(found.uri) / "validation.json").read_text())["expectations"][0]["success"] is True


#: Expectation -> what is done to one document of part 00001 of prose.
TOKENS: dict[str, Callable[[Row], Any]] = {
    "tokens/null_id": lambda row: row.update(id=None),
    "tokens/no_tokens": lambda row: row.update(tokens=[], loss_mask=[]),
    "tokens/token_above_vocabulary": lambda row: row["tokens"].__setitem__(3, VOCABULARY),
    "tokens/bos_not_first": lambda row: row["tokens"].__setitem__(0, 99),
    "tokens/bos_inside": lambda row: row["tokens"].__setitem__(4, BOS),
    "tokens/pad_inside": lambda row: row["tokens"].__setitem__(5, PAD),
    "tokens/mask_of_other_length": lambda row: row["loss_mask"].append(True),
    "tokens/no_target": lambda row: row.update(loss_mask=[False] * len(row["tokens"])),
    "tokens/first_token_is_target": lambda row: row["loss_mask"].__setitem__(0, True),
    "tokens/duplicates_below_one": lambda row: row.update(duplicates=0),
}


def test_each_defect_of_a_token_document_is_found_where_it_is(shards: dict[str, Rows], tmp_path: Path) -> None:
    place = {name: 21 + 3 * index for index, name in enumerate(TOKENS)}
    for name, spoil in TOKENS.items():
        spoil(shards["train/prose/00001"][place[name]])
    findings = token_findings(tokens_of(shards, tmp_path), CONFIG)
    found = failures(findings.outcomes)
    assert set(found) == set(TOKENS)
    for name, one in found.items():
        # A document without tokens has no targets either.
        rows = sorted([place[name], *([place["tokens/no_tokens"]] if name == "tokens/no_target" else [])])
        assert named_rows(one) == [f"part 00001 row {row}" for row in rows], name
        assert (one.shard, one.parts_failed, one.parts) == ("train/prose", 1, 2)
        assert one.severity is (Severity.WARN if name == "tokens/bos_inside" else Severity.STOP)
    assert [page.table for page in findings.pages] == ["train/prose/00001", "all"]


@pytest.mark.parametrize("part_bytes", [CONFIG.part_bytes, 1])
def test_defects_of_whole_token_sources(part_bytes: int, shards: dict[str, Rows], tmp_path: Path) -> None:
    shards["train/prose/00001"][7]["id"] = shards["heldout/prose/00000"][2]["id"]
    total = sum(len(row["tokens"]) for name in ("00000", "00001") for row in shards[f"train/prose/{name}"])
    tokens = tokens_of(shards, tmp_path / "tokens", documents=101, bytes=9 * total)
    with pytest.raises(ValidationFailed) as failure:
        check_tokens(tokens, tmp_path / "store", replace(CONFIG, part_bytes=part_bytes))
    found = {(one.name, one.column, one.observed) for one in failure.value.outcomes}
    assert found == {
        ("token_sources/counts_match", "documents, counted_documents", 1),
        ("token_sources/ids_unique", "repeated_ids", 2),
        ("token_sources/bytes_per_token", "bytes_per_token", 1),
    }
    assert "source='train/prose', documents=100, counted_documents=101" in str(failure.value)


def padding_first(row: Row) -> None:
    """The padding comes first, and nothing else is wrong with the row."""
    size = row["length"].pop()
    row["length"].insert(0, size)
    row["source"].insert(0, row["source"].pop())
    row["tokens"] = row["tokens"][-size:] + row["tokens"][:-size]
    starts = {sum(row["length"][:i]) for i in range(len(row["length"]))}
    row["loss_mask"] = [i not in starts and i >= size for i in range(64)]


#: Expectation -> what is done to a row that ends in three positions of padding.
ROWS: dict[str, Callable[[Row], Any]] = {
    "rows/token_above_vocabulary": lambda row: row["tokens"].__setitem__(9, VOCABULARY),
    "rows/target_on_padding": lambda row: row["loss_mask"].__setitem__(-1, True),
    "rows/padding_is_pad": lambda row: row["tokens"].__setitem__(-1, 77),
    "rows/padding_at_end": padding_first,
    "rows/pieces_fill_row": lambda row: row["length"].__setitem__(-1, 4),
    "rows/first_token_is_target": lambda row: row["loss_mask"].__setitem__(0, True),
    "rows/unknown_source": lambda row: row["source"].__setitem__(0, 2),
    "rows/no_target": lambda row: row.update(loss_mask=[False] * 64),
}


@pytest.fixture
def packed(shards: dict[str, Rows], tmp_path: Path) -> Path:
    """Packed rows in which the last three positions of each are padding, and true counts."""
    folder = tmp_path / "rows"
    folder.mkdir()
    pack_folder(tokens_of(shards, tmp_path / "tokens"), PHASE, folder, 60.0)
    change_rows(folder, lambda rows: [blank(row) for row in rows])
    return folder


def blank(row: Row) -> None:
    left = 64 - 3
    pieces = []
    for length, source in zip(row["length"], row["source"], strict=True):
        if source != 255 and left:
            pieces.append((min(length, left), source))
            left -= pieces[-1][0]
    pieces.append((3 + left, 255))
    row["length"], row["source"] = (list(column) for column in zip(*pieces, strict=True))
    row["tokens"][-3:], row["loss_mask"][-3:] = [PAD] * 3, [False] * 3


def change_rows(folder: Path, change: Callable[[Rows], Any]) -> None:
    """Apply `change` to the rows, and make the composition true of them."""
    path = folder / "sequences" / "00000.arrow"
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    rows = table.to_pylist()
    change(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=table.schema))
    composition = json.loads((folder / "composition.json").read_text())
    for index, one in enumerate(composition["sources"].values()):
        places = [(row, i) for row in rows for i, source in enumerate(sources_of(row)) if source == index]
        pieces = sum(
            n for row in rows for n, source in zip(row["length"], row["source"], strict=True) if source == index
        )
        one |= {"tokens": pieces, "targets": sum(row["loss_mask"][i] for row, i in places)}
    (folder / "composition.json").write_text(json.dumps(composition))


def sources_of(row: Row) -> list[int]:
    """The source of each of the row's positions."""
    return [s for n, s in zip(row["length"], row["source"], strict=True) for _ in range(n)][:64]


def test_each_defect_of_a_packed_row_is_found_where_it_is(packed: Path) -> None:
    place = {name: 1 + 2 * index for index, name in enumerate(ROWS)}
    change_rows(packed, lambda rows: [spoil(rows[place[name]]) for name, spoil in ROWS.items()])
    found = failures(sequence_findings(packed, replace(CONFIG, max_padding=0.5), PHASE).outcomes)
    assert set(found) == set(ROWS)
    for name, one in found.items():
        assert named_rows(one) == [f"part 00000 row {place[name]}"], name
        assert (one.shard, one.observed, one.total) == ("mid_1", 1, 24)
        assert one.severity is (Severity.WARN if name == "rows/no_target" else Severity.STOP)


def test_defects_of_a_composition_and_of_a_phase(packed: Path, tmp_path: Path) -> None:
    composition = json.loads((packed / "composition.json").read_text())
    prose, chat = composition["sources"].values()
    prose |= {"share_wanted": prose["share"] + 0.06, "tokens": prose["tokens"] + 1}
    chat |= {"epochs": 60.5, "tokens": 0}
    composition |= {"padding": 0.06, "split": 0.6, "truncated": 0.07, "short_context": {"least": 0.3, "real": 0.29}}
    (packed / "composition.json").write_text(json.dumps(composition))
    store = Store.open(tmp_path / "store")
    packed_ref = as_artifact(store, "sequences", packed)
    with pytest.raises(ValidationFailed, match="sequences of mid_1") as failure:
        make(store, sequences_checks_step(store, CONFIG, replace(PHASE, steps=7), packed_ref))
    assert {one.name for one in failure.value.outcomes} == {
        "composition/counts_match", "composition/source_is_trained_on", "composition/epochs_within_limit",
        "phase/rows_of_phase",
        "phase/enough_short_context",
    }  # fmt: skip
    names = failures(sequence_findings(packed, CONFIG, replace(PHASE, steps=7)).outcomes)
    warned = {name for name, one in names.items() if one.severity is Severity.WARN}
    assert warned == {"composition/share_as_wanted", "phase/little_padding", "phase/few_split", "phase/few_truncated"}
    assert "phase='mid_1', rows=24, rows_wanted=28" in str(failure.value)


def test_a_recipe_may_let_a_defect_pass_with_a_warning(shards: dict[str, Rows], tmp_path: Path) -> None:
    shards["train/prose/00001"][30]["duplicates"] = 0
    config = replace(CONFIG, severities=(SeverityOverride("tokens/duplicates_below_one", Severity.WARN),))
    assert check_tokens(tokens_of(shards, tmp_path / "tokens"), tmp_path / "store", config).stats["warnings"] == 1
