"""One question of a conversation with what a reply to it must satisfy: what all sets have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from k2model.corpus.synthesis.conversation import Reply
from k2model.corpus.synthesis.job import Subject
from k2model.corpus.synthesis.verify import Answered, Fault

INSTRUCTIONS = {
    "high": "Think the question through before you answer.",
    "medium": "Think briefly, in a line or two, before you answer.",
    "low": "Answer at once.",
}


@dataclass(frozen=True)
class Exchange:
    """`read` takes a reply apart into thinking and answer (None when it cannot); `fault` judges the answer."""

    subject: Subject
    question: str
    exact: Callable[[str], Reply | None]  # by effort
    read: Callable[[Reply], Answered | None]
    fault: Callable[[Answered], Fault | None]
    instruction: Callable[[str], str] = INSTRUCTIONS.__getitem__  # by effort; the teacher's alone, in no document
    refused: Fault | None = None  # why it is not to be asked at all


def read_plain(reply: Reply) -> Answered | None:
    """A reply whose content is the answer."""
    answer = reply.content.strip()
    return Answered(reply.trace.strip(), answer) if answer else None
