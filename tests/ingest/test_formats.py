"""Every format gives the same documents, and they are the ones that the project's own builders would write."""

import hashlib
import json
from pathlib import Path

import pytest

from k2model.documents.markup import joined, plain
from k2model.documents.schema import content_id
from k2model.documents.spans import segments_of
from k2model.errors import CorpusError
from k2model.ingest import list_inputs, split_inputs
from k2model.recipe.schema import FieldMapping, SourceFormat
from tests.ingest.samples import ROWS, WHOLE, ingest, source, write_arrow, write_jsonl, write_parquet

LICENCED = FieldMapping(licence="meta.licence")
CARD = """---
license: mit
configs:
- config_name: small
  data_files: few.jsonl
- config_name: full
  default: true
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: [data/test-*]
---
# A card
"""


def save_to_disk(folder: Path) -> None:
    """The layout of `datasets.DatasetDict.save_to_disk`."""
    write_arrow(folder / "train/data-00000-of-00002.arrow", ROWS[:20])
    write_arrow(folder / "train/data-00001-of-00002.arrow", ROWS[20:])
    names = [{"filename": f"data-0000{i}-of-00002.arrow"} for i in range(2)]
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    (folder / "train/dataset_info.json").write_text("{}")
    (folder / "train/state.json").write_text(json.dumps({"_data_files": names, "_split": "train"}))


def with_card(folder: Path) -> None:
    write_parquet(folder / "data/train-00000-of-00002.parquet", ROWS[:15])
    write_parquet(folder / "data/train-00001-of-00002.parquet", ROWS[15:])
    write_parquet(folder / "data/test-00000-of-00001.parquet", ROWS[:3])
    write_jsonl(folder / "few.jsonl", ROWS[:2])
    (folder / "README.md").write_text(CARD)


LAYOUTS = {
    "jsonl": lambda folder: write_jsonl(folder / "a.jsonl", ROWS),
    "gz": lambda folder: write_jsonl(folder / "a.json.gz", ROWS),
    "zst": lambda folder: write_jsonl(folder / "deep/a.jsonl.zst", ROWS),
    "parquet": lambda folder: write_parquet(folder / "a.parquet", ROWS),
    "arrow_stream": lambda folder: write_arrow(folder / "a.arrow", ROWS),
    "arrow_file": lambda folder: write_arrow(folder / "a.arrow", ROWS, stream=False),
    "saved": save_to_disk,
    "card": with_card,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_format_gives_the_documents_of_its_rows(layout, tmp_path):
    LAYOUTS[layout](tmp_path / "in")
    found = ingest(source(tmp_path / "in", fields=LICENCED, heldout=0.0), tmp_path / "out")
    assert [segments_of(d) for d in found.train] == [plain(row["text"]) for row in ROWS]
    assert [d["text"] for d in found.train] == [joined(plain(row["text"])) for row in ROWS]
    assert [d["licence"] for d in found.train] == [row["meta"]["licence"] or "CC-BY-4.0" for row in ROWS]
    assert {(d["source"], d["domain"], d["key"], d["duplicates"]) for d in found.train} == {("web/cc", "prose", "", 1)}
    assert len({d["id"] for d in found.train}) == len(ROWS)
    assert found.counts["licences"] == {"CC-BY-4.0": 20, "MIT": 20}


def test_place_and_id_are_of_the_row_and_of_no_machine(tmp_path):
    write_jsonl(tmp_path / "in/cc/b.jsonl.zst", [{"text": "Hello, 世界"}, b"", {"text": "Hello, 世界"}])
    found = ingest(source(tmp_path / "in", heldout=0.0), tmp_path / "out")
    assert [d["origin"] for d in found.train] == ["cc/b.jsonl.zst#1", "cc/b.jsonl.zst#3"]
    digest = hashlib.sha256("Hello, 世界".encode()).hexdigest()
    assert found.train[1]["id"] == content_id("web/cc", "cc/b.jsonl.zst#3", digest)


@pytest.mark.parametrize("layout", [write_jsonl, write_parquet, write_arrow])
def test_mapped_columns_are_taken_over(layout, tmp_path):
    rows = [
        {"body": "One", "n": 7, "from": {"url": "u1"}, "may": ["MIT", "ISC"], "lang": "en", "group": "a"},
        {"body": "Two", "n": None, "from": {"url": None}, "may": None, "lang": None, "group": "a"},
    ]
    suffix = {"write_jsonl": "jsonl", "write_parquet": "parquet", "write_arrow": "arrow"}[layout.__name__]
    layout(tmp_path / f"in/a.{suffix}", rows)
    fields = FieldMapping(text="body", id="n", origin="from.url", licence="may", language="lang", key="group")
    one, two = ingest(source(tmp_path / "in", fields=fields, heldout=0.0), tmp_path / "out").train
    assert (one["origin"], one["licence"], one["key"]) == ("u1", "MIT AND ISC", "a")
    assert (two["origin"], two["licence"]) == (f"a.{suffix}#2", "CC-BY-4.0")
    assert one["id"] == content_id("web/cc", "7", hashlib.sha256(b"One").hexdigest())


def test_held_out_and_sampled_rows_are_chosen_by_their_content(tmp_path):
    rows = [{"text": f"text {i % 1000}", "key": f"group {i % 50}"} for i in range(2000)]
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    found = ingest(source(tmp_path / "in", heldout=0.1), tmp_path / "out")
    trained, heldout = ({d["text"] for d in side} for side in found[:2])
    assert not trained & heldout and 60 < len(heldout) < 140  # 100 of 1,000 texts, three standard deviations
    grouped = ingest(source(tmp_path / "in", heldout=0.3, fields=FieldMapping(key="key")), tmp_path / "grouped")
    assert not {d["key"] for d in grouped.train} & {d["key"] for d in grouped.heldout} and grouped.heldout
    sampled = ingest(source(tmp_path / "in", heldout=0.1, sample=0.25), tmp_path / "sampled")
    assert {d["id"] for d in sampled.documents} < {d["id"] for d in found.documents}
    assert 400 < len(sampled.documents) < 600 and sampled.counts["sampled_out"] == 2000 - len(sampled.documents)
    assert {d["id"] for d in sampled.heldout} <= {d["id"] for d in found.heldout}
    assert len(sampled.heldout) < 0.2 * len(sampled.documents)  # the two shares are drawn apart: 10% of what is left


def test_subset_and_split_of_a_card(tmp_path):
    with_card(tmp_path)
    paths = {
        (subset, split): [f.path for f in list_inputs(source(tmp_path, subset=subset, split=split))]
        for subset, split in (("", "test"), ("small", "train"))
    }
    assert paths == {("", "test"): ["data/test-00000-of-00001.parquet"], ("small", "train"): ["few.jsonl"]}
    with pytest.raises(CorpusError, match=r"split='tset'.*did you mean 'test'\?"):
        list_inputs(source(tmp_path, split="tset"))
    with pytest.raises(CorpusError, match=r"subset='ful'.*did you mean 'full'\?"):
        list_inputs(source(tmp_path, subset="ful"))


def test_splits_of_a_bare_folder_are_read_from_names(tmp_path):
    for name in ("en/train-00000-of-00001", "en/dev-00000-of-00001", "ar/training", "ar/validation"):
        write_jsonl(tmp_path / f"{name}.jsonl", ROWS[:1])
    hub = source(tmp_path, format=SourceFormat.HUGGING_FACE, split="validation", subset="en")
    assert [f.path for f in list_inputs(hub)] == ["en/dev-00000-of-00001.jsonl"]


def test_a_declared_folder_has_its_splits_by_name(tmp_path):
    for name in ("ar/train-0", "ar/test-0", "en/train-0"):
        write_jsonl(tmp_path / f"{name}.jsonl", ROWS[:1])
    card = "---\nconfigs:\n- config_name: arabic\n  data_dir: ar\n- config_name: english\n  data_dir: en\n---\n"
    (tmp_path / "README.md").write_text(card)
    paths = [[f.path for f in list_inputs(source(tmp_path, subset="arabic", split=s))] for s in ("train", "test")]
    assert paths == [["ar/train-0.jsonl"], ["ar/test-0.jsonl"]]


def test_a_saved_dataset_lacks_no_file_that_it_lists(tmp_path):
    save_to_disk(tmp_path)
    (tmp_path / "train/data-00001-of-00002.arrow").unlink()
    with pytest.raises(CorpusError, match=r"lists 2 data files, of which 1 are not there \(train/data-00001"):
        list_inputs(source(tmp_path))


@pytest.mark.parametrize(("content", "message"), [("{", "it is no JSON"), ("{}", "'_data_files' is missing")])
def test_broken_metadata_of_a_saved_dataset_is_named(content, message, tmp_path):
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(CorpusError, match=f"state.json.*{message}.*Save the dataset again"):
        list_inputs(source(tmp_path))


def test_globs_and_single_files_choose_inputs(tmp_path):
    for name in ("a/1.jsonl", "a/2.jsonl", "b/3.jsonl", "b/x[1].jsonl", ".cache/4.jsonl"):
        write_jsonl(tmp_path / name, ROWS[:1])

    def paths(location):
        return [file.path for file in list_inputs(source(f"{tmp_path}/{location}"))]

    assert paths("") == ["a/1.jsonl", "a/2.jsonl", "b/3.jsonl", "b/x[1].jsonl"]
    assert paths("a/*.jsonl") == ["1.jsonl", "2.jsonl"]
    assert paths("*/[13].jsonl") == ["a/1.jsonl", "b/3.jsonl"]
    assert paths("**/3.*") == ["b/3.jsonl"]
    assert paths("b/x[1].jsonl") == ["x[1].jsonl"]


def test_inputs_are_known_by_content_wherever_they_lie(tmp_path):
    for place in ("one", "two"):
        write_jsonl(tmp_path / place / "a.jsonl", ROWS)
    first, second = (list_inputs(source(tmp_path / place)) for place in ("one", "two"))
    content = (tmp_path / "one/a.jsonl").read_bytes()
    assert first == second and first[0].digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    write_jsonl(tmp_path / "two/a.jsonl", [*ROWS[:-1], {"text": "other"}])
    assert list_inputs(source(tmp_path / "two")) != first


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"a.csv": b"x"}, {}, r"holds 1 \.csv.*jsonl: \.jsonl"),
        ({"a.jsonl": b"{}", "b.parquet": b"x"}, {}, "more than one format.*Set format"),
        ({"a.csv": b"x"}, {"format": SourceFormat.JSONL}, "format 'jsonl'; the location holds 1 .csv"),
        ({".hidden.jsonl": b"x"}, {}, "there is no file at"),
        ({"a.jsonl": b'{"text": "x"}\n'}, {"fields": FieldMapping("txt")}, "'txt' not found in a.jsonl; did"),
        ({"a.jsonl": b'{"text": "x"}\n'}, {"fields": FieldMapping(licence="lic")}, "fields.licence: column 'lic' not"),
        ({"a.jsonl": b'{"text": "x"}\n'}, {"fields": FieldMapping(messages="chat")}, "fields.messages: column 'chat'"),
        ({"a.jsonl": b"x"}, {"domain": ""}, "domain is empty; name what"),
        ({"a.jsonl": b"x"}, {"encoding": "utf-16"}, "convert JSONL to UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_before_any_work(files, settings, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    config = source(tmp_path, **settings)
    with pytest.raises(CorpusError, match=message):
        split_inputs(config, list_inputs(config), WHOLE)


def test_a_location_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nowhere is not there; set the source's location"):
        list_inputs(source(tmp_path / "nowhere"))
