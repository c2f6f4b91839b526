"""Questions that take a program: the one tool offered runs Python in the sandbox, and gives back what it wrote.

Each asks for one whole number that is tedious by hand and a loop by machine. What the model writes is untrusted, so it
runs in a jail (`k2model.sandbox`); a machine that can make none refuses these questions before the first is asked.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from k2model.documents.schema import is_heldout
from k2model.sandbox import Ending, Limits, run_python
from k2model.sandbox.needs import require
from k2model.synthesis.conversation import ToolCall
from k2model.synthesis.tools.tasks import ToolTask
from k2model.synthesis.tools.toolbox import ERROR, execute, parse_arguments, schema_fault

LIMITS = Limits(seconds=10.0)
LONGEST_OUTPUT = 2_000  # characters that the model is shown
PROGRAM: dict[str, Any] = {
    "name": "run_python",
    "description": "Run a Python program that uses the standard library alone; returns what it prints.",
    "inputSchema": {
        "type": "object",
        "properties": {"code": {"type": "string"}},
        "required": ["code"],
        "additionalProperties": False,
    },
}


def carried_out(call: ToolCall, offered: Sequence[str]) -> str:
    """What a tool answers, a program's output among them; `error: ...` says what was wrong, and never raises for what
    the model wrote. Raises EvaluationError on a machine that cannot make a jail."""
    if call.name != PROGRAM["name"] or call.name not in offered:
        return execute(call, offered)
    arguments = parse_arguments(call.arguments)
    if arguments is None or schema_fault(PROGRAM["inputSchema"], arguments):
        return f"{ERROR}expected an object with the program as 'code'"
    ran = run_python(arguments["code"], LIMITS)
    if ran.ending is not Ending.EXIT:
        return f"{ERROR}the program was ended: it took more {ran.ending.value} than it may"
    if ran.code:
        return f"{ERROR}{ran.stderr.strip()[-LONGEST_OUTPUT:] or f'the program ended with {ran.code}'}"
    return ran.stdout.strip()[:LONGEST_OUTPUT] or f"{ERROR}the program printed nothing"


def programs_of(count: int, seed: int = 0) -> list[ToolTask]:
    """`count` distinct questions, of every kind in turn. Raises EvaluationError where no jail can be made."""
    require()
    rng = Random(f"{seed}:evaluation tool_code")
    found: dict[str, ToolTask] = {}
    while len(found) < count:
        kind = KINDS[len(found) % len(KINDS)]
        question, answer = kind(rng)
        key = f"program {question}"
        if is_heldout(key) and key not in found:
            family = kind.__name__.removeprefix("_")
            found[key] = ToolTask(family, f"{question} Use the tool.", (PROGRAM["name"],), (), str(answer), (key,))
    return list(found.values())


def _primes(rng: Random) -> tuple[str, int]:
    low = rng.randint(500, 4_000)
    high = low + rng.randint(500, 3_000)
    answer = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(low, high + 1))
    return f"How many prime numbers are there from {low} to {high}, both included?", answer


def _digits(rng: Random) -> tuple[str, int]:
    base, power = rng.randint(3, 19), rng.randint(60, 300)
    return f"What is the sum of the decimal digits of {base}^{power}?", sum(map(int, str(base**power)))


def _collatz(rng: Random) -> tuple[str, int]:
    start, steps = rng.randint(1_000, 60_000), 0
    n = start
    while n != 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    question = (
        f"Begin with {start}; an even number is halved, an odd one is tripled and 1 added. After how many steps is it "
        "1 for the first time?"
    )
    return question, steps


def _squares(rng: Random) -> tuple[str, int]:
    top, modulus = rng.randint(2_000, 9_000), rng.randint(7, 97)
    rest = rng.randrange(1, modulus) ** 2 % modulus  # of a square, or the answer were 0
    answer = sum(n * n % modulus == rest for n in range(1, top + 1))
    return (
        f"How many n from 1 to {top} are there for which n*n leaves the remainder {rest} divided by {modulus}?",
        answer,
    )


KINDS: tuple[Callable[[Random], tuple[str, int]], ...] = (_primes, _digits, _collatz, _squares)
