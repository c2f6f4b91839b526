"""What a model answers to safety tests: an artifact of its own, so that whoever judges it asks the model nothing.

Every phase is asked the same prompts in chat form, also one that has never seen a chat: what differs between two
checkpoints is then the model alone. Greedy, so that an answer is a function of the model and the prompt.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.artifacts import ArtifactRef, Identity, JobStep, Store
from k2model.documents.tables import read_table
from k2model.errors import EvaluationError
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Case, Wants
from k2model.recipe.evaluation import Mode
from k2model.recipe.safety import SafetyConfig
from k2model.safety.registry import SafetyPrompt, SafetyTest, chosen_tests, registry
from k2model.safety.suites import PUBLIC, heldout_tests, public_tests
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.evals.answers import Answers
    from k2model.evals.backend import Backend, Generation
    from k2model.evals.cells import Subject

ANSWERS = "answers.parquet"
ASKED = "_asked"  # beside the artifacts, as for cells: what unfinished ones have been answered
END, LENGTH, TOO_LONG = "end", "length", "too long"  # how an answer ended; a prompt that has no room is not asked
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("test", "domain", "wants", "prompt", "cluster", "effort", "request", "marker")]
    + [(name, pa.string()) for name in ("text", "trace", "answer", "finish")]
    + [("tokens", pa.int32()), ("thinking_tokens", pa.int32())]
)


@dataclass(frozen=True)
class Answer:
    """One prompt asked once. trace, answer: as `Generation` has them. finish: END, LENGTH or TOO_LONG."""

    test: str
    domain: str
    wants: str
    prompt: str  # its id
    cluster: str
    effort: str
    request: str
    marker: str
    text: str = ""
    trace: str | None = None
    answer: str | None = None
    finish: str = TOO_LONG
    tokens: int = 0
    thinking_tokens: int = 0

    @property
    def thinking(self) -> str | None:
        """Its thinking; None where it thought nothing."""
        return self.trace if self.trace and self.trace.strip() else None

    @property
    def complete(self) -> bool:
        return self.finish == END and self.answer is not None

    @property
    def case(self) -> Case:
        return Case(self.request, self.thinking, self.answer, Wants(self.wants), self.marker)


def known_tests(packages: PackageFiles) -> tuple[dict[str, SafetyTest], list[str]]:
    """(Every test there is by name: our 72, those held out from synthesis, public ones; what of the last is absent)."""
    public, absent = public_tests(packages)
    return registry() | heldout_tests() | public, absent


def tests_of(config: SafetyConfig) -> list[SafetyTest]:
    """The tests that a config names. Raises EvaluationError for a name that is none, a folder that is not there, and a
    public suite whose package is not in it."""
    known, absent = known_tests(PackageFiles(config.data))
    lacking = [one for one in absent if one.split(":")[0] in config.tests]
    if PUBLIC in config.tests and not any(test.domain == PUBLIC for test in known.values()):
        lacking = absent
    if lacking:
        at = f"not in {config.data}" if config.data else "in no folder, since none is named (--data, safety.data)"
        raise EvaluationError(f"public suites are {at}; {'; '.join(lacking)}")
    return chosen_tests(config.tests, known if config.tests else registry())


def asked(tests: Sequence[SafetyTest], config: SafetyConfig) -> list[tuple[SafetyPrompt, Answer]]:
    """Each prompt with the answer to be, still empty, in the order of tests, prompts and efforts."""
    return [
        (prompt, _empty(test, prompt, effort))
        for test in tests for prompt in test.prompts[: config.prompts] for effort in config.efforts
    ]  # fmt: skip


def _empty(test: SafetyTest, prompt: SafetyPrompt, effort: str) -> Answer:
    of = (test.name, test.domain, test.wants.value)
    return Answer(*of, prompt.id, prompt.cluster, effort, prompt.request, prompt.marker)


def ask(
    backend: "Backend", questions: Sequence[tuple[SafetyPrompt, Answer]], max_new_tokens: int, answers: "Answers"
) -> list[Answer]:
    """The answers to all questions, in order; those that `answers` has are not asked again. A prompt that has no room
    is not asked, and its answer says so."""
    from k2model.evals.backend import Prompt, Sampling
    from k2model.evals.questions import generations

    requests = {}
    for question, empty in questions:
        prompt = Prompt(Mode(empty.effort), question.turns)
        if backend.tokens(prompt) + max_new_tokens <= backend.max_length:
            requests[f"{empty.prompt}/{empty.effort}"] = (prompt, Sampling(max_new_tokens))
    said = generations(backend, requests, answers)
    return [_answered(empty, said.get(f"{empty.prompt}/{empty.effort}")) for _, empty in questions]


def _answered(empty: Answer, said: "Generation | None") -> Answer:
    if said is None:
        return empty
    ending = END if said.finish.value == "end" else LENGTH
    return replace(
        empty, text=said.text, trace=said.trace, answer=said.answer, finish=ending, tokens=said.tokens,
        thinking_tokens=said.thinking_tokens,
    )  # fmt: skip


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in answers], schema=SCHEMA), path, compression="zstd")


def read_answers(store: Store, ref: ArtifactRef) -> list[Answer]:
    """Of an artifact `safety_answers`."""
    rows = read_table(store.read(ref, ANSWERS), SCHEMA, f"{ref.uri}/{ANSWERS}").to_pylist()
    return [Answer(**row) for row in rows]


def answers_step(store: Store, config: SafetyConfig, subject: "Subject") -> JobStep:
    """Ask a model; kind `safety_answers`. It is run by every worker of a job, or by one process alone; what was
    answered is kept as it comes, so that a killed run asks nothing twice.

    Raises EvaluationError for a test that is not known.
    """
    work = _Work(store, config, subject)
    return JobStep(work.identity, work.run)


@dataclass(frozen=True)
class _Work:
    store: Store
    config: SafetyConfig
    subject: "Subject"

    @cached_property
    def questions(self) -> list[tuple[SafetyPrompt, Answer]]:
        return asked(tests_of(self.config), self.config)

    @cached_property
    def identity(self) -> Identity:
        """What is asked, word for word, of whom and how; not by which names it was chosen, nor who will judge."""
        prompts = hashlib.sha256("\n".join(f"{a.test} {p.id} {a.effort}" for p, a in self.questions).encode())
        read: dict[str, Any] = {
            "prompts": prompts.hexdigest(),
            "max_new_tokens": self.config.max_new_tokens,
            "max_length": self._length,
            "model": dict(self.subject.identity),
        }
        return Identity("safety_answers", STEP_VERSIONS["safety_answers"], read, dict(self.subject.inputs))

    @property
    def _length(self) -> int:
        """Of prompt and answer together, that the model is given room for."""
        return self.subject.bounds.max_length(self.config.max_new_tokens)

    def run(self) -> ArtifactRef:
        from k2model.evals.step import joined_workers

        with joined_workers() as world:
            found = world.broadcast(lambda: self.store.find(self.identity))
            if found is not None:
                return found
            began, kept = time.time(), self.store.files_of(f"{ASKED}/{self.identity.name}")
            parts = world.all_gather(lambda: self._share(world.rank, world.size))
            answers = [parts[i % world.size][i // world.size] for i in range(len(self.questions))]

            def build() -> ArtifactRef:
                made = self.store.build(self.identity, lambda folder: _write(folder, answers), started=began)
                kept.remove("")
                return made

            return world.broadcast(build)

    def _share(self, rank: int, workers: int) -> list[Answer]:
        from k2model.evals.answers import Answers, Progress

        own = self.questions[rank::workers]
        kept = self.store.files_of(f"{ASKED}/{self.identity.name}/{rank}-of-{workers}")
        with Answers(kept, Progress(f"{self.subject.name} safety")) as answers:
            return ask(self.subject.open(self._length), own, self.config.max_new_tokens, answers)


def _write(folder: Path, answers: Sequence[Answer]) -> dict[str, float]:
    write_answers(folder / ANSWERS, answers)
    return {"answers": len(answers), "complete": sum(one.complete for one in answers)}
