"""What a model answers to safety tests: an artifact of its own, so that whoever judges it asks the model nothing.

Every phase is asked the same prompts in chat form, also one that has never seen a chat: what differs between two
checkpoints is then the model alone. Greedy, so that an answer is a function of the model and the prompt.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.artifacts import ArtifactRef, Identity, JobStep, Store
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Case, Wants
from k2model.recipe.evaluation import Mode
from k2model.recipe.safety import SafetyConfig
from k2model.safety.heldout import heldout_tests
from k2model.safety.public import public_tests
from k2model.safety.registry import SafetyPrompt, SafetyTest, chosen_tests, registry
from k2model.settings import home
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.evals.backend import Backend, Generation

_log = logging.getLogger(__name__)

ANSWERS = "answers.parquet"
END, LENGTH, TOO_LONG = "end", "length", "too long"  # how an answer ended; a prompt that has no room is not asked
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("test", "domain", "wants", "prompt", "cluster", "effort", "request", "marker")]
    + [(name, pa.string()) for name in ("text", "trace", "answer", "finish")]
    + [("tokens", pa.int32()), ("thinking_tokens", pa.int32())]
)
Told = Callable[[int, int], None]  # (done, of)


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
    """The tests that a config names. Raises EvaluationError for a name that is none, or a folder that is not there."""
    known, _ = known_tests(PackageFiles(config.data))
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
    backend: "Backend", questions: Sequence[tuple[SafetyPrompt, Answer]], max_new_tokens: int,
    journal: Path | None = None, told: Told = lambda done, of: None,
) -> list[Answer]:  # fmt: skip
    """The answers to all questions, in order.

    journal: a file to which each answer is appended as it ends, and of which those that stand there are taken: who was
    interrupted asks only for the rest.
    """
    from k2model.evals.backend import Prompt, Sampling

    done = dict(_journaled(journal))
    requests, numbers = [], []
    for number, (question, empty) in enumerate(questions):
        prompt = Prompt(Mode(empty.effort), question.turns)
        if number in done or backend.tokens(prompt) + max_new_tokens > backend.max_length:
            done.setdefault(number, empty)
            continue
        numbers.append(number)
        requests.append((prompt, Sampling(max_new_tokens)))
    told(len(done), len(questions))
    for place, generation in backend.generate(requests):
        number = numbers[place]
        done[number] = _answered(questions[number][1], generation)
        if journal:
            journal.parent.mkdir(parents=True, exist_ok=True)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, asdict(done[number])]) + "\n")
        told(len(done), len(questions))
    return [done[number] for number in range(len(questions))]


def _answered(empty: Answer, said: "Generation") -> Answer:
    ending = END if said.finish.value == "end" else LENGTH
    return replace(
        empty, text=said.text, trace=said.trace, answer=said.answer, finish=ending, tokens=said.tokens,
        thinking_tokens=said.thinking_tokens,
    )  # fmt: skip


def _journaled(journal: Path | None) -> Iterator[tuple[int, Answer]]:
    """What stands in a journal; a last line that was cut off is not there."""
    if journal is None or not journal.is_file():
        return
    for line in journal.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            number, fields = json.loads(line)
            yield number, Answer(**fields)


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in answers], schema=SCHEMA), path, compression="zstd")


def read_answers(store: Store, ref: ArtifactRef) -> list[Answer]:
    """Of an artifact `safety_answers`."""
    rows = pq.read_table(pa.BufferReader(store.read(ref, ANSWERS)), schema=SCHEMA).to_pylist()
    return [Answer(**row) for row in rows]


def answers_step(
    store: Store, config: SafetyConfig, sequence_length: int, export: ArtifactRef, tokenizer: ArtifactRef
) -> JobStep:
    """Ask an exported model; kind `safety_answers`. It is run by every worker of a job, or by one process alone.

    Raises EvaluationError for a test that is not known.
    """
    work = _Work(store, config, sequence_length, {"export": export, "tokenizer": tokenizer})
    return JobStep(work.identity, work.run)


@dataclass(frozen=True)
class _Work:
    store: Store
    config: SafetyConfig
    sequence_length: int
    inputs: Mapping[str, ArtifactRef]

    @cached_property
    def questions(self) -> list[tuple[SafetyPrompt, Answer]]:
        return asked(tests_of(self.config), self.config)

    @cached_property
    def identity(self) -> Identity:
        """What is asked, word for word, and how; not which names it was chosen by, nor who will judge."""
        prompts = hashlib.sha256("\n".join(f"{a.test} {p.id} {a.effort}" for p, a in self.questions).encode())
        read: dict[str, Any] = {
            "prompts": prompts.hexdigest(),
            "efforts": self.config.efforts,
            "max_new_tokens": self.config.max_new_tokens,
            "sequence_length": self.sequence_length,
        }
        return Identity("safety_answers", STEP_VERSIONS["safety_answers"], read, dict(self.inputs))

    def run(self) -> ArtifactRef:
        from k2model.evals.step import joined_workers

        with joined_workers() as world:
            found = world.broadcast(lambda: self.store.find(self.identity))
            if found is not None:
                return found
            own = range(world.rank, len(self.questions), world.size)
            journal = home() / "unfinished" / f"{self.identity.name.replace('/', '-')}-{world.rank}-{world.size}.jsonl"
            limit = self.config.max_new_tokens
            parts = world.all_gather(
                lambda: ask(self._backend(world.device), [self.questions[i] for i in own], limit, journal)
            )
            answers = [parts[i % world.size][i // world.size] for i in range(len(self.questions))]

            def produce(folder: Path) -> dict[str, float]:
                write_answers(folder / ANSWERS, answers)
                return {"answers": len(answers), "complete": sum(one.complete for one in answers)}

            made = world.broadcast(lambda: self.store.build(self.identity, produce))
            journal.unlink(missing_ok=True)
            return made

    def _backend(self, device: Any) -> "Backend":
        import torch

        from k2model.evals.backends.own import OwnModel
        from k2model.export import load_exported
        from k2model.tokens import K2Tokenizer

        positions = 2 * max(512, self.sequence_length, self.config.max_new_tokens)
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        model = load_exported(self.store.fetch(self.inputs["export"]), None, positions, dtype, device)
        return OwnModel(model, K2Tokenizer.load(self.store.fetch(self.inputs["tokenizer"])), batch_size=128)
