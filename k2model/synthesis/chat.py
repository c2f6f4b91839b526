"""Three-effort chat: the same conversation at low, medium and high effort, with the thinking that the effort asks for.

A conversation of T turns becomes T samples, of which only the last turn is learned and keeps its thinking (K2). A
turn that fails ends its conversation: what would follow would rest on it. Low effort carries no thinking; medium
must be shorter than high, or it is rejected. The system prompt opens a share of the conversations.
"""

import itertools
from collections.abc import Callable, Generator
from dataclasses import replace
from random import Random

from k2model.documents.markup import last_turn
from k2model.synthesis.config import SynthesisConfig, unknown
from k2model.synthesis.conversation import Case, Completion, Reply, Request, Sample, Talk, Turn
from k2model.synthesis.exchanges import Exchange, identity_exchange, problem_exchange, safety_exchange
from k2model.synthesis.job import Answered, Fault, Job, text_fault

SETS: dict[str, Callable[[Job, int, int], Exchange]] = {
    "problems": problem_exchange,
    "identity": identity_exchange,
    "safety": safety_exchange,
}
AskTalk = Generator[Request, Completion, tuple[Answered, Fault | None]]
TURNS = (1, 2, 3)
TURN_WEIGHTS = {"problems": (6, 3, 1), "identity": (8, 2, 0), "safety": (8, 2, 0)}


def check_job(config: SynthesisConfig) -> None:
    """Raises `SynthesisError` for an unknown set of questions."""
    for name in config.families:
        if name not in SETS:
            raise unknown("set of conversations", name, list(SETS))


def case(job: Job, index: int) -> Case:
    rng = job.rng(index)
    names = job.config.families or tuple(SETS)
    name = names[index % len(names)]
    turns = rng.choices(TURNS, weights=TURN_WEIGHTS[name])[0]
    exchanges = _of_one_split([SETS[name](job, index, turn) for turn in range(turns)])
    system = _system_prompt(job.config, name, rng)
    return Case(name, _talk(job, exchanges, system, job.efforts(rng)))


def _of_one_split(exchanges: list[Exchange]) -> list[Exchange]:
    """The exchanges up to the first of another split than the first: a later turn shows all earlier."""
    split = exchanges[0].metadata.heldout, exchanges[0].refused is None
    same = itertools.takewhile(lambda e: (e.metadata.heldout, e.refused is None) == split, exchanges)
    return list(same)


def _system_prompt(config: SynthesisConfig, name: str, rng: Random) -> str:
    share = config.system_share if name == "problems" else config.identity_system_share
    return config.system_prompt if rng.random() < share else ""


def _talk(job: Job, exchanges: list[Exchange], system: str, efforts: list[str]) -> Talk:
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
            samples.append(_sample(job, exchanges[: number + 1], history, effort, fault))
            if fault:
                break
    return samples


def _ask(job: Job, exchange: Exchange, history: list[dict[str, str]], effort: str) -> AskTalk:
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


def _sample(job: Job, shown: list[Exchange], history: list[dict[str, str]], effort: str, fault: Fault | None) -> Sample:
    """The sample of the last exchange; its key has a line for each exchange that it shows."""
    key = "\n".join(exchange.metadata.key for exchange in shown)
    return job.sample(replace(shown[-1].metadata, key=key), last_turn(history, effort), fault)
