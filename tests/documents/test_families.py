"""Every solver against an independent one: Python's eval, brute force, a second search."""

import itertools
import json
import re
from random import Random

import pytest

from k2model.documents.families import FAMILIES, arithmetic, countdown, facts, knights, retrieval, spelling, tools
from k2model.documents.families.task import items_of, split
from k2model.documents.schema import is_heldout, make_item
from k2model.documents.spans import segments_of


def item(task):
    return make_item("any", task.key, task.prompt, task.answer)


def test_every_family_has_a_check():
    assert {name for name, module in FAMILIES.items() if callable(module.check)} == set(FAMILIES)
    assert len(FAMILIES) == 11


def test_arithmetic_answers_and_steps_are_what_python_computes():
    tasks = arithmetic.pool(Random(0), 2_000)
    assert len({task.key for task in tasks}) == len(tasks) == 2_000
    for task in tasks:
        assert task.prompt == f"Compute {task.key}="
        assert int(task.answer) == eval(task.key)
        steps = task.high.split(";")
        assert len(steps) == len(re.findall("[+-]", task.key))
        for step in steps:
            left, right = step.split("=")
            assert eval(left) == int(right)
        assert steps[-1].endswith(f"={task.answer}")
    assert {task.key.count("+") + task.key.count("-") for task in tasks} == {1, 2, 3}


def test_arithmetic_example_by_hand():
    task = arithmetic.solve("4-1+4-8")
    assert task.high == "4-1=3;3+4=7;7-8=-1"
    assert task.medium == "4-1=3+4=7-8=-1"
    assert task.answer == "-1"
    assert arithmetic.check(item(task), "-1\n") and not arithmetic.check(item(task), "1")


def test_spelling_example_by_hand():
    task = spelling.solve("planet")
    assert (task.prompt, task.high, task.answer) == ("Reverse planet:", " p l a n e t", " t e n a l p")
    assert spelling.check(item(task), "t e n a l p") and not spelling.check(item(task), " p l a n e t")
    words = [task.key for task in spelling.pool(Random(0), 500)]
    assert len(set(words)) == 500 and all(re.fullmatch("[a-z]{3,7}", word) for word in words)


def parse(formula: str, a: bool, b: bool) -> bool:
    """A recursive descent reader of the compact form: atom, !atom, !(...), or parts joined by one operator."""
    parts, operators, depth, start = [], [], 0, 0
    for i, character in enumerate(formula):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character in "&|>=":
            parts.append(formula[start:i])
            operators.append(character)
            start = i + 1
    parts.append(formula[start:])
    assert len(set(operators)) <= 1, formula
    if operators:
        values = [parse(part, a, b) for part in parts]
        match operators[0]:
            case "&":
                return min(values)
            case "|":
                return max(values)
            case ">":
                return values[0] <= values[1]
            case "=":
                return values[0] == values[1]
    if formula.startswith("!"):
        return not parse(formula[1:], a, b)
    if formula.startswith("("):
        return parse(formula[1:-1], a, b)
    return {"A": a, "B": b}[formula]


def test_knights_have_one_solution_and_a_true_truth_table():
    tasks = knights.pool(Random(0), 600)
    assert len({task.prompt for task in tasks}) == len(tasks) == 600
    for task in tasks:
        first, second = re.fullmatch(r"Knights A:(.*);B:(.*)\?", task.prompt).groups()
        table = {}
        for a, b in itertools.product([True, False], repeat=2):
            table[f"{a:d}{b:d}"] = f"{parse(first, a, b):d}{parse(second, a, b):d}"
        assert [assumed for assumed, truths in table.items() if assumed == truths] == [task.answer]
        order = ["11", "10", "01", "00"]
        shown = [f"{assumed}:{table[assumed]}" for assumed in order[: order.index(task.answer) + 1]]
        assert task.high == ";".join(shown)
        assert task.medium == shown[-1]
        assert len(task.prompt) <= len("Knights ") + knights.MAX_FORMULA
    assert {task.answer for task in tasks} == {"11", "10", "01", "00"}


def test_knights_example_by_hand():
    task = knights.solve((("lying", 1), ("<=>", ("lying", 0), ("telling-truth", 1))))
    assert task.prompt == "Knights A:!B;B:!A=B?"
    assert (task.high, task.medium, task.answer) == ("11:00;10:11;01:01", "01:01", "01")
    deep = ("and", ("or", ("telling-truth", 0), ("not", ("lying", 1))), ("->", ("telling-truth", 0), ("lying", 1)))
    assert knights.render(deep) == "(A|(!(!B)))&(A>!B)"


def test_knights_with_no_or_many_solutions_are_refused():
    truthful = ("telling-truth", 0), ("telling-truth", 1)
    assert knights.solve(truthful) is None  # everybody fits


def test_knights_with_names_exchanged_share_a_key():
    one = knights.solve((("lying", 1), ("<=>", ("lying", 0), ("telling-truth", 1))))
    other = knights.solve((("<=>", ("lying", 1), ("telling-truth", 0)), ("lying", 0)))
    assert one is not None and other is not None
    assert one.key == other.key and one.prompt != other.prompt and one.answer == other.answer[::-1]


def test_countdown_example_by_hand():
    task = countdown.solve((3, 2, 5), 6)
    assert task.high == "3+2=5,5:10 0 25;3-2=1,5:6"
    assert task.medium == "3-2=1,5:6"
    assert task.answer == "(3-2)+5"
    assert countdown.solve((1, 1, 1), 50) is None


def test_countdown_answers_make_the_target_from_each_number_once():
    tasks = countdown.pool(Random(0), 1_500)
    for task in tasks:
        numbers, target = re.fullmatch(r"Countdown (\d \d \d) to (\d+):", task.prompt).groups()
        assert eval(task.answer) == int(target)
        assert sorted(re.findall(r"\d", task.answer)) == sorted(numbers.split())
        assert countdown.check(item(task), task.answer)
        assert len(task.high) <= countdown.MAX_TRACE
        for line in task.high.split(";"):
            operation, made = line.split("=")
            value, (rest, results) = int(made.split(",")[0]), made.split(",")[1].split(":")
            assert eval(operation) == value
            possible = {value + int(rest), abs(value - int(rest)), value * int(rest)}
            assert {int(result) for result in results.split()} <= possible
        last = [int(result) for result in task.high.rsplit(":", 1)[1].split()]
        assert last[-1] == int(target)
        before = re.findall(r":([\d ]+)", task.high)[:-1]
        assert int(target) not in {int(result) for results in before for result in results.split()}


@pytest.mark.parametrize(
    ("answer", "right"),
    [("5+(3-2)", True), ("2*3", False), ("3+2+5-4", False), ("6", False), ("(3-2)+5;", False), ("5+3-2", True),
     ("__import__('os')", False), ("3**2-5+2", False), ("", False), ("(" * 30, False), ("(3-2)*5", False)],
)  # fmt: skip
def test_countdown_checks_value_and_numbers(answer, right):
    assert countdown.check(item(countdown.solve((3, 2, 5), 6)), answer) is right


def test_knights_with_operands_exchanged_share_a_key():
    a, b = ("telling-truth", 0), ("lying", 1)
    for operator in ("and", "or", "<=>"):
        first = knights.key_of(((operator, a, b), ("not", (operator, a, b))))
        assert first == knights.key_of(((operator, b, a), ("not", (operator, b, a))))
    assert knights.key_of((("->", a, b), a)) != knights.key_of((("->", b, a), a))


def test_no_trained_sum_begins_with_a_heldout_one():
    trained, heldout = split(arithmetic.pool(Random(0), 6_000))
    out = {task.high for task in heldout}
    assert trained and out
    for task in trained:
        steps = task.high.split(";")
        assert not out & {";".join(steps[:end]) for end in range(1, len(steps) + 1)}


def test_no_trained_countdown_search_uses_heldout_numbers():
    trained, heldout = split(countdown.pool(Random(0), 10_000))
    numbers = [{" ".join(sorted(task.prompt.split()[1:4])) for task in side} for side in (trained, heldout)]
    assert not numbers[0] & numbers[1] and len(numbers[1]) >= 15


def test_tool_results_do_not_answer_heldout_sums():
    rng, known = Random(0), facts.all_facts()
    calls = [tools.sample(rng, known, heldout=False).key for _ in range(3_000)]
    assert not [key for key in calls if key.startswith("calc ") and is_heldout(key.removeprefix("calc "))]


def test_items_have_distinct_heldout_keys_and_permutations_stay_on_one_side():
    trained, heldout = split(countdown.pool(Random(0), 10_000))
    assert not {task.key for task in trained} & {task.key for task in heldout}
    items = items_of("countdown", heldout, 150)
    assert len({i["key"] for i in items}) == len(items) == 150


def test_facts_are_the_known_ones():
    known = {(fact.table, fact.name): fact.answer for fact in facts.all_facts()}
    assert len(known) == 128
    for table, name, answer in (
        ("capital", "France", "Paris"), ("capital", "Japan", "Tokyo"), ("capital", "Peru", "Lima"),
        ("symbol", "iron", "Fe"), ("symbol", "hydrogen", "H"), ("symbol", "gold", None),
    ):  # fmt: skip
        assert known.get((table, name)) == answer


def test_no_fact_wording_contains_another():
    fact = facts.all_facts()[0]
    for templates in (facts.STATEMENTS, facts.QUESTIONS):
        for wordings in templates.values():
            prompts = [re.findall(r"\w+", w.format(name=fact.name, answer="").lower()) for w in wordings]
            joined = [f" {' '.join(words)} " for words in prompts]
            assert not [(a, b) for a, b in itertools.permutations(joined, 2) if a in b]


def test_fact_items_end_in_the_answer_and_the_check_is_exact():
    families = facts.items(facts.all_facts())
    for family in ("facts_seen", "facts_heldout"):
        assert len(families[family]) == 128
        first = families[family][0]
        assert "China" in first["prompt"] and first["answer"] == " Beijing"
        assert facts.check(first, " Beijing\nThe capital") and facts.check(first, "It is Beijing.")
        assert not facts.check(first, " Bei") and not facts.check(first, "")
    assert all(not i["key"] for i in families["facts_seen"]) and all(i["key"] for i in families["facts_heldout"])


def tool_item(call):
    return make_item("tools", call.key, call.prompt, call.tool_call, meta={"result": call.result})


def test_tool_calls_are_executed_and_told_apart():
    call = tools.calculation(47, "*", 83)
    assert call.tool_call == '{"name": "calc", "arguments": {"a": 47, "op": "*", "b": 83}}'
    assert call.result == "3901" == tools.execute(call.tool_call)
    wanted = tool_item(call)

    def wrap(text):
        return f"<tool_calls>{text}</tool_calls>"

    assert tools.check_exact(wanted, wrap(call.tool_call)) and tools.check_result(wanted, wrap(call.tool_call))
    swapped = call.tool_call.replace("47", "83", 1).replace('"b": 83', '"b": 47')
    assert not tools.check_exact(wanted, wrap(swapped)) and tools.check_result(wanted, wrap(swapped))
    wrong = call.tool_call.replace("83", "84")
    assert tools.check_well_formed(wanted, wrap(wrong)) and not tools.check_result(wanted, wrap(wrong))


@pytest.mark.parametrize(
    "answer",
    ["", "3901", "<tool_calls>{</tool_calls>", "<tool_calls>[]</tool_calls>",
     '<tool_calls>{"name": "calc", "arguments": {"a": 1, "op": "/", "b": 2}}</tool_calls>',
     '<tool_calls>{"name": "calc", "arguments": {"a": true, "op": "+", "b": 2}}</tool_calls>',
     '<tool_calls>{"name": "calc", "arguments": {"a": 1, "op": "+"}}</tool_calls>',
     '<tool_calls>{"name": "calc", "arguments": {"a": 1, "op": [], "b": 2}}</tool_calls>',
     '<tool_calls>{"name": "lookup", "arguments": {"table": "rivers", "key": "France"}}</tool_calls>',
     '<tool_calls>{"name": "rm", "arguments": {}}</tool_calls>',
     '<tool_calls>{"name": "calc", "arguments": {"a": 47, "op": "*", "b": 83}}'],
)  # fmt: skip
def test_malformed_tool_calls_are_no_calls(answer):
    wanted = tool_item(tools.calculation(47, "*", 83))
    checks = (tools.check_well_formed, tools.check_exact, tools.check_result)
    assert [check(wanted, answer) for check in checks] == [False, False, False]


def test_lookup_of_an_unknown_key_is_well_formed_but_has_no_result():
    france = next(fact for fact in facts.all_facts() if fact.name == "France")
    wanted = tool_item(tools.lookup(france))
    answer = '<tool_calls>{"name": "lookup", "arguments": {"table": "capital", "key": "Atlantis"}}</tool_calls>'
    assert tools.check_well_formed(wanted, answer) and not tools.check_result(wanted, answer)
    assert tools.check_result(wanted, f"<tool_calls>{wanted['answer']}</tool_calls>")


WORDS = [f"{a}{b}{c}" for a, b, c in itertools.product("abcdef", repeat=3)]


def read_entries(text):
    return re.findall(r"; (\w+) (\w+)", text)


@pytest.mark.parametrize("context", [128, 1024])
def test_retrieval_targets_are_the_values_of_the_entries(context):
    rng, prose = Random(0), ["filler"] * 500
    for _ in range(150):
        document = retrieval.document(rng, WORDS, prose, context, f"retrieval/{context}")
        segments = segments_of(document)
        entries = read_entries(segments[1]["text"])
        assert len(dict(entries)) == len(entries) >= 1
        asked = list(zip(segments[2:-1:3], segments[3:-1:3], segments[4:-1:3], strict=True))
        assert asked and all(mark["text"] == "?" and not mark["loss_mask"] for mark, _, _ in asked)
        assert all(value["loss_mask"] for _, _, value in asked)
        queried = [(key["text"].strip(), value["text"].strip()) for _, key, value in asked]
        assert all(dict(entries)[key] == value for key, value in queried)
        if any(key["loss_mask"] for _, key, _ in asked):  # recited: only what can be foretold is a target
            assert queried == entries * (len(queried) // len(entries))
        assert 3 * (len(entries) + len(queried)) <= 0.92 * context


def test_retrieval_items_spread_entries_and_list_their_queries():
    made = retrieval.item(Random(0), WORDS, ["filler"] * 500, 512)
    entries = dict(read_entries(made["prompt"]))
    queries = json.loads(made["meta"])["queries"]
    assert len(entries) == 20 and len(queries) == 8 and made["context"] == 512
    assert all(entries[key] == value for key, value in queries)
    assert retrieval.check(made, made["answer"]) and not retrieval.check(made, made["answer"] + " more")
    places = [match.start() / len(made["prompt"]) for match in re.finditer("; ", made["prompt"])]
    assert places[0] < 0.05 and places[-1] > 0.85 and max(b - a for a, b in itertools.pairwise(places)) < 0.1


def test_vocabulary_is_by_frequency_then_alphabet():
    assert retrieval.vocabulary(["the cat the dog, dog cat It is elephantine", "bee"], 3) == ["cat", "dog", "the"]
