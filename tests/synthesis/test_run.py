"""Jobs from configuration to files: equal bytes, honest accounts, rejection, and the corpus that uses them."""

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from k2model.cli.main import main
from k2model.documents.schema import DOCUMENT_SCHEMA, is_heldout, parts_of, read_documents
from k2model.documents.spans import segments_of
from k2model.errors import SynthesisError
from k2model.synthesis import Kind, SynthesisConfig, load_job, open_teacher, synthesise, synthesise_part, write_report
from k2model.synthesis.output import REJECTED_SCHEMA
from k2model.synthesis.teachers.procedural import ProceduralTeacher

ROOT = Path(__file__).parents[2]
QUICK = ("arithmetic", "gcd", "syllogism", "circuit_logic")


def job(kind=Kind.THINKING, count=60, **more):
    families = QUICK if kind in (Kind.THINKING, Kind.BEHAVIOUR) else ()
    return SynthesisConfig("t", kind, count, **{"families": families, "part_size": 25, **more})


def run(config, folder, workers=1):
    folder.mkdir(parents=True, exist_ok=True)
    counts = synthesise(config, open_teacher(config, folder.parent / "unused.jsonl"), folder, workers)
    return counts, json.loads((folder / "synthesis.json").read_text())


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder, side):
    return [row for path in parts_of(folder, side, "synth/t") for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("kind", list(Kind))
def test_the_layout_and_the_account_add_up(tmp_path, kind):
    counts, report = run(job(kind, error_rate=0.2), tmp_path / "out")
    sides = {side: rows(tmp_path / "out", side) for side in ("train", "heldout", "rejected")}
    assert [p.name for p in parts_of(tmp_path / "out", "train", "synth/t")] == [f"{i:05d}.parquet" for i in range(3)]
    for side, schema in (("train", DOCUMENT_SCHEMA), ("heldout", DOCUMENT_SCHEMA), ("rejected", REJECTED_SCHEMA)):
        assert all(pq.read_schema(path).equals(schema) for path in parts_of(tmp_path / "out", side, "synth/t"))
    assert report["complete"] and report["cases"] == 60 and report["asked"] == report["answered"] == counts["asked"]
    assert report["kept"] == len(sides["train"]) + len(sides["heldout"]) and report["heldout"] == len(sides["heldout"])
    assert report["rejected"] == len(sides["rejected"]) == sum(report["rejected_by_reason"].values()) > 0
    assert report["samples"] == report["kept"] + report["rejected"]
    for total in ("cases", "asked", "samples", "kept", "rejected"):
        assert sum(family[total] for family in report["families"].values()) == report[total]
    assert {row["reason"] for row in sides["rejected"]} == set(report["rejected_by_reason"])
    kept = sides["train"] + sides["heldout"]
    assert {d["source"] for d in kept} == {"synth/t"} and all(d["text"] and d["licence"] and d["origin"] for d in kept)
    assert all(
        d["text"] == "".join(s["text"] for s in segments_of(d)) and any(s["loss_mask"] for s in segments_of(d))
        for d in kept
    )


def test_wrong_answers_never_reach_the_documents(tmp_path):
    """The share of replies that got an error is rejected, and every answer that is kept is right."""
    _, report = run(job(count=400, error_rate=0.5, families=("gcd",), part_size=400), tmp_path / "out")
    assert 0.4 < report["rejected"] / 400 < 0.6
    assert set(report["rejected_by_reason"]) <= {"wrong_answer", "no_final_answer"}
    import math
    import re

    for document in rows(tmp_path / "out", "train"):
        a, b = re.search(r"numbers: (\d+), (\d+)", document["text"]).groups()
        answer = document["text"].rsplit("</think>", 1)[1].removesuffix("<|end_of_text|>")
        assert answer == str(math.gcd(int(a), int(b)))


def test_disputed_problems_are_not_asked(tmp_path):
    counts, report = run(job(families=("syllogism",)), tmp_path / "out")
    disputed = report["rejected_by_reason"]["disputed_reference"]
    assert disputed > 0 and counts["asked"] == 60 - disputed


@pytest.mark.parametrize("kind", list(Kind))
def test_heldout_documents_have_heldout_keys(tmp_path, kind):
    run(job(kind, families=("gcd",) if kind in (Kind.THINKING, Kind.BEHAVIOUR) else ()), tmp_path / "out")
    for side in ("train", "heldout"):
        for document in rows(tmp_path / "out", side):
            if kind != Kind.CHAT:  # whose problems may be split by group
                assert {is_heldout(key) for key in document["key"].split("\n")} == {side == "heldout"}


def test_equal_bytes_for_any_number_of_workers_and_any_hash_seed(tmp_path):
    config = job(Kind.TOOLS, error_rate=0.2)
    run(config, tmp_path / "one")
    run(config, tmp_path / "two", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    (tmp_path / "job.toml").write_text('name = "t"\nkind = "tools"\ncount = 60\npart_size = 25\nerror_rate = 0.2\n')
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = "from k2model.cli.main import main; main()"
    arguments = ["synth", "run", str(tmp_path / "job.toml"), "--store", str(tmp_path / "store")]
    subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    (made,) = (tmp_path / "store/synthesis").iterdir()
    assert digests(tmp_path / "one").items() <= digests(made).items(), "the artifact has the same files, and its own"


def test_parts_are_made_alone_and_their_counts_add_up(tmp_path):
    config = job(Kind.CONSTRAINTS)
    counts, _ = run(config, tmp_path / "whole")
    teacher, summed = open_teacher(config, tmp_path / "r"), {}
    for part in (2, 0, 1):
        for name, count in synthesise_part(config, teacher, tmp_path / "parts", part).items():
            summed[name] = summed.get(name, 0) + count
    write_report(tmp_path / "parts", config, teacher.description(), summed)
    assert summed == counts and digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_a_smaller_job_leaves_no_parts_of_a_larger_one(tmp_path):
    run(job(Kind.CONSTRAINTS), tmp_path / "out")
    run(job(Kind.CONSTRAINTS, count=10), tmp_path / "out")
    assert len(parts_of(tmp_path / "out", "train", "synth/t")) == 1


def test_another_seed_or_name_gives_other_documents(tmp_path):
    changes = ({}, {"seed": 1}, {"name": "u"})
    for kind in (Kind.CONSTRAINTS, Kind.THINKING):
        made = [read_documents_of(replace(job(kind), **c), tmp_path / f"{kind}{i}") for i, c in enumerate(changes)]
        texts = [{document["text"] for document in documents} for documents in made]
        assert all(len(a & b) < 8 for a, b in itertools.combinations(texts, 2))


def read_documents_of(config, folder):
    run(config, folder)
    return [d for path in parts_of(folder, "train", config.source) for d in read_documents(path)]


THREE = 'name = "t"\nkind = "thinking"\ncount = 3\n'


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('name = "t"\nkind = "thinking"\ncuont = 3', "job.toml: field 'cuont' is not known; did you mean 'count'"),
        ('name = "t"\nkind = "thinknig"\ncount = 3', "did you mean 'thinking'"),
        ('name = "t"\nkind = "thinking"', "needs the field count"),
        ('name = "t"\nkind = "thinking"\ncount = "many"', "'count' = 'many' is str, expected int"),
        ('name = "A b"\nkind = "thinking"\ncount = 3', "must be lower-case"),
        ('name = "t"\nkind = "thinking"\ncount = 0', "count = 0 must be at least 1"),
        (THREE + 'teacher = "endpoint"', "endpoint.base_url and endpoint.model must be set"),
        (THREE + '[endpoint]\nmodle = "m"', "endpoint: field 'modle' is not known; did you mean 'model'"),
        (THREE + '[efforts]\nhigh = -1', "efforts must be at least 0"),
        (THREE + 'families = ["gdc"]', "did you mean 'gcd'"),
        (THREE + 'families = ["quantum_lock"]', "no solver for quantum_lock; set teacher = 'endpoint'"),
        ('name = "t"\nkind = "tools"\ncount = 3\nfamilies = ["shoping"]', "did you mean 'shopping'"),
        ('name = "t"\nkind = "constraints"\ncount = 3\nfamilies = ["bullet"]', "did you mean 'bullets'"),
        ('name = "t"\nkind = "chat"\ncount = 3\nfamilies = ["safty"]', "did you mean 'safety'"),
        ("name = ", "is not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_job_is_one_message(tmp_path, written, message):
    (tmp_path / "job.toml").write_text(written)
    result = CliRunner().invoke(main, ["synth", "run", str(tmp_path / "job.toml"), "--store", str(tmp_path / "store")])
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output


def test_workers_are_for_procedures(tmp_path):
    (tmp_path / "job.toml").write_text(
        f'{THREE}teacher = "endpoint"\n[endpoint]\nbase_url = "https://h/v1"\nmodel = "m"'
    )
    config = load_job(tmp_path / "job.toml")
    with pytest.raises(SynthesisError, match="workers = 2 is for the procedural teacher"):
        synthesise(config, open_teacher(config, tmp_path / "r"), tmp_path / "out", workers=2)


def test_the_command_tells_rates_and_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_STORE", str(tmp_path / "store"))
    (tmp_path / "job.toml").write_text(
        'name = "t"\nkind = "constraints"\ncount = 30\nfamilies = ["bullets", "title"]\n'
    )
    arguments = ["synth", "run", str(tmp_path / "job.toml"), "--set", "count=20"]
    told = CliRunner().invoke(main, arguments).output
    assert "documents kept of 20 samples" in told and "bullets" in told and "title" in told
    report = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert report["wanted"] == 20 and report == json.loads(Path(report["uri"], "synthesis.json").read_text()) | {
        "uri": report["uri"]
    }
    names = json.loads(CliRunner().invoke(main, ["synth", "templates", "--json"]).output)
    assert len(names) >= 40 and all(row["when"] for row in names)
    families = json.loads(CliRunner().invoke(main, ["synth", "families", "--json"]).output)
    assert set(families) == {kind.value for kind in Kind}


def test_samples_are_passed_on_in_order_and_those_ahead_are_bounded(tmp_path, monkeypatch):
    """The first case is answered last: the others wait for it once they are as far ahead as they may be."""
    from k2model.synthesis import run as module

    seen = []

    class Slow(ProceduralTeacher):
        concurrency = 3

        async def complete(self, request):
            seen.append(request)
            if len(seen) == 1:
                for _ in range(500):  # turns of the loop, in which all that may run ahead does
                    await asyncio.sleep(0)
                seen_before_first.append(len(seen))
            return await super().complete(request)

    monkeypatch.setattr(module, "AHEAD", 5)
    seen_before_first: list[int] = []
    config = job(Kind.CONSTRAINTS, count=40, part_size=40)
    synthesise(config, Slow(), tmp_path / "slow")
    assert seen_before_first == [5 + 3] and len(seen) == 40
    synthesise(config, ProceduralTeacher(), tmp_path / "quick")
    sides = [[*map(rows, [tmp_path / name] * 3, ("train", "heldout", "rejected"))] for name in ("slow", "quick")]
    assert sides[0] == sides[1]


def test_the_example_of_the_documentation_runs(tmp_path):
    text = (ROOT / "docs" / "synthesis.md").read_text()
    example, endpoint = (block.split("```")[0] for block in text.split("```toml\n")[1:])
    (tmp_path / "traces.toml").write_text(example)
    _, report = run(replace(load_job(tmp_path / "traces.toml"), count=40), tmp_path / "out")
    assert report["source"] == "synth/traces" and 20 < report["kept"] < 40
    (tmp_path / "endpoint.toml").write_text(f'name = "e"\nkind = "thinking"\ncount = 1\n{endpoint}')
    assert load_job(tmp_path / "endpoint.toml").endpoint.concurrency == 64
