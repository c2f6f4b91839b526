"""Whether a model's program does what its tests want, as in HumanEval and MBPP.

The program and the tests run in two jails that talk through pipes (`exchange`): the one that says whether the tests
passed has never held a line of the model's. Arguments and results are handed over by value, so a test does not see what
a function changes in its arguments.
"""

import ast
import json
import os
import platform
import re
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from k2model.documents.schema import Item, make_item
from k2model.evals.graders import exchange
from k2model.sandbox import TASK, Ending, Limits, Result, python, start

VERSION = "1"  # another one grades otherwise

_BLOCK = re.compile(r"^[ \t]*```[ \t]*[\w+-]*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Examination:
    """right: None where there is no verdict, since the tests themselves do not run. reason: what a wrong one did."""

    right: bool | None
    reason: str
    seconds: float


def humaneval_item(row: Mapping[str, Any]) -> Item:
    """An item of a row of HumanEval's: a function's head and docstring to go on from."""
    meta = {"tests": row["test"], "entry_point": row["entry_point"], "check": "check", "setup": row["prompt"]}
    return _named(make_item("humaneval", row["task_id"], row["prompt"], row["canonical_solution"], meta=meta), row)


def mbpp_item(row: Mapping[str, Any]) -> Item:
    """An item of a row of MBPP's: a task in words, with its tests (Austin et al. 2021, section 2.1)."""
    tests = "\n".join(row["test_list"])
    prompt = f"{row.get('text') or row['prompt']}\nYour code should pass these tests:\n\n{tests}\n"
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports", ()))
    return _named(
        make_item("mbpp", str(row["task_id"]), prompt, row["code"], meta={"tests": tests, "setup": setup}), row
    )


def _named(item: Item, row: Mapping[str, Any]) -> Item:
    return {**item, "id": str(row["task_id"])}


def program_of(item: Item, answer: str) -> str:
    """The program that an answer makes: the last fenced block that holds the whole function; or what goes on from the
    item's prompt, up to a fence; or the last block; or all of it."""
    meta = json.loads(item["meta"])
    entry, setup = meta.get("entry_point", ""), meta.get("setup", "")
    blocks = _BLOCK.findall(answer)
    whole = [block for block in (blocks or [answer]) if _defines(block, entry)]
    if not entry:
        return (whole or blocks or [answer])[-1]
    if whole:
        return f"{setup}\n{whole[-1]}"
    head = answer.partition("```")[0]
    body = head if head.strip("\n")[:1].isspace() or not blocks else blocks[-1]
    return f"{item['prompt']}{body}"


def _defines(text: str, name: str) -> bool:
    """Whether a text is a program by itself that has this function."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    made = {_name(target) for one in body if isinstance(one, ast.Assign) for target in one.targets}
    return not name or name in made | {_name(one) for one in body}


def _name(node: ast.AST) -> str:
    return getattr(node, "name", getattr(node, "id", ""))


def grade(item: Item, answer: str) -> bool | None:
    """Whether an answer's program passes the item's tests; None where there is no verdict.

    Raises EvaluationError where this machine can make no sandbox.
    """
    return examine(item, answer).right


def grade_all(pairs: Iterable[tuple[Item, str]], workers: int | None = None) -> list[bool | None]:
    """`grade` of each (item, answer), in their order, as many at once as there are processors."""
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda pair: grade(*pair), pairs))


def examine(item: Item, answer: str, limits: Limits = Limits()) -> Examination:  # noqa: B008
    """Run an answer's program against the item's tests, both within `limits`. Raises as `grade` does."""
    meta = {"setup": "", "entry_point": "", "check": "", **json.loads(item["meta"])}
    program, tests = program_of(item, answer).encode("utf-8", "surrogatepass"), json.dumps(meta).encode()
    candidate, judge = _both(program, tests, limits)
    seconds = max(candidate.seconds, judge.seconds)
    if candidate.ending in (Ending.MEMORY, Ending.FILES, Ending.OUTPUT):
        return Examination(False, f"it took more {candidate.ending.value} than it may", seconds)
    if Ending.TIME in (candidate.ending, judge.ending):
        return Examination(False, f"it took longer than {limits.seconds:g} s", seconds)
    _, _, verdict = judge.stderr.rpartition(exchange.VERDICT)
    if not judge.succeeded or not verdict:
        return Examination(False, "the tests were ended by what they were answered", seconds)
    said = json.loads(verdict)
    return Examination(said["passed"], said["reason"], seconds)


def _both(program: bytes, tests: bytes, limits: Limits) -> tuple[Result, Result]:
    """The candidate's end and the judge's; the candidate's is the judge's at the latest."""
    asked, asks = os.pipe()
    answered, answers = os.pipe()
    ends: list[Result] = []
    try:
        files = {"exchange.py": _exchange(), "solution.py": program}
        candidate = start([*python(), f"{TASK}/exchange.py", "candidate"], files, limits, asked, answers)
        watched = threading.Thread(target=lambda: ends.append(candidate.wait()))
        watched.start()
        files = {"exchange.py": _exchange(), "tests.json": tests}
        judge = start([*python(), f"{TASK}/exchange.py", "judge"], files, limits, answered, asks)
    finally:
        for end in (asked, asks, answered, answers):
            os.close(end)
    judged = judge.wait()
    candidate.stop()
    watched.join()
    return ends[0], judged


@cache
def _exchange() -> bytes:
    return Path(exchange.__file__).read_bytes()


def grader_version() -> dict[str, str]:
    """What a grade depends on beside the item and the answer."""
    return {"code": VERSION, "python": platform.python_version()}
