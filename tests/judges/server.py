"""A judge on the loopback interface: it says what it is told to of each sample, and remembers what it was shown."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from k2model.recipe.safety import JudgeConfig
from tests.synthesis.server import USAGE, Answers, _send


class JudgeServer(Answers):
    """`says(sample, number)` is the content of the reply to the sample that was asked as number so many."""

    def __init__(self, says: Callable[[dict[str, Any], int], str], **faults: Any) -> None:
        super().__init__(**faults)
        self.says = says
        self.asked: list[dict[str, Any]] = []
        self.answers_as = "test-judge"

    def _answer(self, handler: BaseHTTPRequestHandler, question: str, usage: object = USAGE) -> bool:
        sample = json.loads(question)
        with self.lock:
            number = len(self.asked)
            self.asked.append(sample)
        content = self.says(sample, number)
        reply = {"model": self.answers_as, "choices": [{"message": {"content": content}}], "usage": usage}
        return _send(handler, 200, json.dumps(reply))

    def config(self, **changes: Any) -> JudgeConfig:
        return JudgeConfig("test-judge", self.url, **{"attempts": 1, "concurrency": 4, **changes})


def verdict(thinking: tuple[bool, bool] | None, answer: tuple[bool, bool] | None) -> str:
    """A well-formed one, (refuses, harmful) of each part."""
    parts = {"thinking": thinking, "answer": answer}
    return json.dumps({n: None if p is None else {"refuses": p[0], "harmful": p[1]} for n, p in parts.items()})
