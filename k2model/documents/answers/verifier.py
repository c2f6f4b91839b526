"""A process of its own in which math-verify compares two answers, so that one without end can be ended.

Read as a program, never imported: a line of JSON on stdin (`gold`, `answer`, `seconds`), a line on stdout. It arms the
kernel's alarms for each comparison, which end the process wherever it is; whoever asked sees the end of the file and
starts another. The first alarm counts the processor's time, so that a verdict does not depend on what else a machine
does. Answers are read as LaTeX alone: of what math-verify reads, plain expressions are evaluated as Python.
"""

import json
import logging
import os
import resource
import signal
import sys
from importlib.metadata import version
from typing import Any

MEMORY = 2 << 30  # of address space
WAITED = 20  # as often the time on the clock


def parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    return parse(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)


def compared(gold: str, answer: str) -> dict[str, Any]:
    """`equal`, or what is `broken`: a gold answer that cannot be read."""
    from math_verify import verify

    # 1/3 may be written as 0.333333: six digits are compared.
    if not (wanted := parsed(gold)):
        return {"broken": f"the gold answer {gold!r} is no mathematics that can be read"}
    return {"equal": bool(verify(wanted, parsed(answer), float_rounding=6, timeout_seconds=None))}


def main() -> None:
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    compared("x^2+1", r"1+x \cdot x")  # all that is imported late
    versions = {name: version(name) for name in ("math-verify", "latex2sympy2_extended", "sympy")}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads warnings; a full pipe would stop us
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])
        signal.setitimer(signal.ITIMER_REAL, WAITED * asked["seconds"])
        try:
            answer = compared(asked["gold"], asked["answer"])
        except (Exception, RecursionError, MemoryError) as error:
            answer = {"equal": False, "why": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
