"""The endpoint teacher against a real server that refuses, fails, dawdles, stammers and hangs up."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.documents.schema import parts_of, read_documents
from k2model.errors import TeacherError
from k2model.synthesis import EndpointConfig, Kind, SynthesisConfig, open_teacher, synthesise, synthesise_part
from k2model.synthesis.conversation import Request, Turn
from k2model.synthesis.teachers.limits import Pause
from tests.servers import Watch
from tests.synthesis.server import Answers, serving
from tests.synthesis.test_limits import Time

ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret-0123456789"


def job(url, count=12, **endpoint):
    settings = {"concurrency": 4, "backoff_seconds": 0.01, "timeout_seconds": 5.0, "max_tokens": 100} | endpoint
    config = EndpointConfig(base_url=url, model="tiny", **settings)
    return SynthesisConfig(
        "sums", Kind.THINKING, count, families=("arithmetic",), teacher="endpoint", endpoint=config, part_size=7
    )


def run(config, folder):
    """(counts, what the run did, documents kept)."""
    teacher = open_teacher(config, folder.parent / "calls.jsonl")
    counts = synthesise(config, teacher, folder)
    kept = [
        d for side in ("train", "heldout") for p in parts_of(folder, side, config.source) for d in read_documents(p)
    ]
    return counts, teacher.run_statistics(), kept


def record_of(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def digest(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.parent.name != "attachments"
    }


def asked_count(config, folder):
    """How many requests the job makes when nothing goes wrong: refused problems are not asked."""
    return run(config, folder)[0]["asked"]


def test_every_fault_is_outlived_and_nothing_is_lost(tmp_path):
    faults = ["too_many", "broken", "malformed", "cut", "wrong_usage", None, "slow", "too_many", "broken"]
    with serving(Answers(lambda n, _: faults[n] if n < len(faults) else None)) as server:
        counts, account, kept = run(job(server.url, timeout_seconds=1.0), tmp_path / "out")
    assert counts["cases"] == 12 and not counts.get("unfinished")
    assert counts["answered"] == counts["asked"] == len(set(server.questions))
    assert len(kept) == counts["kept"] == counts["answered"]  # every answer is right
    assert account["failed_attempts"] == 7 and account["usage_wrong"] == 1
    assert set(account["failures"]) == {"status 429", "status 500", "malformed", "cut off", "timeout"}
    rows = record_of(tmp_path)
    answers = [row for row in rows if "reply" in row]
    assert len(rows) == len(server.questions) and len(answers) == counts["answered"]
    assert all(row["seconds"] > 0 and row["attempt"] >= 1 and row["request"]["model"] == "tiny" for row in rows)
    assert all(json.loads(row["response"])["choices"] for row in answers)


def test_a_second_run_asks_nothing_and_gives_the_same_bytes(tmp_path):
    with serving(Answers()) as server:
        run(job(server.url), tmp_path / "first")
        asked = len(server.questions)
        _, account, _ = run(job(server.url), tmp_path / "second")
        assert len(server.questions) == asked and account["replayed"] == asked and account["asked"] == 0
    assert digest(tmp_path / "first") == digest(tmp_path / "second")
    run(job("https://nowhere.invalid/v1"), tmp_path / "third")  # no network is needed, and the address is no identity
    assert digest(tmp_path / "first") == digest(tmp_path / "third")


def test_answers_in_another_order_give_the_same_bytes(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    with serving(Answers()) as server:
        run(job(server.url, concurrency=1), tmp_path / "a" / "out")
    with serving(Answers(lambda n, q: "broken" if n % 3 == 0 else None)) as server:
        run(job(server.url, concurrency=8), tmp_path / "b" / "out")
    assert digest(tmp_path / "a" / "out") == digest(tmp_path / "b" / "out")


def test_concurrency_is_bounded_and_used(tmp_path):
    with serving(Answers(delay=0.05)) as server:
        run(job(server.url, count=20, concurrency=3), tmp_path / "out")
    assert server.most_in_flight == 3


def test_wrong_answers_are_rejected(tmp_path):
    with serving(Answers(lambda n, _: "wrong_answer" if n % 2 else None)) as server:
        counts, _, kept = run(job(server.url, concurrency=1), tmp_path / "out")
    assert counts["reason/wrong_answer"] == counts["asked"] // 2 and len(kept) == counts["kept"]


def test_the_budget_stops_the_run_and_a_larger_one_goes_on(tmp_path):
    with serving(Answers()) as server:
        whole = asked_count(job(server.url, count=24), tmp_path / "elsewhere" / "out")
        server.questions.clear()
        tight = job(server.url, count=24, budget_tokens=900, concurrency=1)
        counts, account, kept = run(tight, tmp_path / "out")
        assert 0 < account["spent_tokens"] <= 900 and "budget_tokens = 900" in account["stopped"]
        assert counts["kept"] == len(kept) == account["answered"] > 0
        assert counts["unfinished"] == counts["unfinished/budget"] == whole - account["answered"]
        assert json.loads((tmp_path / "out" / "synthesis.json").read_text())["complete"] is False
        before = len(server.questions)
        assert run(tight, tmp_path / "out")[1]["asked"] == 0  # what was spent counts over all runs
        counts, _, _ = run(job(server.url, count=24, budget_tokens=100_000), tmp_path / "out")
        assert not counts.get("unfinished") and len(server.questions) == whole > before
    assert digest(tmp_path / "out") == digest(tmp_path / "elsewhere" / "out")


def test_a_teacher_that_makes_several_parts_counts_its_spending_once(tmp_path):
    with serving(Answers()) as server:
        config = job(server.url, count=20)
        teacher = open_teacher(config, tmp_path / "calls.jsonl")
        for part in range(3):
            synthesise_part(config, teacher, tmp_path / "out", part)
    charged = sum(sum(row["usage"].values()) for row in record_of(tmp_path))
    assert teacher.run_statistics()["spent_tokens"] == charged


def test_money_is_counted_at_the_prices(tmp_path):
    with serving(Answers()) as server:
        config = job(server.url, price_prompt=1.0, price_completion=10.0, budget_cost=0.01)
        _, account, _ = run(config, tmp_path / "out")
    assert 0 < account["spent_cost"] <= 0.01
    assert account["spent_cost"] == pytest.approx(account["answered"] * (40 * 1.0 + 20 * 10.0) / 1e6)


def test_a_call_of_unknown_outcome_is_charged_in_full(tmp_path):
    with serving(Answers(lambda n, _: "cut" if n == 0 else None)) as server:
        _, account, _ = run(job(server.url, count=1, concurrency=1), tmp_path / "out")
    failed, answered = record_of(tmp_path)
    assert failed["charged"]["completion_tokens"] == 100 and answered["usage"] == {
        "prompt_tokens": 40,
        "completion_tokens": 20,
    }
    assert account["spent_tokens"] == 60 + sum(failed["charged"].values())


def test_an_outage_ends_the_run_and_a_later_one_completes_it(tmp_path):
    with serving(Answers(lambda n, _: "broken")) as server:
        config = job(server.url, count=40, max_attempts=2, max_failures=3, concurrency=1)
        counts, account, _ = run(config, tmp_path / "out")
        assert "3 requests in a row failed" in account["stopped"] and len(server.questions) == 6
        assert counts["unfinished"] == counts["asked"] > 30 and "answered" not in counts
        server.fault = lambda n, _: None
        counts, _, kept = run(config, tmp_path / "out")
    assert not counts.get("unfinished") and counts["kept"] == len(kept) > 30


def test_an_interrupted_call_is_recorded_as_perhaps_billed(tmp_path):
    async def ask():
        async with teacher.session():
            asked = asyncio.create_task(teacher.complete(Request((Turn("user", "Compute 1+2="),), "low")))
            while not server.questions:
                await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    with serving(Answers(delay=0.5)) as server:
        teacher = open_teacher(job(server.url), tmp_path / "calls.jsonl")
        asyncio.run(ask())
    [row] = record_of(tmp_path)
    assert row["failure"] == "interrupted" and row["charged"]["completion_tokens"] == 100


def test_everyone_waits_as_long_as_a_response_asks(tmp_path, monkeypatch):
    clock = Time()
    monkeypatch.setattr("k2model.synthesis.teachers.client.Pause", lambda: Pause(clock, clock.sleep))
    with serving(Answers(lambda n, _: "too_many" if n == 0 else None)) as server:
        run(job(server.url, concurrency=1), tmp_path / "out")
    assert clock.now == pytest.approx(100.05)  # slept on once, for the 0.05 s of `Retry-After`


def test_a_wait_of_hours_ends_the_run(tmp_path):
    with serving(Answers(lambda n, _: "far_too_many" if n == 2 else None)) as server:
        counts, account, kept = run(job(server.url, concurrency=1), tmp_path / "out")
    assert account["stopped"] == "the endpoint asks to wait 7200 s" and len(server.questions) == 3 and len(kept) == 2
    assert counts["unfinished/stopped"] == counts["unfinished"] - 1


def test_a_refused_request_leaves_its_case_alone(tmp_path):
    with serving(Answers(lambda n, _: "refused" if n == 2 else None)) as server:
        counts, _, _ = run(job(server.url, concurrency=1), tmp_path / "out")
    assert counts["reason/refused"] == 1 and counts["kept"] == counts["asked"] - 1
    assert not counts.get("unfinished")
    assert [row["failure"] for row in record_of(tmp_path) if "failure" in row] == [
        'refused: status 400: {"error": "not this one"}'
    ]


def test_equal_requests_under_way_are_asked_once_and_samples_apart(tmp_path):
    request = Request((Turn("user", "Compute 1+2="),), "high")

    async def ask():
        async with teacher.session():
            asked = [teacher.complete(r) for r in (request, request, replace(request, sample=1))]
            return await asyncio.gather(*asked)

    with serving(Answers(delay=0.1)) as server:
        teacher = open_teacher(job(server.url), tmp_path / "calls.jsonl")
        answers = asyncio.run(ask())
    assert len(server.questions) == 2 and {answer.reply.content for answer in answers} == {"Answer: 3"}


def test_the_teacher_bounds_its_calls_itself_and_waiting_is_no_timeout(tmp_path):
    async def ask():
        async with teacher.session():
            requests = [Request((Turn("user", f"Compute {n}+1="),), "low") for n in range(1, 9)]
            await asyncio.gather(*map(teacher.complete, requests))

    with serving(Answers(delay=0.25)) as server:
        teacher = open_teacher(job(server.url, concurrency=2, timeout_seconds=0.7), tmp_path / "calls.jsonl")
        asyncio.run(ask())
    assert server.most_in_flight == 2 and teacher.run_statistics()["failed_attempts"] == 0


def test_the_key_stands_nowhere_but_in_its_header(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(Answers(lambda n, _: "unauthorized" if n == 3 else None)) as server:
        with pytest.raises(TeacherError, match=r"status 401 .* check the key in \$SOME_KEY") as failure:
            run(job(server.url, api_key_env="SOME_KEY", concurrency=1), tmp_path / "out")
    assert server.authorizations == {f"Bearer {KEY}"}
    assert KEY not in str(failure.value)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"fingerprint" in written and KEY.encode() not in written


def test_calls_under_way_are_recorded_when_the_endpoint_refuses_the_key(tmp_path):
    with serving(Answers(lambda n, _: "unauthorized" if n == 9 else None, delay=0.05)) as server:
        with pytest.raises(TeacherError, match="status 401"):
            run(job(server.url, count=40, concurrency=4), tmp_path / "out")
    answered = [row["request"]["messages"][-1]["content"] for row in record_of(tmp_path) if "reply" in row]
    assert sorted(answered) == sorted(server.answered) and 9 <= len(answered) < 20


def test_an_endpoint_that_refuses_everything_is_not_asked_for_ever(tmp_path):
    with serving(Answers(lambda n, _: "refused")) as server:
        _, account, _ = run(job(server.url, count=60, concurrency=1, max_failures=5), tmp_path / "out")
    assert len(server.questions) == 5 and "status 400" in account["stopped"] and "not this one" in account["stopped"]


def test_a_missing_key_and_bad_addresses_are_told(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(TeacherError, match="NO_SUCH_KEY holds no key"):
        open_teacher(job("https://host/v1", api_key_env="NO_SUCH_KEY"), tmp_path / "r")
    with pytest.raises(TeacherError, match="unencrypted; use https"):
        open_teacher(job("http://example.com/v1"), tmp_path / "r")
    open_teacher(job("http://example.com/v1", allow_plain_http=True), tmp_path / "r")
    for url in ("http://localhost:8000/v1", "http://[::1]:8000/v1", "https://example.com/v1"):
        open_teacher(job(url), tmp_path / "r")
    with pytest.raises(TeacherError, match="must hold no user, password or query"):
        open_teacher(job("https://me:secret@host/v1"), tmp_path / "r")
    with pytest.raises(TeacherError, match="is no address"):
        open_teacher(job("host/v1"), tmp_path / "r")


def start(path, home):
    command = [sys.executable, "-c", "from k2model.cli.main import main; main()", "synth", "run", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "K2_HOME": str(home)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_and_resumed_it_asks_nothing_twice(tmp_path):
    with serving(Answers(delay=0.05)) as server:
        path, record = tmp_path / "job.toml", tmp_path / "home" / "store" / "_calls" / "sums" / "calls.jsonl"
        path.write_text(
            'name = "sums"\nkind = "thinking"\ncount = 60\nfamilies = ["arithmetic"]\nteacher = "endpoint"\n'
            "part_size = 25\n"
            f'[endpoint]\nbase_url = "{server.url}"\nmodel = "tiny"\nconcurrency = 4\nmax_tokens = 100\n'
        )
        process = start(path, tmp_path / "home")
        while not record.exists() or record.read_bytes().count(b"\n") < 12:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.2)  # answers under way arrive at nobody
        recorded = {json.loads(line)["request"]["messages"][-1]["content"] for line in record.read_text().splitlines()}
        assert 12 <= len(recorded) < 55
        first = len(server.questions)
        with record.open("ab") as file:
            file.write(b'{"fingerprint": "abc", "reply": {"cont')
        resumed = start(path, tmp_path / "home")
        watched = Watch(resumed.pid)
        _, err = resumed.communicate(timeout=240)
        assert resumed.returncode == 0, err
        watched.join(timeout=10)
        assert any("synth run" in command for command in watched.commands)
        assert watched.addresses <= {"127.0.0.1", "::1"}  # who asks an endpoint waits for nobody
        again = server.questions[first:]
        assert not recorded & set(again)
        assert len(server.questions) - len(set(server.questions)) <= 4  # those that were under way
    (calls,) = (tmp_path / "home/store/synthesis_calls").iterdir()
    account = json.loads((calls / "attachments/teacher.json").read_text())
    assert account["torn_bytes"] == len(b'{"fingerprint": "abc", "reply": {"cont')
    assert account["replayed"] == len(recorded) and account["asked"] == len(again)
    with serving(Answers()) as server:
        config = replace(job(server.url, count=60), part_size=25)
        run(config, tmp_path / "whole" / "out")
    (made,) = (tmp_path / "home/store/synthesis").iterdir()
    assert digest(tmp_path / "whole" / "out").items() <= digest(made).items()
