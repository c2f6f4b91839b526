"""Questions that call for a tool: a calculator, and a look-up in the tables of facts.

The model answers `What is 47*83?` with `{"name": "calc", "arguments": {"a": 47, "op": "*", "b": 83}}`
between the tool tags. `execute` is the tool itself. Held out is the call, so that no wording of a
held-out question is trained.
"""

import json
from random import Random
from typing import Any, NamedTuple

from k2model.documents.families.facts import Fact, fact_tables
from k2model.documents.markup import TOOL_CALLS, TOOL_CALLS_END, Message, Segment, chat
from k2model.documents.schema import Item, is_heldout, make_item

ORIGIN, LICENCE = "k2model tools", "Apache-2.0"
CALC_QUESTIONS = ("What is {expression}?", "Calculate {expression}.", "Work out {expression} for me.")
LOOKUP_QUESTIONS = (
    "Look up the {table} of {name}.",
    "Use the table to find the {table} of {name}.",
    "Find the {table} of {name} in the table.",
)
LOOKUP_SHARE = 0.25
RESULT_SHARE = 0.25  # of the dialogues that go on to the tool's result; the call itself is the hard part


class Call(NamedTuple):
    key: str
    prompt: str
    tool_call: str  # JSON
    result: str
    final: str  # what the assistant says after the result


def calculation(a: int, op: str, b: int, wording: int = 0) -> Call:
    call = {"name": "calc", "arguments": {"a": a, "op": op, "b": b}}
    result = execute(json.dumps(call))
    prompt = CALC_QUESTIONS[wording].format(expression=f"{a}{op}{b}")
    return Call(f"calc {a}{op}{b}", prompt, json.dumps(call), result, final(result))


def lookup(fact: Fact, wording: int = 0) -> Call:
    call = {"name": "lookup", "arguments": {"table": fact.table, "key": fact.name}}
    prompt = LOOKUP_QUESTIONS[wording].format(table=fact.table, name=fact.name)
    key = f"lookup {fact.table} {fact.name}"
    return Call(key, prompt, json.dumps(call, ensure_ascii=False), fact.answer, final(fact.answer))


def final(result: str) -> str:
    """What the assistant says at the end. One wording for all, which is no wording of a fact."""
    return f"The answer is {result}."


def sample(rng: Random, facts: list[Fact], heldout: bool) -> Call:
    """A random call of the wanted split."""
    while True:
        if rng.random() < LOOKUP_SHARE:
            call = lookup(rng.choice(facts), rng.randrange(len(LOOKUP_QUESTIONS)))
        else:
            a, b = (rng.randrange(1, 10 ** rng.randint(1, 3)) for _ in range(2))
            call = calculation(a, rng.choice("+-*"), b, rng.randrange(len(CALC_QUESTIONS)))
        if is_heldout(call.key) == heldout and (heldout or not _answers_a_heldout_sum(call)):
            return call


def _answers_a_heldout_sum(call: Call) -> bool:
    """Whether a calculation is a held-out chain sum of two terms, whose value the tool's turn would give away."""
    kind, _, expression = call.key.partition(" ")
    return kind == "calc" and is_heldout(expression)


def segments(call: Call, effort: str, with_result: bool) -> list[Segment]:
    """The dialogue up to the call, or on to the tool's turn and the final answer."""
    messages: list[Message] = [
        {"role": "user", "content": call.prompt},
        {"role": "assistant", "tool_call": call.tool_call},
    ]
    if with_result:
        messages += [{"role": "tool", "content": call.result}, {"role": "assistant", "content": call.final}]
    return chat(messages, effort)


def items(rng: Random, facts: list[Fact], count: int) -> list[Item]:
    """`count` items with distinct held-out calls; `answer` is the call's JSON, `meta` has its result."""
    by_key: dict[str, Call] = {}
    while len(by_key) < count:
        call = sample(rng, facts, heldout=True)
        by_key.setdefault(call.key, call)
    return [
        make_item("tools", call.key, call.prompt, call.tool_call, meta={"result": call.result, "final": call.final})
        for call in by_key.values()
    ]


def execute(call: str) -> str:
    """Run a tool call given as JSON; returns the result as text.

    Raises `ValueError` for anything that is not a well-formed call of a known tool, `KeyError` for a
    look-up of something the table does not have.
    """
    parsed = _parse(call)
    arguments = parsed["arguments"]
    if parsed["name"] == "calc":
        a, b = arguments["a"], arguments["b"]
        return str({"+": a + b, "-": a - b, "*": a * b}[arguments["op"]])
    return fact_tables()[arguments["table"]][arguments["key"]]


def tool_call_of(answer: str) -> str | None:
    """The text between the tool tags of an answer; None when they are missing or not closed."""
    _, opened, rest = answer.partition(TOOL_CALLS)
    call, closed, _ = rest.partition(TOOL_CALLS_END)
    return call if opened and closed else None


def check_well_formed(item: Item, answer: str) -> bool:
    """Whether the answer holds one well-formed call of a known tool."""
    call = tool_call_of(answer)
    try:
        return call is not None and bool(_parse(call))
    except ValueError:
        return False


def check_exact(item: Item, answer: str) -> bool:
    """Whether it is the wanted call, argument by argument."""
    return check_well_formed(item, answer) and json.loads(tool_call_of(answer) or "") == json.loads(item["answer"])


def check_result(item: Item, answer: str) -> bool:
    """Whether running the call gives the wanted result."""
    call = tool_call_of(answer)
    try:
        return call is not None and execute(call) == json.loads(item["meta"])["result"]
    except (ValueError, KeyError):
        return False


check = check_exact


def _parse(call: str) -> dict[str, Any]:
    try:
        parsed = json.loads(call)
    except RecursionError as error:
        raise ValueError("a tool call nested too deeply") from error
    if not isinstance(parsed, dict) or set(parsed) != {"name", "arguments"}:
        raise ValueError("a tool call is an object of 'name' and 'arguments'")
    arguments = parsed["arguments"]
    if not isinstance(arguments, dict):
        raise ValueError("a tool call's 'arguments' must be an object")
    match parsed["name"], sorted(arguments):
        case "calc", ["a", "b", "op"]:
            numbers = all(type(arguments[name]) is int for name in "ab")
            well_formed = numbers and arguments["op"] in ("+", "-", "*")
        case "lookup", ["key", "table"]:
            texts = all(isinstance(value, str) for value in arguments.values())
            well_formed = texts and arguments["table"] in fact_tables()
        case _:
            well_formed = False
    if not well_formed:
        raise ValueError(f"not a call of calc(a, op, b) or lookup(table, key): {call[:100]}")
    return parsed
