"""Synthesis as steps: what an endpoint said (`synthesis_calls`), and the documents made of it (`synthesis`).

The record of calls is an input like any other. It is made once, by one process, since rates and budget are of the job
as a whole; the documents are made of it part by part, by any number of machines, and again whenever they are judged in
another way, without a question asked anew. A job by the procedural teacher has documents alone.

While a job is asked, every answer is kept in the store before it is used, in a file that all runs of jobs of that name
append to (`kept_record`): a killed run, and a job with more cases than before, ask for what is missing. The artifact
has those calls that the job is made of, ordered, so that it is a function of what was said and not of when.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store
from k2model.artifacts.files import LocalFiles
from k2model.documents.counts import Counts
from k2model.errors import SynthesisError
from k2model.recipe.fields import without_places
from k2model.recipe.synthesis import SynthesisConfig, TeacherKind
from k2model.synthesis.behaviours import pinned
from k2model.synthesis.conversation import Teacher
from k2model.synthesis.output import RUN_STATISTICS, write_report
from k2model.synthesis.run import ask, families_of, part_count, requests, synthesise_part
from k2model.synthesis.teachers import open_teacher
from k2model.synthesis.teachers.endpoint import EndpointTeacher, RecordedTeacher, describe
from k2model.synthesis.teachers.kept import kept_calls
from k2model.synthesis.teachers.wire import BYTES_PER_TOKEN, body, most_usage
from k2model.versions import STEP_VERSIONS

CALLS, DOCUMENTS = "synthesis_calls", "synthesis"
KEPT = "_calls"  # beside the artifacts: the records that runs append to, by the names of jobs
RECORD = "calls.jsonl"
PLAYED = 64  # cases that an estimate is made from
PROBLEM_PACKAGE = "reasoning-gym"  # draws problems, and checks their answers

_log = logging.getLogger(__name__)


def calls_step(store: Store, job: SynthesisConfig) -> Step:
    """Ask an endpoint all that `job` asks: the files are `calls/<part>.jsonl`, a line a call.

    Making it raises SynthesisError where cases are left, by a budget or an outage: run again to go on.
    """
    job = pinned(job)
    return Step(Identity(CALLS, STEP_VERSIONS[CALLS], _settings(job)), partial(_ask, store, job))


def synthesis_step(store: Store, job: SynthesisConfig, calls: ArtifactRef | None = None) -> PartedStep:
    """The documents of `job`, kept and rejected, in parts of `job.part_size` cases (`k2model.synthesis.run`).

    calls: what the endpoint said; None for the procedural teacher. Raises `SynthesisError` for a job that cannot be
    made, and when making it keeps nothing.
    """
    job = pinned(job)

    def identify() -> Identity:
        return Identity(DOCUMENTS, STEP_VERSIONS[DOCUMENTS], _settings(job), {CALLS: calls} if calls else {})

    def parts() -> list[Part]:
        return [Part(f"{number:05d}") for number in range(part_count(job))]

    return PartedStep(identify, parts, partial(_produce, job, store.uri, calls), partial(_finish, job))


def _settings(job: SynthesisConfig) -> dict[str, Any]:
    """What bears the identity of a pinned job: all families by name, since which there are depends on what is
    installed."""
    return {
        "job": without_places(job),
        "families": families_of(job),
        "packages": {PROBLEM_PACKAGE: version(PROBLEM_PACKAGE)},
    }


def _ask(store: Store, job: SynthesisConfig, folder: Path) -> dict[str, float]:
    def told(counts: Mapping[str, int]) -> None:
        _log.info("%s: %s of %d cases asked", job.name, counts["cases"], job.count)

    (folder / "calls").mkdir()
    with kept_record(store, job.name) as record:
        teacher = open_teacher(job, record)
        assert isinstance(teacher, EndpointTeacher), "only an endpoint is asked"
        counts = Counts(ask(job, teacher, folder / "calls", told))
    done = teacher.run_statistics()
    if counts["unfinished"]:
        why = ", ".join(f"{reason} {number}" for reason, number in counts.below("unfinished").items())
        stopped = f" ({done['stopped']})" if done["stopped"] else ""
        raise SynthesisError(
            f"synthesis job '{job.name}': {counts['unfinished']} of {job.count} cases are left: {why}{stopped}. What "
            f"was answered is kept in {store.uri}/{KEPT}/{job.name}; run again to go on"
        )
    (folder / RUN_STATISTICS).parent.mkdir()
    (folder / RUN_STATISTICS).write_text(json.dumps(done, indent=2, sort_keys=True) + "\n")
    return {name: float(counts[name]) for name in ("cases", "asked", "prompt_tokens", "completion_tokens")}


@contextmanager
def kept_record(store: Store, job: str) -> Iterator[Path]:
    """The record of all runs of jobs of that name on a store, as a local file to append to. In a folder it is the file
    itself, which loses nothing; an object store is given what is appended every few seconds."""
    files = store.files_of(f"{KEPT}/{job}")
    if isinstance(files, LocalFiles):
        yield Path(files.uri) / RECORD
        return
    with kept_calls(files) as record:
        yield record


def recorded_answers(store: Store, job: str) -> int:
    """How many answers the record of jobs of that name holds, those that no artifact counts among them."""
    files, answers = store.files_of(f"{KEPT}/{job}"), 0
    for path in files.sizes():
        with files.open(path) as lines:
            answers += sum(b'"reply": ' in line for line in lines)
    return answers


def _produce(job: SynthesisConfig, store: str, calls: ArtifactRef | None, part: Part, folder: Path) -> dict[str, int]:
    number = int(part.name)
    return synthesise_part(job, _teacher(job, store, calls, number), folder, number)


def _teacher(job: SynthesisConfig, store: str, calls: ArtifactRef | None, part: int) -> Teacher:
    if calls is None:
        return open_teacher(job, Path())
    path = f"calls/{part:05d}.jsonl"
    return RecordedTeacher(job.endpoint, Store.open(store).fetch(calls, lambda one: one == path) / path)


def _finish(job: SynthesisConfig, records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
    counts = Counts()
    for record in records:
        counts.update(record.counts)
    procedural = job.teacher == TeacherKind.PROCEDURAL
    teacher = open_teacher(job, Path()).description() if procedural else describe(job.endpoint)
    write_report(folder, job, teacher, counts)
    if not counts["kept"]:
        raise SynthesisError(
            f"synthesis job '{job.name}': none of its {counts['samples']} samples passes verification: "
            f"{dict(counts.below('reason'))}. Look at what the teacher says, then at the job"
        )
    names = ("cases", "samples", "kept", "heldout", "rejected")
    return {name: float(counts[name]) for name in names}


@dataclass(frozen=True)
class Expected:
    """What a job would ask of its endpoint: calls and tokens of prompts as estimated from a few of its cases, and the
    most tokens that the answers may take. Attempts that fail come on top."""

    calls: int
    prompt_tokens: int
    most_answer_tokens: int


def expected(job: SynthesisConfig) -> Expected:
    """From `PLAYED` cases, spread over the job, as a teacher that makes no mistake would take them. A job whose
    conversations go on by what was said, and whose answers no program knows, is counted with their first requests."""
    job = pinned(job)
    played = min(PLAYED, job.count)
    made = [*requests(job, [number * job.count // played for number in range(played)])]
    size = sum(most_usage(body(job.endpoint, request)).prompt_tokens for request in made) // BYTES_PER_TOKEN
    calls = len(made) * job.count // played
    return Expected(calls, size * job.count // played, calls * job.endpoint.max_tokens)
