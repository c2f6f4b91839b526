"""What a source is said to hold is compared with what is there: numbered shards, lists, checksums, stated rows."""

import hashlib
import json
from pathlib import Path

import pytest

from k2model.errors import CorpusError
from k2model.ingest import check_quarantine, left_out, list_inputs
from k2model.recipe.schema import SourceFormat
from tests.ingest.samples import ingest, source, write_jsonl, write_parquet

ROWS = [{"text": f"row {i}"} for i in range(5)]


def shards(folder: Path, numbers: list[int], name: str = "train-{:05d}-of-00004.jsonl") -> Path:
    for number in numbers:
        write_jsonl(folder / name.format(number), ROWS)
    return folder


@pytest.mark.parametrize(
    ("name", "numbers", "missing"),
    [
        ("train-{:05d}-of-00004.jsonl", [0, 1, 3], "train-00002-of-00004.jsonl"),
        ("data/c4.{:05d}-of-00004.json.gz", [0, 1, 2], "data/c4.00003-of-00004.json.gz"),
        ("shard_{}_of_4.jsonl", [1, 2, 4], "shard_3_of_4.jsonl"),
        ("x-{:02d}-of-04.parquet", [3], "x-00-of-04.parquet, x-01-of-04.parquet, x-02-of-04.parquet"),
    ],
)
def test_a_gap_in_the_numbers_of_shards_stops_and_is_named(name, numbers, missing, tmp_path):
    for number in numbers:
        path = tmp_path / "in" / name.format(number)
        (write_parquet if path.suffix == ".parquet" else write_jsonl)(path, ROWS)
    config = source(tmp_path / "in")
    with pytest.raises(CorpusError, match=r"numbered to 4, of which .* not there") as stopped:
        list_inputs(config)
    assert f"({missing})" in str(stopped.value)
    assert len(list_inputs(source(tmp_path / "in", max_quarantined=1.0))) == len(numbers)


def test_a_glob_that_means_some_shards_misses_no_others(tmp_path):
    shards(tmp_path / "in", [0, 1, 3])
    assert len(list_inputs(source(tmp_path / "in" / "train-0000[01]-of-*.jsonl"))) == 2
    assert len(list_inputs(source(tmp_path / "in" / "train-00000-of-00004.jsonl"))) == 1
    with pytest.raises(CorpusError, match=r"train-00002-of-00004\.jsonl"):
        list_inputs(source(tmp_path / "in" / "*.jsonl"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/2-of-3-shares.py").write_text("print()")
    assert len(list_inputs(source(tmp_path / "tree", format=SourceFormat.CODE))) == 1
    shards(tmp_path / "from one", [1, 2, 3, 4])
    assert len(list_inputs(source(tmp_path / "from one"))) == 4


@pytest.mark.parametrize("name", ["files.txt", "MANIFEST", "SHA256SUMS", "md5sums.txt", "checksums.sha512"])
def test_a_list_beside_the_data_is_held_to(name, tmp_path):
    folder = shards(tmp_path / "in", [0, 1], "a{}.jsonl")
    kind = next((kind for kind in ("sha256", "sha512", "md5") if kind in name.lower()), "")

    def line(path: str) -> str:
        content = folder.joinpath(path).read_bytes() if folder.joinpath(path).exists() else b""
        return f"{hashlib.new(kind, content).hexdigest()}  {path}" if kind else f"https://host/some/{path}"

    listed = [line("a0.jsonl"), line("a1.jsonl"), "", "# a comment"]
    (folder / name).write_text("\n".join(listed))
    config = source(folder)
    assert [file.path for file in list_inputs(config)] == ["a0.jsonl", "a1.jsonl"]
    (folder / name).write_text("\n".join([*listed, line("a2.jsonl"), line("notes.pdf")]))
    with pytest.raises(CorpusError, match=rf"{name} lists \d files, of which 1 are not there \(a2\.jsonl\)"):
        list_inputs(config)
    (folder / name).write_text("\n".join(listed))
    (folder / "a1.jsonl").write_bytes(b'{"text": "cut of')
    if kind:
        with pytest.raises(CorpusError, match=rf"1 files differ from their checksums in {name} \(a1\.jsonl\)"):
            list_inputs(config)


def test_what_is_no_list_of_these_files_is_left_alone(tmp_path):
    folder = shards(tmp_path / "in", [0], "a{}.jsonl")
    (folder / "files.txt").write_text("The files of another thing.\nother/b.jsonl\n")
    (folder / "manifest.txt").write_bytes(bytes(range(256)))
    assert len(list_inputs(source(folder))) == 1


def card(rows: int, split: str = "train", config: str = "") -> str:
    info = {"splits": [{"name": split, "num_bytes": 9, "num_examples": rows}]} | (
        {"config_name": config} if config else {}
    )
    return f"---\n{json.dumps({'dataset_info': [info] if config else info})}\n---\n# A card\n"


def test_rows_that_a_card_states_are_missed_by_the_same_share(tmp_path):
    shards(tmp_path / "in/data", [0, 1, 2, 3])
    config = source(tmp_path / "in")
    for rows, stops in ((20, False), (22, False), (15, False), (23, True), (40, True)):
        (tmp_path / "in/README.md").write_text(card(rows))
        for part_bytes in (10**12, 10):
            found = ingest(config, tmp_path / f"out-{rows}-{part_bytes}", part_bytes)
            assert (found.counts["stated_rows"], found.counts["rows"]) == (rows, 20)
        if stops:
            with pytest.raises(CorpusError, match=rf"{rows - 20} of the {rows} rows that .* state are not there"):
                check_quarantine(config, found.counts)
        else:
            check_quarantine(config, found.counts)


def test_only_the_number_that_a_card_states_bears_identity(tmp_path):
    shards(tmp_path / "in/data", [0, 1, 2, 3])
    config, path = source(tmp_path / "in"), tmp_path / "in/README.md"
    path.write_text(card(20))
    first = list_inputs(config)
    path.write_text(card(20) + "More words.\n")
    assert list_inputs(config) == first
    path.write_text(card(21))
    assert list_inputs(config) != first
    for other in (card(21, "test"), card(0)):
        path.write_text(other)
        assert list_inputs(config) == first[:-1]
    path.write_text(card(20, config="english"))
    assert list_inputs(config) == first


def test_the_index_of_a_mosaic_dataset_is_no_data_and_is_held_to(tmp_path):
    folder = shards(tmp_path / "in", [0, 1], "shard.{:05d}.json")
    size = (folder / "shard.00000.json").stat().st_size

    def write(shards: list[tuple[int, int]]) -> None:
        listed = [
            {"format": "json", "samples": 5, "raw_data": {"basename": f"shard.{n:05d}.json", "bytes": octets}}
            for n, octets in shards
        ]
        (folder / "index.json").write_text(json.dumps({"version": 2, "shards": listed}, indent=1))

    write([(0, size), (1, size)])
    found = ingest(source(folder), tmp_path / "out")
    assert (found.counts["stated_rows"], found.counts["rows"], found.counts["files"]) == (10, 10, 2)
    write([(0, size), (1, size), (2, size)])
    with pytest.raises(CorpusError, match=r"index\.json lists 3 shards, of which 1 are not there \(shard\.00002"):
        list_inputs(source(folder))
    write([(0, size), (1, size + 1)])
    with pytest.raises(CorpusError, match=r"shard\.00001\.json has .* bytes, index\.json states"):
        list_inputs(source(folder))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b.jsonl.incomplete", "unfinished"),
        ("b.jsonl.part", "unfinished"),
        ("b.jsonl.crdownload", "unfinished"),
        ("b.jsonl.gz.tmp", "unfinished"),
        ("_temporary/0/b.jsonl", "unfinished"),
        ("b.zip", "wrong_format"),
        ("b.jsonl.lz4", "wrong_format"),
        ("b.tar.gz", "wrong_format"),
    ],
)
def test_what_is_unfinished_or_packed_is_named_and_counts(name, reason, tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", ROWS)
    (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / name).write_bytes(b'{"text": "half a r')
    for part_bytes in (10**12, 10):
        found = ingest(source(tmp_path / "in"), tmp_path / f"out-{part_bytes}", part_bytes)
        assert [(row["reason"], row["file"], row["row"]) for row in found.quarantine] in (
            [(reason, name, 0)],
            [("corrupt", name, 1)],
        )
        with pytest.raises(CorpusError, match=r"1 of 2 files \(50\.0%\) are damaged"):
            check_quarantine(source(tmp_path / "in"), found.counts)


def test_other_rows_beside_are_an_error_and_the_rest_is_told(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", ROWS)
    for name in ("part-00001", "notes.pdf", "LICENSE", "b.csv"):
        (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"1 \.csv.* more than one format"):
        list_inputs(source(tmp_path / "in"))
    config = source(tmp_path / "in", format=SourceFormat.JSONL)
    assert left_out(config) == {"no suffix": 2, ".csv": 1, ".pdf": 1}


def test_links_to_folders_are_followed_but_in_no_circle(tmp_path):
    write_jsonl(tmp_path / "elsewhere/deep/b.jsonl", ROWS)
    write_jsonl(tmp_path / "in/a.jsonl", ROWS)
    (tmp_path / "in/sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/deep/loop").symlink_to("..")
    assert [file.path for file in list_inputs(source(tmp_path / "in"))] == ["a.jsonl", "sub/deep/b.jsonl"]
    (tmp_path / "in/c.jsonl").symlink_to(".git/annex/objects/x/SHA256E-s99--ab.jsonl")
    with pytest.raises(CorpusError, match=r"c\.jsonl is a link to a file that git-annex has not fetched"):
        list_inputs(source(tmp_path / "in"))
    (tmp_path / "in/c.jsonl").unlink()
    (tmp_path / "in/c.jsonl").symlink_to("c.jsonl")
    with pytest.raises(CorpusError, match=r"c\.jsonl is a link to no file"):
        list_inputs(source(tmp_path / "in"))
