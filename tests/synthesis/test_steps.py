"""Jobs as steps: calls kept and never asked twice, documents made of them, the corpus that takes these as they are."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from k2model.artifacts import Store, find_part, make, make_part
from k2model.cli.main import main
from k2model.documents.schema import parts_of, read_documents
from k2model.errors import RecordError, SynthesisError
from k2model.ingest import raw_step
from k2model.lifecycle.jobs import jobs_of
from k2model.lifecycle.missing import missing_data
from k2model.lifecycle.steps import Work, data_rows, full_name, inputs_of
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import CorpusConfig, MixtureEntry, SourceConfig
from k2model.recipe.validate import RecipeError, validate_recipe
from k2model.synthesis import EndpointConfig, Kind, SynthesisConfig
from k2model.synthesis.steps import calls_step, expected, kept_record, recorded_answers, synthesis_step
from k2model.synthesis.teachers.endpoint import RecordedTeacher
from tests.synthesis.server import Answers, serving

PROCEDURAL = SynthesisConfig("t", Kind.CHAT, 60, part_size=25, error_rate=0.2)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def endpoint_job(url, count=12, **changed):
    config = EndpointConfig(base_url=url, model="tiny", concurrency=4, backoff_seconds=0.01, max_tokens=100)
    endpoint = replace(config, **changed.pop("endpoint", {}))
    return SynthesisConfig(
        "sums", Kind.THINKING, count, families=("arithmetic",), teacher="endpoint", endpoint=endpoint, part_size=7,
        **changed,
    )  # fmt: skip


def made(store, job):
    return make(store, synthesis_step(store, job, make(store, calls_step(store, job))))


def files(ref):
    """The content of an artifact."""
    found = {str(path.relative_to(ref.uri)): path for path in Path(ref.uri).rglob("*") if path.is_file()}
    apart = ("attachments/", "manifest.json", "artifact.json")
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(apart)}


def documents(ref, side, source):
    return [one for path in parts_of(Path(ref.uri), side, source) for one in read_documents(path)]


def recipe_with(*jobs):
    base, sources = smoke(), tuple(SourceConfig(job.source, job=job) for job in jobs)
    chats = tuple(MixtureEntry(source.name, 1.0) for source in sources)
    return replace(
        base,
        corpus=CorpusConfig(sources=(SourceConfig("chat/spelling", 40), *sources), heldout_items=4),
        phases=(replace(base.phase("sft"), parent="", mixture=chats),),
        gates=(),
        safety=replace(base.safety, kinds=()),
        continual=type(base.continual)(),
        evaluation=replace(base.evaluation, families=()),
    )


def test_parts_that_are_there_are_kept_and_the_command_makes_the_same(store, tmp_path):
    step = synthesis_step(store, PROCEDURAL)
    first = make_part(store, step, step.parts()[1])
    whole = make(store, step)
    assert find_part(store, step.identity.name, "00001") == first and len(step.parts()) == 3
    (tmp_path / "t.toml").write_text('name = "t"\nkind = "chat"\ncount = 60\npart_size = 25\nerror_rate = 0.2\n')
    asked = ["synth", "run", str(tmp_path / "t.toml"), "--json"]
    found = json.loads(CliRunner().invoke(main, [*asked, "--store", store.uri]).output)
    assert found["uri"] == whole.uri and found["kept"] == whole.stats["kept"] > 60
    elsewhere = json.loads(CliRunner().invoke(main, [*asked, "--store", str(tmp_path / "other")]).output)["uri"]
    assert files(replace(whole, uri=elsewhere)) == files(whole)
    ids = [one["id"] for side in ("train", "heldout") for one in documents(whole, side, "synth/t")]
    assert len(set(ids)) == len(ids), "equal documents of two parts are two, which deduplication compares"


def test_the_corpus_takes_documents_as_they_are(store):
    job = replace(PROCEDURAL, error_rate=0.0)
    written = make(store, synthesis_step(store, job))
    config = recipe_with(job).corpus
    raw = make(store, raw_step(config, store, synthesised={job.source: written}))
    for side in ("train", "heldout"):
        taken = documents(raw, side, job.source)
        assert taken == documents(written, side, job.source)
        assert taken, "rows with their spans, keys and marks"
    learned = [sum(span["loss_mask"] for span in one["spans"]) for one in documents(raw, "train", job.source)]
    assert min(learned) > 0 and all(one["key"] for one in documents(raw, "train", job.source))
    sizes = [pq.read_table(path)["text"].to_pylist() for name in config.sources for path in
             parts_of(Path(raw.uri), "train", name.name)]  # fmt: skip
    assert raw.stats["documents"] == sum(map(len, sizes))
    assert raw.stats["bytes"] == sum(len(text.encode()) for texts in sizes for text in texts)
    other = make(store, synthesis_step(store, replace(job, seed=1)))
    again = raw_step(config, store, synthesised={job.source: other})
    assert again.identity.key != raw.identity, "what was written is an input"


def test_what_an_endpoint_said_is_kept_and_asked_for_once(store):
    with serving(Answers()) as server:
        small = made(store, endpoint_job(server.url))
        first = asked = len(server.questions)
        more = made(store, endpoint_job(server.url, count=20))
        assert len(server.questions) == len(set(server.questions)) > asked, "of more cases the others alone"
        asked = len(server.questions)
        licensed = made(store, endpoint_job(server.url, licence="MIT"))
        assert {one["licence"] for one in documents(licensed, "train", "synth/sums")} == {"MIT"}
        assert len(server.questions) == asked
    assert more.stats["kept"] > small.stats["kept"]
    shutil.rmtree(small.uri)
    nowhere = endpoint_job("https://nowhere.invalid/v1", endpoint={"api_key_env": "NO_SUCH_KEY", "concurrency": 1})
    calls = store.find(calls_step(store, nowhere).identity)
    assert make(store, synthesis_step(store, nowhere, calls)).digest == small.digest, "no key, no network, same bytes"
    lines = [json.loads(line) for path in sorted(Path(calls.uri, "calls").iterdir()) for line in path.open()]
    assert all({*row} == {"fingerprint", "request", "response"} for row in lines) and len(lines) == first


def test_calls_in_another_order_with_faults_are_the_same_artifact(store, tmp_path):
    other = Store.open(tmp_path / "other")
    with serving(Answers()) as server:
        one = made(store, endpoint_job(server.url))
    with serving(Answers(lambda n, _: "broken" if n % 3 == 0 else None)) as server:
        two = made(other, endpoint_job(server.url, endpoint={"concurrency": 8}))
    assert files(one) == files(two) and one.digest == two.digest and one.identity == two.identity


def test_a_job_that_is_left_is_no_artifact_and_goes_on(store):
    with serving(Answers()) as server:
        tight = endpoint_job(server.url, endpoint={"budget_tokens": 600, "concurrency": 1})
        with pytest.raises(
            SynthesisError, match=r"of 12 cases are left: budget \d+ \(.*budget_tokens = 600.*run again"
        ):
            made(store, tight)
        asked = set(server.questions)
        assert asked and not store.records("synthesis_calls")
        assert made(store, endpoint_job(server.url)).stats["kept"] > 0
        assert len(server.questions) == len(set(server.questions)) > len(asked)


def test_a_job_of_which_nothing_is_kept_stops(store):
    with serving(Answers(lambda *_: "wrong_answer")) as server:
        with pytest.raises(SynthesisError, match=r"none of its \d+ samples passes verification: .*wrong_answer"):
            made(store, endpoint_job(server.url))


def test_calls_that_lack_a_request_are_told(tmp_path, store):
    with serving(Answers()) as server:
        calls = make(store, calls_step(store, endpoint_job(server.url)))
    asks_more = endpoint_job("https://nowhere.invalid/v1", count=40)
    with pytest.raises((RecordError, FileNotFoundError)):
        make(store, synthesis_step(store, replace(asks_more, part_size=40), calls))
    assert RecordedTeacher(asks_more.endpoint, Path(calls.uri, "calls/00000.jsonl")).concurrency == 1


def test_the_queries_of_a_job_are_part_of_what_it_is(tmp_path, store):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "Why is it dark?"}\n')
    job = SynthesisConfig("q", Kind.BEHAVIOUR, 4, queries=str(path), teacher="endpoint",
                          endpoint=EndpointConfig(base_url="https://host/v1", model="m"))  # fmt: skip
    first = calls_step(store, job).identity
    shutil.copy(path, tmp_path / "elsewhere.jsonl")
    assert calls_step(store, replace(job, queries=str(tmp_path / "elsewhere.jsonl"))).identity == first
    path.write_text('{"query": "Why is it light?"}\n')
    assert calls_step(store, job).identity.key != first.key


def test_a_recipe_has_the_steps_of_its_jobs_and_none_without(store):
    with serving(Answers()) as server:
        job = endpoint_job(server.url)
        recipe = recipe_with(PROCEDURAL, job)
        validate_recipe(recipe)
        assert missing_data(recipe) is None
        names = [full_name(row, owner) for row, owner in data_rows(recipe)]
        assert names[:4] == ["synth/t/synthesis", "synth/sums/synthesis_calls", "synth/sums/synthesis", "corpus_raw"]
        (_, before) = jobs_of(store, recipe)
        assert before.expected == expected(job) and 5 < before.expected.calls <= 12 and before.recorded == 0
        assert 0 < before.expected.prompt_tokens < 12 * 200 and before.expected.most_answer_tokens <= 1200
        made = {}
        for row, owner in data_rows(recipe):
            if row.name == "raw_checks":
                break
            step = row.build(Work(store, recipe, owner, inputs_of(row, owner, made)))
            made[full_name(row, owner)] = make(store, step)
        after = jobs_of(store, recipe)
        assert [one.made for one in after] == [True, True] and after[1].kept == made["synth/sums/synthesis"].stats[
            "kept"
        ]
    inputs = store.record(made["corpus_raw"])["inputs"]
    assert {*inputs} == {"synth/t", "synth/sums"}
    assert next(full_name(row, owner) for row, owner in data_rows(recipe_with())) == "corpus_raw"


def test_plan_and_status_say_what_an_endpoint_will_be_asked(tmp_path):
    job = {"name": "sums", "kind": "thinking", "count": 30, "families": ["arithmetic"], "teacher": "endpoint",
           "endpoint": {"base_url": "https://nowhere.invalid/v1", "model": "m", "max_tokens": 100}}  # fmt: skip
    added = f"corpus.sources.+={json.dumps({'name': 'synth/sums', 'job': job})}"
    arguments = ["smoke", "--set", added, "--store", str(tmp_path / "store")]
    told = CliRunner().invoke(main, ["plan", *arguments]).output
    assert "synth/sums asks an endpoint: 0 answers recorded, about 2" in told
    rows = json.loads(CliRunner().invoke(main, ["synth", "status", *arguments, "--json"]).output)
    assert [row["source"] for row in rows] == ["synth/safety", "synth/sums"] and rows[0]["expected"] is None
    assert "0 of 1 parts" in CliRunner().invoke(main, ["synth", "status", *arguments]).output


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SourceConfig("synth/other", job=PROCEDURAL), "documents of job 't' are of the source 'synth/t'"),
        (SourceConfig("synth/t", 20, job=PROCEDURAL), "set corpus.sources.synth/t.job.count"),
        (SourceConfig("synth/t", job=PROCEDURAL, location="x", domain="d", licence="l"), "leave one out"),
        (SourceConfig("synth/t", job=PROCEDURAL, sample=0.5), "sample has no effect"),
        (SourceConfig("synth/sums", job=endpoint_job("")), "endpoint.base_url and endpoint.model must be set"),
        (SourceConfig("synth/sums", job=endpoint_job("https://me:pw@host/v1")), "holds a user, password"),
        (SourceConfig("synth/sums", job=endpoint_job("https://h/v1", endpoint={"longer_tokens": 50})), "second try"),
    ],
)
def test_a_source_whose_job_cannot_be_is_told_before_anything_runs(source, said):
    recipe = recipe_with(PROCEDURAL)
    others = tuple(one for one in recipe.corpus.sources if one.job is None)
    with pytest.raises(RecipeError, match=said):
        validate_recipe(replace(recipe, corpus=replace(recipe.corpus, sources=(*others, source))))


def test_on_an_object_store_a_record_is_saved_while_it_grows(s3_uri, monkeypatch):
    monkeypatch.setattr("k2model.synthesis.teachers.kept.FLUSH_SECONDS", 0.02)
    store = Store.open(s3_uri)
    with kept_record(store, "sums") as path:
        path.write_bytes(b'{"fingerprint": "a", "reply": {}, "usage": {}}\n')
        while not store.files_of("_calls/sums").sizes():
            time.sleep(0.02)
    with pytest.raises(ValueError, match="killed"), kept_record(store, "sums") as path:
        with path.open("ab") as file:
            file.write(b'{"fingerprint": "b", "reply": {}, "usage": {}}\n')
        raise ValueError("killed")
    assert recorded_answers(store, "sums") == 2 and recorded_answers(store, "others") == 0
    with serving(Answers()) as server:
        job = replace(endpoint_job(server.url, count=4), name="others")
        calls = make(store, calls_step(store, job))
        assert make(store, synthesis_step(store, job, calls)).stats["kept"] > 0


def test_no_secret_gets_into_the_store(store, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret-0123456789")
    with serving(Answers()) as server:
        made(store, endpoint_job(server.url, endpoint={"api_key_env": "TEACHER_KEY"}))
        assert server.authorizations == {"Bearer sk-very-secret-0123456789"}
    everything = b"".join(Path(folder, name).read_bytes() for folder, _, names in os.walk(store.uri) for name in names)
    assert everything and b"sk-very-secret" not in everything
