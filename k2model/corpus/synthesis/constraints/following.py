"""Constraint following: an instruction with several checkable conditions, a reply, and the program that checks it."""

from k2model.corpus.documents import is_heldout
from k2model.corpus.markup import chat
from k2model.corpus.synthesis.config import SynthesisConfig, unknown
from k2model.corpus.synthesis.constraints.compose import compose, plan
from k2model.corpus.synthesis.constraints.kinds import KINDS, Constraint, draw
from k2model.corpus.synthesis.constraints.topics import topics
from k2model.corpus.synthesis.conversation import Case, Reply, Request, Talk, Turn
from k2model.corpus.synthesis.job import Job, Subject
from k2model.corpus.synthesis.verify import Fault, text_fault

LICENCE, ORIGIN = "Apache-2.0", "k2model constraints"
MOST = 4  # constraints in one instruction
REQUESTS = (
    "Write about {topic}.",
    "Tell me something about {topic}.",
    "I need a short text about {topic}.",
    "Describe {topic}.",
)


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
    from k2model.corpus.synthesis.constraints.kinds import compatible

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
    subject = Subject(constraints[0].kind, "chat", LICENCE, ORIGIN, key, is_heldout(key))
    return [job.sample(subject, chat(messages, effort), fault)]


def constraint_fault(constraints: tuple[Constraint, ...], reply: str) -> Fault | None:
    """The constraints that the reply breaks, if any."""
    if not reply.strip():
        return Fault("empty_reply")
    broken = [constraint for constraint in constraints if not constraint.holds(reply)]
    return Fault("constraint_broken", "; ".join(c.instruction for c in broken)) if broken else None
