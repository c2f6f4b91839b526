"""The record of calls: what is in it is found again, what is torn is told, what is broken stops."""

import json

import pytest

from k2model.errors import RecordError
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Reply, Request, ToolCall, Turn, Usage
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.record import Record

FIRST = {"content": "Tür \ud800", "calls": [{"name": "calculate", "arguments": '{"a": 1}'}]}, Usage(3, 4)
SECOND = {"content": "two"}, Usage(5, 6)


@pytest.fixture
def path(tmp_path):
    with Record.opened(tmp_path / "deep" / "calls.jsonl") as record:
        record.add_answer("one", *FIRST, {"request": {"a": 1}})
        record.add_failure("two", Usage(7, 0), {"failure": "status 500"})
        record.add_answer("two", *SECOND, {})
    return tmp_path / "deep" / "calls.jsonl"


def test_answers_are_found_again(path):
    with Record.opened(path) as record:
        assert "one" in record and "three" not in record and len(record) == 2
        assert record.answer("two") == SECOND and record.answer("one")[0]["calls"] == FIRST[0]["calls"]
        assert sum(map(sum, record.spent)) == 3 + 4 + 7 + 5 + 6
        record.add_answer("three", *SECOND, {})
        assert record.answer("three") == SECOND and record.answer("one")[1] == Usage(3, 4)


def test_a_torn_line_is_cut_and_told(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"fingerprint": "thr')
    with Record.opened(path) as record:
        assert record.torn_bytes == 20 and len(record) == 2
        record.add_answer("three", *SECOND, {})
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["fingerprint"] for line in path.read_text().splitlines()] == ["one", "two", "two", "three"]


def test_a_whole_last_line_without_its_end_is_kept(path):
    path.write_bytes(path.read_bytes()[:-1])
    with Record.opened(path) as record:
        assert record.torn_bytes == 0 and record.answer("two") == SECOND
        record.add_answer("three", *SECOND, {})
    assert len(path.read_text().splitlines()) == 4


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "garbage\n" + lines[2])
    with pytest.raises(RecordError, match=r"calls.jsonl, line 2: not a recorded call"):
        with Record.opened(path):
            pass


def test_without_a_file_answers_are_found_again_within_the_run():
    with Record.opened(None) as record:
        record.add_answer("one", *FIRST, {})
        assert "one" in record and record.answer("one")[1] == FIRST[1]


def test_one_run_writes_at_a_time(path):
    with Record.opened(path):
        with pytest.raises(RecordError, match="another run is writing"):
            with Record.opened(path):
                pass
    with Record.opened(path):
        pass


CONFIG = EndpointConfig(base_url="https://host/v1", model="m", max_tokens=50)
REQUEST = Request((Turn("system", "s"), Turn("user", "u")), "high", exact=Reply("the answer"))


def test_the_fingerprint_is_of_what_is_sent_and_of_nothing_else():
    def name(config=CONFIG, **changed):
        request = Request(**{**REQUEST.__dict__, **changed})
        return wire.fingerprint(wire.body(config, request), request.sample)

    assert name(exact=None) == name()
    assert len({name(), name(sample=1), name(effort="low"), name(turns=(Turn("user", "u"),))}) == 4
    other = EndpointConfig(base_url="https://other/v1", model="m", max_tokens=50, concurrency=3, api_key_env="X")
    assert name(other) == name()
    assert name(EndpointConfig(model="n", max_tokens=50)) != name()
    assert "the answer" not in json.dumps(wire.body(CONFIG, REQUEST))


def response(message, usage=None):
    return json.dumps({"choices": [{"message": message}], "usage": usage})


def test_thinking_and_calls_are_read_from_every_place():
    sent = wire.body(CONFIG, REQUEST)
    for message in (
        {"content": "A", "reasoning_content": "T"},
        {"content": "A", "reasoning": "T"},
        {"content": "<think>\nT\n</think>\nA"},
    ):
        assert wire.reply_of(wire.read(response(message), sent).reply) == Reply("A", "T")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    reply = wire.reply_of(wire.read(response({"content": None, "tool_calls": [call]}), sent).reply)
    assert reply.calls == (ToolCall("f", '{"a": 1}'),) and reply.content == ""


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}', "[" * 100_000]
)
def test_what_is_no_completion_is_told(content):
    with pytest.raises(wire.BadResponse):
        wire.read(content, wire.body(CONFIG, REQUEST))


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 51},
        {"prompt_tokens": 10**9, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
    ],
)
def test_an_impossible_usage_is_estimated(usage):
    answer = wire.read(response({"content": "a" * 40}, usage), wire.body(CONFIG, REQUEST))
    assert answer.usage_wrong and answer.usage.completion_tokens == 10


def test_tool_turns_are_sent_as_the_protocol_has_them():
    calls = (ToolCall("f", "{}"), ToolCall("g", "{}"))
    turns = (Turn("user", "u"), Turn("assistant", calls=calls), Turn("tool", "1"), Turn("tool", "2"))
    tool = '{"name": "f", "description": "d", "inputSchema": {"type": "object"}}'
    sent = wire.body(CONFIG, Request(turns, "low", (tool,)))
    first, second = sent["messages"][1]["tool_calls"]
    assert [m.get("tool_call_id") for m in sent["messages"]] == [None, None, first["id"], second["id"]]
    assert first["id"] != second["id"] and sent["reasoning_effort"] == "low"
    assert sent["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    ]


def test_half_a_character_is_text_that_can_be_stored(path):
    """As servers write it where an answer was cut within a character."""
    content = response({"content": "whole \U0001f600, cut \U0001f600"})
    assert content.count("\\ud83d\\ude00") == 2
    cut = "\\ud83d".join(content.rsplit("\\ud83d\\ude00", 1))
    reply = wire.reply_of(wire.read(cut, wire.body(CONFIG, REQUEST)).reply)
    assert reply.content == "whole \U0001f600, cut \ufffd"
