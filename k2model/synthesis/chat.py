"""Three-effort chat: the same conversation at low, medium and high effort, with the thinking that the effort asks for.

A conversation of T turns becomes T samples, of which only the last turn is learned and keeps its thinking (K2). A
turn that fails ends its conversation: what would follow would rest on it. Low effort carries no thinking; medium
must be shorter than high, or it is rejected. The system prompt opens a share of the conversations.

A `single` job is plainer, for a small model: one question a conversation, at one effort that is drawn, and of the sets
that are ours every question once before any comes again.
"""

import itertools
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial

from k2model.documents.markup import last_turn
from k2model.synthesis.config import named_families
from k2model.synthesis.conversation import Case, Completion, Conversation, Reply, Request, Sample, Turn
from k2model.synthesis.exchanges import Exchange, identity_exchange, problem_exchange, safety_exchange
from k2model.synthesis.job import Answered, Fault, Job, text_fault

#: Set -> what draws its exchange `turn` of conversation `index`, and the weights of one, two and three turns.
SETS: dict[str, tuple[Callable[[Job, int, int], Exchange], tuple[int, int, int]]] = {
    "problems": (problem_exchange, (6, 3, 1)),
    "identity": (identity_exchange, (8, 2, 0)),
    "safety": (safety_exchange, (8, 2, 0)),
}
Asking = Generator[Request, Completion, tuple[Answered, Fault | None]]

families = partial(named_families, what="set of conversations", known=SETS)


def case(job: Job, index: int) -> Case:
    rng, names = job.rng(index), families(job.config)
    name = names[index % len(names)]
    exchange, weights = SETS[name]
    turns = 1 if job.config.single else rng.choices((1, 2, 3), weights=weights)[0]
    exchanges = _of_one_split([exchange(job, index, turn) for turn in range(turns)])
    share = job.config.system_share if name == "problems" else job.config.identity_system_share
    system = job.config.system_prompt if rng.random() < share else ""
    efforts = [job.effort(rng)] if job.config.single else job.efforts(rng)
    return Case(name, converse(job, exchanges, system, efforts))


def _of_one_split(exchanges: list[Exchange]) -> list[Exchange]:
    """The exchanges up to the first of another split than the first: a later turn shows all earlier."""
    split = exchanges[0].metadata.heldout, exchanges[0].refused is None
    same = itertools.takewhile(lambda e: (e.metadata.heldout, e.refused is None) == split, exchanges)
    return list(same)


def converse(job: Job, exchanges: list[Exchange], system: str, efforts: list[str]) -> Conversation:
    """The exchanges in turn at each effort, high first; the key of a sample has a line for each that it shows."""
    samples: list[Sample] = []
    longest: dict[int, int] = {}  # by turn: the length of the thinking at high effort
    for effort in sorted(efforts, key=("high", "medium", "low").index):
        history: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        for number, exchange in enumerate(exchanges):
            history.append({"role": "user", "content": exchange.question})
            answered, fault = yield from _ask(job, exchange, history, effort)
            fault = fault or _order_fault(answered.trace, effort, longest.get(number))
            if effort == "high" and not fault:
                longest[number] = len(answered.trace)
            history.append({"role": "assistant", "trace": answered.trace, "content": answered.answer})
            key = "\n".join(shown.metadata.key for shown in exchanges[: number + 1])
            samples.append(job.sample(replace(exchange.metadata, key=key), last_turn(history, effort), fault))
            if fault:
                break
    return samples


def _ask(job: Job, exchange: Exchange, history: list[dict[str, str]], effort: str) -> Asking:
    if exchange.refused:
        return Answered("", (exchange.exact(effort) or Reply()).content), exchange.refused
    reply = (yield _request(exchange, history, effort)).reply
    answered = exchange.read(reply)
    if answered is None:
        return Answered(reply.trace, reply.content), Fault("no_final_answer")
    if effort == "low":
        answered = answered._replace(trace="")
    elif not answered.trace:
        return answered, Fault("no_trace")
    texts = (exchange.question, answered.trace, answered.answer)
    return answered, exchange.fault(answered) or text_fault(texts, job.config.max_characters)


def _request(exchange: Exchange, history: list[dict[str, str]], effort: str) -> Request:
    """The conversation so far as the teacher sees it: its instruction joined to the system prompt."""
    said = [Turn(message["role"], message["content"]) for message in history]
    system = said.pop(0).content + "\n" if said[0].role == "system" else ""
    return Request((Turn("system", system + exchange.instruction(effort)), *said), effort, exact=exchange.exact(effort))


def _order_fault(trace: str, effort: str, high: int | None) -> Fault | None:
    """Medium effort must think less than high did on the same question, where that was asked."""
    if effort != "medium" or high is None or len(trace) < high:
        return None
    return Fault("effort_order", f"{len(trace)} characters of thinking at medium, {high} at high")
