"""What every reply must pass, whatever its kind: something is said, it is this model's to say, it fits a page.

The reasons a reply is rejected for are the words below and those of each kind; they are columns of the report.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from k2model.corpus.markup import SPECIAL_TOKENS
from k2model.corpus.synthesis.conversation import Reply, Turn

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
    """Why something is rejected: a word for the account and what was seen."""

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
        if leak := leaked_identity(text):
            return Fault("leaked_identity", leak)
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


def leaked_identity(text: str) -> str | None:
    """The phrase by which a text speaks as another model, if there is one."""
    return next((match[0] for pattern in _LEAKS if (match := pattern.search(text))), None)


def said(turns: Sequence[Turn]) -> list[str]:
    """Everything the assistant says in a dialogue."""
    return [text for turn in turns if turn.role == "assistant" for text in (turn.trace, turn.content) if text]
