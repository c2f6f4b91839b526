"""Who the model is, who made it, how it thinks, and that it is nobody else: the identity set.

Keys are those of `k2model.ingest.builtin.texts`, so that a wording held out there is held out here.
"""

import re
import tomllib
from functools import lru_cache, partial
from importlib.resources import files
from typing import NamedTuple

from k2model.documents.schema import is_heldout
from k2model.synthesis.chats.problems import Exchange, read_plain
from k2model.synthesis.conversation import Reply
from k2model.synthesis.job import Answered, Fault, Job, Subject

LICENCE, ORIGIN = "Apache-2.0", "k2model identity set"
_OPENINGS = ("", "Hello! ", "Hi, ", "Excuse me, ", "Please tell me: ", "Just out of interest, ", "Before we begin: ")


class Topic(NamedTuple):
    wordings: tuple[str, ...]
    answer: str
    thought: str
    named: tuple[str, ...]  # what an answer must name


@lru_cache(maxsize=1)
def topics() -> tuple[Topic, ...]:
    table = tomllib.loads(files("k2model.synthesis.chats").joinpath("identity.toml").read_text())
    rows = table["topic"]
    return tuple(Topic(tuple(r["wordings"]), r["answer"], r["thought"], tuple(r["named"])) for r in rows)


def exchange(job: Job, index: int, turn: int) -> Exchange:
    rng = job.rng(index, f"identity {turn}")
    wordings, answer, thought, named = topics()[(index + turn) % len(topics())]
    said = _sentence(rng.choice(_OPENINGS), rng.choice(wordings))
    config = job.config
    fill = partial(str.format, persona=config.persona, maker=config.maker)
    key = f"identity {said}"
    return Exchange(
        subject=Subject("identity", "chat", LICENCE, ORIGIN, key, is_heldout(key)),
        question=said,
        exact=partial(_exact, _upper_first(fill(answer)), thought, config.persona),
        read=read_plain,
        fault=partial(_fault, tuple(fill(name) for name in named)),
        instruction=lambda _: (
            f"You are {config.persona}, a language model trained by {config.maker}. Say so when asked."
        ),
    )


def _exact(answer: str, thought: str, persona: str, effort: str) -> Reply:
    traces = {
        "low": "",
        "medium": f"{thought}.",
        "high": f"{thought}. I am {persona} and nobody else, so I say what is true of me, plainly and shortly.",
    }
    return Reply(answer, traces[effort])


def _fault(named: tuple[str, ...], answered: Answered) -> Fault | None:
    missing = [
        name for name in named if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", answered.answer, re.IGNORECASE)
    ]
    return Fault("identity_not_stated", ", ".join(missing)) if missing else None


def _sentence(opening: str, question: str) -> str:
    joins = not opening or opening.endswith(("! ", ": "))
    return opening + (_upper_first(question) if joins else question)


def _upper_first(text: str) -> str:
    return text[0].upper() + text[1:]
