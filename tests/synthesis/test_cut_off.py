"""Replies that end before their end: never learned, whatever the server calls it, and counted by what they are."""

import json
from dataclasses import replace

import pytest

from k2model.documents.schema import parts_of, read_documents
from k2model.synthesis import EndpointConfig, Kind, SynthesisConfig, open_teacher, synthesise
from k2model.synthesis.output import REJECTED_SCHEMA
from k2model.synthesis.teachers import wire
from tests.synthesis.server import Answers, completion, serving

CUT = {"content": "Knives are kept sharp by honing them often, and by cutting on wo"}
CALL = {"function": {"name": "sum", "arguments": "{}"}}


def job(url, count=6, **endpoint):
    settings = {"concurrency": 2, "backoff_seconds": 0.001, "max_tokens": 64, "max_attempts": 2} | endpoint
    config = EndpointConfig(base_url=url, model="local", **settings)
    return SynthesisConfig("cutoff", Kind.CONSTRAINTS, count, licence="CC0-1.0", teacher="endpoint", endpoint=config)


def usage(tokens):
    return {"prompt_tokens": 40, "completion_tokens": tokens}


def run(config, folder):
    teacher = open_teacher(config, folder / "calls.jsonl")
    counts = synthesise(config, teacher, folder)
    sides = {
        side: [d for path in parts_of(folder, side, config.source) for d in read_documents(path)]
        for side in ("train", "heldout")
    }
    return counts, teacher.run_statistics(), sides["train"] + sides["heldout"]


FAULTS = {
    "length": (CUT, "length", usage(64), "cut_off"),
    "as others call it": (CUT, "max_tokens", usage(64), "cut_off"),
    "in capitals": (CUT, "MAX_TOKENS", usage(64), "cut_off"),
    "of another protocol": (CUT, "max_output_tokens", usage(64), "cut_off"),
    "at the limit, whatever is said": (CUT, "stop", usage(64), "cut_off"),
    "at the limit, and nothing is said": (CUT, None, usage(64), "cut_off"),
    "in the thinking": ({"content": "", "reasoning_content": "First I think that"}, "length", usage(64), "cut_off"),
    "in inline thinking": ({"content": "<think>First I think that"}, "stop", usage(10), "cut_off"),
    "in thinking of another effort": ({"content": "<think_fast>First I think that"}, "stop", usage(10), "cut_off"),
    "null content": ({"content": None, "reasoning_content": "Well"}, "length", usage(64), "cut_off"),
    "filtered": (CUT, "content_filter", usage(10), "filtered"),
    "filtered by another": (CUT, "SAFETY", usage(10), "filtered"),
    "a refusal beside the content": ({"content": None, "refusal": "I must not."}, "stop", usage(10), "refused"),
    "only thinking": ({"content": "", "reasoning_content": "Well, it is so."}, "stop", usage(10), "empty_reply"),
    "tools not offered": ({"content": None, "tool_calls": [CALL]}, "tool_calls", usage(9), "unexpected_calls"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "finish", "used", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_is_not_whole_is_rejected_with_its_reason(tmp_path, message, finish, used, reason):
    with serving(Answers(response=lambda _: completion(message, finish, used))) as server:
        counts, account, kept = run(job(server.url), tmp_path)
        asked = len(server.questions)
        run(job(server.url), tmp_path)
        assert len(server.questions) == asked, "what was said is known, and not asked for again"
    assert not kept and counts[f"reason/{reason}"] == counts["rejected"] == counts["samples"] == counts["cases"]
    assert not counts.get("unfinished") and not account["failed_attempts"]
    (path,) = parts_of(tmp_path, "rejected", "synth/cutoff")
    rows = read_rejected(path)
    assert {row["reason"] for row in rows} == {reason} and all(row["detail"] for row in rows)
    assert all((message.get("content") or "") in row["text"] for row in rows), "what was seen is there to be looked at"


def read_rejected(path):
    import pyarrow.parquet as pq

    return pq.read_table(path, schema=REJECTED_SCHEMA).to_pylist()


UNTOLD = {
    "null": completion(CUT, None, usage(10)),
    "absent": json.dumps({"choices": [{"message": CUT}], "usage": usage(10)}),
    "aborted": completion(CUT, "abort", usage(10)),
    "not a word": completion(CUT, 3, usage(10)),
    "without usage": json.dumps({"choices": [{"message": CUT, "finish_reason": None}]}),
    "no choices": json.dumps({"choices": [], "usage": usage(10)}),
    "a piece of a stream": json.dumps({"choices": [{"delta": CUT, "finish_reason": "stop"}]}),
    "a stream": f"data: {completion(CUT)}\n\ndata: [DONE]\n\n",
}


@pytest.mark.parametrize("response", UNTOLD.values(), ids=UNTOLD)
def test_what_nobody_calls_whole_is_asked_for_again_and_ends_the_run(tmp_path, response):
    with serving(Answers(response=lambda _: response)) as server:
        counts, account, kept = run(job(server.url, count=12, max_failures=4, concurrency=1), tmp_path)
    assert not kept and not counts.get("kept") and counts["unfinished"] == 12
    assert "4 requests in a row failed" in account["stopped"] and set(account["failures"]) == {"malformed"}
    assert len(server.questions) == 4 * 2, "each is tried twice"


def test_a_second_try_has_more_room_where_the_job_has_some(tmp_path):
    def response(sent):
        whole = sent["max_tokens"] == 256
        return completion({"content": "No."} if whole else CUT, "stop" if whole else "length", usage(60))

    with serving(Answers(response=response)) as server:
        config = job(server.url, longer_tokens=256)
        counts, account, _ = run(config, tmp_path)
        assert len(server.questions) == account["asked"] == 2 * counts["cases"] and "reason/cut_off" not in counts
        assert counts["completion_tokens"] == 120 * counts["cases"], "both were paid for"
        run(config, tmp_path)
        assert len(server.questions) == 2 * counts["cases"]
        short = replace(config, endpoint=replace(config.endpoint, longer_tokens=0))
        assert run(short, tmp_path)[0]["reason/cut_off"] == counts["cases"]


def test_every_word_for_an_end_is_of_one_kind():
    assert not wire.WHOLE & wire.CUT_OFF and not wire.WHOLE & wire.FILTERED and not wire.CUT_OFF & wire.FILTERED
    assert all(word == word.lower() for word in wire.WHOLE | wire.CUT_OFF | wire.FILTERED)
