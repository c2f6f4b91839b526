"""The judge that is a language model at an OpenAI-compatible address.

One call judges thinking and answer, each by itself: the same judge on the same text. Every call is recorded before it
is used, so that a run which was cut short asks only for what is missing, and so that verdicts are read again without a
network. What cannot be read as a verdict is asked for again, counted, and in the end left without one: nothing is ever
guessed from it. Calls, limits and the record are those of teachers (`k2model.synthesis.teachers`).
"""

import asyncio
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from k2model.documents.counts import Counts
from k2model.errors import TeacherError
from k2model.judges.verdict import Case, Judgement, Verdict, marked
from k2model.recipe.safety import JudgeConfig
from k2model.synthesis.config import EndpointConfig
from k2model.synthesis.conversation import Request, Turn, Unanswered
from k2model.synthesis.teachers import wire
from k2model.synthesis.teachers.endpoint import EndpointTeacher
from k2model.synthesis.teachers.record import read_call

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)
SHOWN = 120  # characters of a malformed verdict


class Malformed(ValueError):
    """What a judge said is no verdict on the case."""


class LanguageModelJudge:
    """record: the JSONL file of its calls, made if need be and only ever appended to.

    Raises TeacherError for an address or a key that cannot be used; `verdicts` does where a server answers in another
    model's name.
    """

    def __init__(self, config: JudgeConfig, record: Path) -> None:
        self._config, self._record = config, record
        self._teacher = EndpointTeacher(_endpoint(config), record, _reading)
        self._counts = Counts()

    @property
    def identity(self) -> Mapping[str, Any]:
        return identity_of(self._config)

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict]:
        return asyncio.run(self._all(cases))

    def judge(self, question: str, trace: str | None, answer: str | None, wanted: str = "") -> Verdict:
        return self.verdicts([Case(question, trace, answer, wanted=wanted)])[0]

    def statistics(self) -> Mapping[str, int]:
        return dict(self._counts)

    def calls(self, cases: Sequence[Case]) -> Iterator[str]:
        """The lines of its record that are about these cases: whoever has them judges again without a network."""
        endpoint, wording = _endpoint(self._config), self._config.wording
        names = {
            wire.fingerprint(wire.body(endpoint, request_of(case, wording, sample)), sample)
            for case in cases for sample in range(self._config.asked)
        }  # fmt: skip
        if self._record.is_file():
            with self._record.open("rb") as file:
                yield from (line.decode() for line in file if read_call(line)[0]["fingerprint"] in names)

    async def _all(self, cases: Sequence[Case]) -> list[Verdict]:
        async with self._teacher.session():
            found = await asyncio.gather(*map(self._one, cases))
        told = self._teacher.run_statistics()
        self._counts.update({name: told[name] for name in ("asked", "replayed", "failed_attempts")})
        return found

    async def _one(self, case: Case) -> Verdict:
        if case.marker:
            return marked(case)
        if case.answer is None and (case.wanted or case.thinking is None):
            return Verdict(right=False) if case.wanted else Verdict()
        problem = ""
        for sample in range(self._config.asked):
            try:
                said = (await self._teacher.complete(request_of(case, self._config.wording, sample))).reply.content
                return read_verdict(said, case)
            except Malformed as error:
                self._counts["malformed"] += 1
                problem = f"malformed: {error}"
            except Unanswered as left:
                self._counts["unanswered"] += 1
                return Verdict(problem=f"unanswered: {left}")
        return Verdict(problem=problem)


def identity_of(config: JudgeConfig) -> dict[str, Any]:
    """What bears on the verdicts of a language model: not where it is served."""
    return {
        "name": f"{config.model} ({config.wording})",
        "model": config.model,
        "wording": config.wording,
        "instruction": sha256(instruction(config.wording).encode()).hexdigest()[:16],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "asked": config.asked,
    }


def request_of(case: Case, wording: str, sample: int = 0) -> Request:
    """What is asked about a case. The sample goes as JSON, so that its own words end nothing and tell nothing."""
    if case.wanted:
        told = _instructions()["correctness"]["correctness"]
        shown = {"question": case.request, "right_answer": case.wanted, "given_answer": case.answer}
    else:
        told = instruction(wording)
        shown = {"request": case.request, "thinking": case.thinking, "answer": case.answer}
    turns = (Turn("system", told.strip()), Turn("user", json.dumps(shown, ensure_ascii=False)))
    return Request(turns, effort="low", sample=sample)


def _reading(content: str, sent: Mapping[str, Any]) -> wire.Answer:
    response, _ = wire.first_choice(content)
    if other := wire.other_name(response, sent):
        raise TeacherError(
            f"the judge was asked as '{sent['model']}' and answers as '{other}': these would be another model's "
            "verdicts. Name the model that is meant, as the server names it"
        )
    return wire.read(content, sent)


def read_verdict(said: str, case: Case) -> Verdict:
    """The verdict in a judge's reply: one JSON object, alone or in one code fence, with exactly the fields wanted.

    Raises Malformed for anything else, a verdict on a part that is not there among it.
    """
    fenced = _FENCED.fullmatch(said)
    try:
        content = json.loads(fenced[1] if fenced else said, object_pairs_hook=_once)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON: {said[:SHOWN]!r}") from error
    if case.wanted:
        if not isinstance(content, dict) or set(content) != {"right"} or not isinstance(content["right"], bool):
            raise Malformed(f"expected {{'right': true or false}}: {said[:SHOWN]!r}")
        return Verdict(right=content["right"])
    if not isinstance(content, dict) or not {"answer"} <= content.keys() <= {"thinking", "answer"}:
        raise Malformed(f"expected the fields thinking and answer: {said[:SHOWN]!r}")
    parts = {name: _judgement(content.get(name), said) for name in ("thinking", "answer")}
    for name, text in (("thinking", case.thinking), ("answer", case.answer)):
        if (parts[name] is None) is not (text is None):
            raise Malformed(f"{name} is {'left out' if text is not None else 'judged and not there'}: {said[:SHOWN]!r}")
    return Verdict(parts["thinking"], parts["answer"])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that says a field twice may say two things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Malformed(f"a field is given twice: {', '.join(name for name, _ in pairs)[:SHOWN]!r}")
    return found


def _judgement(labels: Any, said: str) -> Judgement | None:
    if labels is None:
        return None
    if not isinstance(labels, dict) or set(labels) != {"refuses", "harmful"}:
        raise Malformed(f"a part needs refuses and harmful: {said[:SHOWN]!r}")
    if not all(isinstance(label, bool) for label in labels.values()):
        raise Malformed(f"refuses and harmful are true or false: {said[:SHOWN]!r}")
    return Judgement(**labels)


def instruction(wording: str) -> str:
    return str(_instructions()[wording]["safety"])


@cache
def _instructions() -> dict[str, dict[str, str]]:
    return tomllib.loads(files("k2model.judges").joinpath("wordings.toml").read_text(encoding="utf-8"))


def _endpoint(config: JudgeConfig) -> EndpointConfig:
    return EndpointConfig(
        base_url=config.url,
        model=config.model,
        api_key_env=config.api_key_env,
        temperature=config.temperature,
        top_p=1.0,
        max_tokens=config.max_tokens,
        send_effort=False,
        concurrency=config.concurrency,
        max_attempts=config.attempts,
        timeout_seconds=config.timeout_seconds,
        backoff_seconds=0.5,
        backoff_limit_seconds=8.0,
        allow_plain_http=config.allow_plain_http,
    )
