"""Constraint following: an instruction with several checkable conditions, a reply, and the program that checks it.

The exact reply is built rather than searched for: plain sentences on a topic (`topics.toml`) are drawn, filtered by
what must not occur, cut to the wanted length, laid out in the wanted shape, and dressed. The checks of `constraints`
decide afterwards whether it worked; nothing that is built here is trusted.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from random import Random
from typing import Any

from k2model.documents.markup import chat
from k2model.documents.schema import is_heldout
from k2model.synthesis.config import SynthesisConfig, unknown
from k2model.synthesis.constraints import KINDS, Constraint, compatible, draw, sentences
from k2model.synthesis.conversation import Case, Reply, Request, Talk, Turn
from k2model.synthesis.job import DocumentMetadata, Fault, Job, text_fault

LICENCE, ORIGIN = "Apache-2.0", "k2model constraints"
MOST = 4  # constraints in one instruction
REQUESTS = (
    "Write about {topic}.",
    "Tell me something about {topic}.",
    "I need a short text about {topic}.",
    "Describe {topic}.",
)
Wanted = Mapping[str, Mapping[str, Any]]
SHAPES = ("paragraphs", "bullets", "numbered", "sections")
MARKS = {"placeholders": "[{}]", "highlights": "*{}*"}
PLACES = ("near", "beyond", "under", "behind")  # so that a wanted word is said in other words each time


@lru_cache(maxsize=1)
def topics() -> dict[str, tuple[str, ...]]:
    """Topic -> plain sentences on it."""
    table = tomllib.loads(files("k2model.synthesis").joinpath("topics.toml").read_text())
    return {name: tuple(sentences) for name, sentences in table.items()}


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` for an unknown kind of constraint."""
    for name in config.families:
        if name not in KINDS:
            raise unknown("constraint", name, list(KINDS))


def case(job: Job, index: int) -> Case:
    rng = job.rng(index)
    names = job.config.families or tuple(KINDS)
    topic = rng.choice(list(topics()))
    first = names[index % len(names)]  # so that every kind has its share
    others = tuple(name for name in names if name != first)
    constraints = _with(first, rng.randint(1, MOST), others, job, index)
    prompt = " ".join([rng.choice(REQUESTS).format(topic=topic), *(c.instruction for c in constraints)])
    return Case(first, _talk(job, index, topic, prompt, constraints, job.effort(rng)))


def _with(first: str, count: int, others: tuple[str, ...], job: Job, index: int) -> tuple[Constraint, ...]:
    rng = job.rng(index, "constraints")
    fitting = tuple(name for name in others if compatible(first, name))
    return (Constraint(first, KINDS[first].draw(rng)), *draw(rng, fitting, count - 1))


def _talk(job: Job, index: int, topic: str, prompt: str, constraints: tuple[Constraint, ...], effort: str) -> Talk:
    written = compose(topic, constraints, job.rng(index, "compose"))
    exact = Reply(written, plan(constraints, written, effort))
    reply = (yield Request((Turn("user", prompt),), effort, exact=exact)).reply
    trace = reply.trace.strip() if effort != "low" else ""
    fault = constraint_fault(constraints, reply.content) or text_fault(
        (prompt, trace, reply.content), job.config.max_characters
    )
    if fault is None and effort != "low" and not trace:
        fault = Fault("no_trace")
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "trace": trace, "content": reply.content}]
    key = f"constraints {prompt}"
    metadata = DocumentMetadata(constraints[0].kind, "chat", LICENCE, ORIGIN, key, is_heldout(key))
    return [job.sample(metadata, chat(messages, effort), fault)]


def constraint_fault(constraints: tuple[Constraint, ...], reply: str) -> Fault | None:
    """The constraints that the reply breaks, if any."""
    if not reply.strip():
        return Fault("empty_reply")
    broken = [constraint for constraint in constraints if not constraint.holds(reply)]
    return Fault("constraint_broken", "; ".join(c.instruction for c in broken)) if broken else None


def compose(topic: str, constraints: tuple[Constraint, ...], rng: Random) -> str:
    """A text about `topic`, in as few words as the constraints leave room for."""
    wanted: Wanted = {constraint.kind: constraint.parameters for constraint in constraints}
    lines = _lines(topic, wanted, rng)
    if "json-keys" in wanted:
        keys = wanted["json-keys"]["keys"]
        values = [" ".join(lines[i :: len(keys)]) for i in range(len(keys))]
        return json.dumps(dict(zip(keys, values, strict=True)), ensure_ascii=False)
    body = _shaped(lines, wanted, topic)
    return _dressed(body, wanted, topic)


def _lines(topic: str, wanted: Wanted, rng: Random) -> list[str]:
    """As many sentences as are needed, with every wanted word in and no unwanted one."""
    supply = [line for line in rng.sample(topics()[topic], len(topics()[topic])) if _allowed(line, wanted)]
    least = wanted.get("at-least-words", wanted.get("words-between", {}))
    enough = int(least.get("n", least.get("low", 0)))
    count = max(_pieces(wanted), 2)
    chosen = [_plain(line, wanted) for line in supply[:count]]
    chosen += [chosen[-1]] * (count - len(chosen))
    word = wanted.get("contains", wanted.get("contains-exactly"))
    if word:
        places = " and ".join(f"{where} the {word['text']}" for where in PLACES[: int(word.get("n", 1))])
        chosen[0] = (
            f"{chosen[0].rstrip('.')}, {places}." if "no-commas" not in wanted else f"{chosen[0][:-1]} {places}."
        )
    for line in supply[count:]:
        if "sentences" in wanted or sum(len(text.split()) for text in chosen) >= enough:
            break
        chosen[-1] += " " + _plain(line, wanted)
    return chosen


def _pieces(wanted: Wanted) -> int:
    shape = next((name for name in (*SHAPES, "sentences") if name in wanted), None)
    if shape:
        return int(wanted[shape]["n"])
    return len(wanted["json-keys"]["keys"]) if "json-keys" in wanted else 2


def _allowed(line: str, wanted: Wanted) -> bool:
    words = {word.strip(".,").lower() for word in line.split()}
    avoided, letter = wanted.get("avoids", {}).get("text"), wanted.get("avoids-letter", {}).get("text", "\0")
    counted = wanted.get("contains-exactly", {}).get("text")
    return avoided not in words and counted not in words and letter not in line.lower()


def _plain(line: str, wanted: Wanted) -> str:
    return line.replace(",", "") if "no-commas" in wanted else line


def _shaped(lines: list[str], wanted: Wanted, topic: str) -> str:
    layouts: dict[str, Callable[[], str]] = {
        "paragraphs": lambda: "\n\n".join(lines),
        "bullets": lambda: "\n".join(f"- {line}" for line in lines),
        "numbered": lambda: "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)),
        "sections": lambda: "\n".join(f"SECTION {i}\n{line}" for i, line in enumerate(lines, 1)),
        "two-versions": lambda: f"{lines[0]}\n******\n{' '.join(lines[1:])}",
    }
    shape = next((name for name in layouts if name in wanted), None)
    return layouts[shape]() if shape else " ".join(lines)


def _dressed(body: str, wanted: Wanted, topic: str) -> str:
    for kind, form in MARKS.items():
        body = _marked(body, int(wanted.get(kind, {}).get("n", 0)), form)
    if "capital-words" in wanted:
        body = _capitals(body, int(wanted["capital-words"]["n"]))
    if "starts-with" in wanted:
        body = f"{wanted['starts-with']['text']}{chr(10) if body.startswith(('-', '1', 'SECTION')) else ' '}{body}"
    if "title" in wanted:
        body = f"<<{topic}>>\n{body}"
    if "ends-with" in wanted:
        body += f"\n{wanted['ends-with']['text']}" if "\n" in body else f" {wanted['ends-with']['text']}"
    if "postscript" in wanted:
        body += f"\nP.S. There is more to say about {topic}."
    if "lower-case" in wanted:
        body = body.lower()
    if "upper-case" in wanted:
        body = body.upper()
    return f'"{body}"' if "quoted" in wanted else body


def _marked(body: str, count: int, form: str) -> str:
    """The last word of the text put `count` times into a mark, before its full stop."""
    start, _, last = body.rstrip(".").rpartition(" ")
    return f"{start} {' '.join([form.format(last)] * count)}." if count else body


def _capitals(body: str, count: int) -> str:
    """The last `count` words of three letters or more in capital letters."""
    words = re.split(r"(\s+)", body)
    long = [i for i, word in enumerate(words) if len(word.strip(".,")) >= 3 and word.strip(".,").isalpha()]
    for i in long[-count:]:
        words[i] = words[i].upper()
    return "".join(words)


def plan(constraints: tuple[Constraint, ...], reply: str, effort: str) -> str:
    """The thinking before the reply: the constraints in turn and what the reply has of each."""
    if effort == "low":
        return ""
    if effort == "medium":
        return f"To keep: {', '.join(c.kind.replace('-', ' ') for c in constraints)}."
    measured = (
        f"The draft has {len(reply.split())} words in {len(sentences(reply))} sentences and {len(reply)} characters."
    )
    listed = "\n".join(f"{i}. {c.instruction} Met." for i, c in enumerate(constraints, 1))
    return f"Conditions to keep:\n{listed}\n{measured}"
