"""Constraint following: an instruction with several checkable conditions, a reply, and the program that checks it.

The exact reply is built rather than searched for: plain sentences on a topic (`topics.toml`) are drawn, filtered by
what must not occur, cut to the wanted length, laid out in the wanted shape, and decorated. The checks of `constraints`
decide afterwards whether it worked; nothing that is built here is trusted.
"""

import json
import re
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

from k2model.documents.markup import chat, trace_at
from k2model.documents.schema import is_heldout
from k2model.documents.sentences import sentences
from k2model.synthesis.config import named_families, table
from k2model.synthesis.constraints import KINDS, Constraint, compatible, draw
from k2model.synthesis.conversation import Case, Conversation, Reply, Request, Turn
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


families = partial(named_families, what="constraint", known=KINDS)


def topics() -> dict[str, list[str]]:
    """Topic -> plain sentences on it."""
    return table("topics.toml")


def case(job: Job, index: int) -> Case:
    rng, names = job.rng(index), families(job.config)
    topic = rng.choice(list(topics()))
    first = names[index % len(names)]  # so that every kind has its share
    fitting = tuple(name for name in names if compatible(first, name))
    count, drawing = rng.randint(1, MOST), job.rng(index, "constraints")
    constraints = (Constraint(first, KINDS[first].draw(drawing)), *draw(drawing, fitting, count - 1))
    prompt = " ".join([rng.choice(REQUESTS).format(topic=topic), *(c.instruction for c in constraints)])
    effort = job.effort(rng)
    written = compose(topic, constraints, job.rng(index, "compose"))
    return Case(first, _converse(job, prompt, constraints, Reply(written, plan(constraints, written, effort)), effort))


def _converse(job: Job, prompt: str, constraints: tuple[Constraint, ...], exact: Reply, effort: str) -> Conversation:
    reply = (yield Request((Turn("user", prompt),), effort, exact=exact)).reply
    trace = reply.trace.strip() if effort != "low" else ""
    fault = constraint_fault(constraints, reply.content) or text_fault(
        (prompt, trace, reply.content), job.config.max_characters
    )
    if fault is None and effort != "low" and not trace:
        fault = Fault("no_trace")
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "trace": trace, "content": reply.content}]
    key = f"constraints {prompt}"
    metadata = DocumentMetadata("chat", LICENCE, ORIGIN, key, is_heldout(key))
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
    return _decorated(_shaped(lines, wanted), wanted, topic)


def _lines(topic: str, wanted: Wanted, rng: Random) -> list[str]:
    """As many sentences as are needed, with every wanted word in and no unwanted one."""
    unwanted = {wanted.get(kind, {}).get("text") for kind in ("avoids", "contains-exactly")}
    letter = wanted.get("avoids-letter", {}).get("text", "\0")
    supply = [
        line.replace(",", "") if "no-commas" in wanted else line
        for line in rng.sample(topics()[topic], len(topics()[topic]))
        if letter not in line.lower() and not unwanted & {word.strip(".,").lower() for word in line.split()}
    ]
    least = wanted.get("at-least-words", wanted.get("words-between", {}))
    enough = int(least.get("n", least.get("low", 0)))
    shape = next((name for name in (*SHAPES, "sentences") if name in wanted), None)
    count = max(2, int(wanted[shape]["n"]) if shape else len(wanted.get("json-keys", {}).get("keys", ())))
    chosen = supply[:count]
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
        chosen[-1] += " " + line
    return chosen


def _shaped(lines: list[str], wanted: Wanted) -> str:
    layouts = {
        "paragraphs": "\n\n".join(lines),
        "bullets": "\n".join(f"- {line}" for line in lines),
        "numbered": "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)),
        "sections": "\n".join(f"SECTION {i}\n{line}" for i, line in enumerate(lines, 1)),
        "two-versions": f"{lines[0]}\n******\n{' '.join(lines[1:])}",
    }
    return next((text for name, text in layouts.items() if name in wanted), " ".join(lines))


def _decorated(body: str, wanted: Wanted, topic: str) -> str:
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
    count = len(sentences(reply))
    measured = f"The draft has {len(reply.split())} words in {count} sentences and {len(reply)} characters."
    listed = "\n".join(f"{i}. {c.instruction} Met." for i, c in enumerate(constraints, 1))
    names = ", ".join(c.kind.replace("-", " ") for c in constraints)
    return trace_at(effort, f"To keep: {names}.", f"Conditions to keep:\n{listed}\n{measured}")
