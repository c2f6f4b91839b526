"""A source by itself, from the command line: the same files from any number of processes, and what is wrong shown."""

import json
import os

import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.errors import CorpusError
from k2model.ingest import ingest_source
from k2model.ingest.storage import open_source
from tests.ingest.samples import ROWS, source, write_jsonl


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_the_files_do_not_depend_on_the_processes(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", [*ROWS, b"{bad"])
    counts = [
        ingest_source(source(tmp_path / "in"), tmp_path / str(processes), part_bytes=1_500, processes=processes)
        for processes in (1, 2)
    ]
    assert counts[0] == counts[1] and counts[0]["rows"] == len(ROWS) + 1
    assert files(tmp_path / "1") == files(tmp_path / "2") and len(files(tmp_path / "1")) > 4


def test_the_command_shows_counts_and_samples(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", [*({"body": row["text"]} for row in ROWS), b"{bad [/b]"])
    command = ["data", "ingest", str(tmp_path / "in"), "--set", "fields.text=body", "--out"]
    shown = CliRunner().invoke(main, [*command, str(tmp_path / "one")])
    assert shown.exit_code == 0 and "malformed_json" in shown.output and "{bad [/b]" in shown.output
    assert "longer than" not in shown.output
    write_jsonl(tmp_path / "in/b.jsonl", [{"body": "naïve " * 500}])
    bound = [*command, str(tmp_path / "cut"), "--max-characters", "1000", "--json"]
    long = json.loads(CliRunner().invoke(main, bound).output)["too_long"]
    assert (long["documents"], long["max_characters"]) == (1, 1000) and 3_500 < long["bytes"] < 3_600 < long["of_bytes"]
    (tmp_path / "in/b.jsonl").unlink()
    counts = json.loads(CliRunner().invoke(main, [*command, str(tmp_path / "two"), "--json"]).output)
    assert counts["documents"] + counts["heldout"] == len(ROWS) and counts["quarantined"] == {"malformed_json": 1}


def test_a_mistyped_column_or_a_full_folder_is_one_message(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", ROWS)
    command = ["data", "ingest", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--set"]
    wrong = CliRunner().invoke(main, [*command, "fields.text=txt"])
    assert wrong.exit_code == 1 and "a.jsonl; did you mean 'text'? There are meta, meta.licence, text" in wrong.output
    full = CliRunner().invoke(main, ["data", "ingest", str(tmp_path / "in"), "--out", str(tmp_path)])
    assert full.exit_code == 1 and "is not empty" in full.output


def test_of_a_folder_only_what_is_asked_for_is_looked_at(tmp_path):
    for name in ("a.jsonl", "sub/b.jsonl", "sub/deep/c.jsonl"):
        write_jsonl(tmp_path / name, ROWS)
    for name in ("lost.txt", "sub/deep/lost.jsonl"):
        (tmp_path / name).symlink_to("nowhere")
    os.mkfifo(tmp_path / "sub" / "pipe")

    def listed(location):
        return [entry.path for entry in open_source(str(tmp_path / location)).entries()]

    assert listed("a.jsonl") == ["a.jsonl"]
    assert listed("*.jsonl") == ["a.jsonl"]
    assert listed("*/*.jsonl") == ["sub/b.jsonl"]
    with pytest.raises(CorpusError, match=r"deep/lost\.jsonl is a link to no file"):
        listed("**/*.jsonl")
    with pytest.raises(CorpusError, match="sub/pipe is a pipe, a socket or a device, expected a file"):
        listed("sub/p*")
