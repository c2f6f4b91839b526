"""What all kinds of job share: random streams, the choice of problem and effort, documents, and checks of a reply.

Every reply must answer, speak as this model, hold no special tokens and not be too long. The reasons a reply is
rejected for are the words below and those of each kind; they are columns of the report.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple

from k2model.documents.markup import EFFORTS, SPECIAL_TOKENS, Segment
from k2model.documents.schema import content_id, make_document
from k2model.synthesis.config import SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Reply, Sample
from k2model.synthesis.problems import Problem, draw

_MODELS = r"(chatgpt|gpt-?\w*|claude|gemini|bard|copilot|qwen\w*|deepseek\w*|llama|mistral|grok)"
_MAKERS = r"(openai|anthropic|google|alibaba( cloud)?|meta|mistral|deepseek|microsoft|xai)"
_MADE = r"(created|made|built|developed|trained)"
#: Phrases by which a teacher gives itself, or another model, away. The names alone are no leak.
_LEAKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(answer|respond|reply|act|speak)(ing)? as {_MODELS}\b",
        rf"\b(i am|i'm|my name is|this is) {_MODELS}\b",
        rf"\b{_MADE} by {_MAKERS}\b",
        r"\bmy (openai|anthropic|google) (policy|policies|guidelines)\b",
    )
)
_ANSWER = re.compile(
    r"^[ \t]*(?:\*\*|#+[ \t]*)?(?:final )?answer(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*", re.IGNORECASE | re.MULTILINE
)
#: `12 + 30 = 42` that stands by itself: nothing that it could be a part of comes before or after.
_EQUATION = re.compile(
    r"(?:^|[;:.,(]\s|[;(])\s*(-?\d{1,12})\s*([-+*×])\s*(\d{1,12})\s*=\s*(-?\d{1,24})(?=\s*$|[;,)]|\.(?:\s|$))",
    re.MULTILINE,
)
_MARKUP = tuple(token for token in SPECIAL_TOKENS if token.strip("<>/|"))


class Answered(NamedTuple):
    trace: str
    answer: str


class Fault(NamedTuple):
    """Why something is rejected: a word for the counts and what was seen."""

    reason: str
    detail: str = ""


def final_answer(reply: Reply) -> Answered | None:
    """The text behind the last line that begins with `Answer:`, and the thinking: the reply's trace or, where the
    teacher has none, what it wrote before that line. None when there is no such line or nothing behind it."""
    found = list(_ANSWER.finditer(reply.content))
    answer = reply.content[found[-1].end() :].strip() if found else ""
    if not answer:
        return None
    return Answered(reply.trace.strip() or reply.content[: found[-1].start()].strip(), answer)


def text_fault(texts: Sequence[str], max_characters: int) -> Fault | None:
    """What forbids a document that says `texts`: a leaked identity, foreign markup, too many characters."""
    for text in texts:
        if leak := next(filter(None, (pattern.search(text) for pattern in _LEAKS)), None):
            return Fault("leaked_identity", leak[0])
        if token := next((token for token in _MARKUP if token in text), None):
            return Fault("foreign_markup", token)
    size = sum(map(len, texts))
    return Fault("too_long", f"{size} characters, at most {max_characters}") if size > max_characters else None


def wrong_step(trace: str) -> str | None:
    """The first equation in a trace, of two whole numbers and standing by itself, that does not hold.

    A right answer may stand behind a wrong step. Equations with more terms, fractions or letters are not judged.
    """
    for match in _EQUATION.finditer(trace):
        left, operator, right, result = int(match[1]), match[2], int(match[3]), int(match[4])
        if {"+": left + right, "-": left - right}.get(operator, left * right) != result:
            return match[0].strip(" \t\n;:.,(")
    return None


@dataclass(frozen=True)
class DocumentMetadata:
    """The columns of a document beside its text, and whether it is held out. `key` is its content key."""

    domain: str
    licence: str
    origin: str
    key: str
    heldout: bool = False


class Job:
    """A configuration at work. Case `index` draws from streams of its own, so that parts need not know each other."""

    def __init__(self, config: SynthesisConfig):
        self.config = config
        self._orders: dict[int, list[int]] = {}

    def rng(self, index: int, purpose: str = "") -> Random:
        return Random(f"{self.config.seed}:{self.config.name}:{index}:{purpose}")

    def effort(self, rng: Random) -> str:
        return rng.choices([*EFFORTS], weights=self._weights)[0]

    def efforts(self, rng: Random) -> list[str]:
        """Which of the three efforts a question is asked at, so that the documents come in the mix's proportions."""
        top = max(self._weights)
        chosen = zip(EFFORTS, self._weights, strict=True)
        return [effort for effort, weight in chosen if rng.random() < weight / top]

    def place(self, index: int, count: int) -> int:
        """Where case `index` stands in a list of `count`, shuffled: every place comes once before any comes again."""
        if count not in self._orders:
            self._orders[count] = Random(f"{self.config.seed}:{self.config.name}:order").sample(range(count), count)
        return self._orders[count][index % count]

    def problem(self, number: int, families: tuple[str, ...], total: int = 0) -> Problem:
        """Problem `number` of the `total` that the job needs (0 = one a case), the families taking turns.

        Raises `SynthesisError` for a family that is not known or not installed.
        """
        size = -(-(total or self.config.count) // len(families))
        return draw(families[number % len(families)], self._stream, number // len(families), size)

    def sample(
        self, metadata: DocumentMetadata | Problem, segments: list[Segment], fault: Fault | None = None
    ) -> Sample:
        """A document of `segments`, kept without a `fault`; the origin names the model of an endpoint."""
        config = self.config
        asked = config.teacher == TeacherKind.ENDPOINT
        origin = f"{metadata.origin}, answered by {config.endpoint.model}" if asked else metadata.origin
        licence = config.licence or metadata.licence
        made = make_document(config.source, metadata.domain, licence, origin, segments, key=metadata.key)
        return Sample(made, metadata.heldout, *(fault or Fault("")))

    @cached_property
    def _stream(self) -> int:
        """The seed of the families: jobs of one seed draw different problems."""
        return int(content_id(str(self.config.seed), self.config.name)[:8], 16)

    @cached_property
    def _weights(self) -> tuple[float, float, float]:
        mix = self.config.efforts
        return mix.low, mix.medium, mix.high  # in the order of EFFORTS
