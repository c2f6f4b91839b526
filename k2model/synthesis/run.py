"""Run a job: open its talks, let the teacher answer, write what came of them, part by part.

Files of part p below `folder`, for the source `synth/<job>` (p has five digits):

    train/synth-<job>/p.parquet     kept documents         heldout/synth-<job>/p.parquet   those that are held out
    rejected/synth-<job>/p.parquet  rejected ones with `reason` and `detail`
    synthesis.json                  the report

Samples stand in the order of their talks, whatever the order in which answers came. A talk that the teacher left
unanswered (budget, outage) leaves no row: it is counted as unfinished, and a run on the same record takes it up.
`documents` runs a job that needs no model in memory: what a corpus source `synth/<job>` is made of.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from k2model.artifacts.steps import map_in_processes
from k2model.documents.counts import Counts
from k2model.documents.schema import Document, parts_of
from k2model.errors import SynthesisError
from k2model.synthesis.behaviours import pinned
from k2model.synthesis.config import Form, Kind, SynthesisConfig
from k2model.synthesis.conversation import Case, Sample, Teacher, Unanswered
from k2model.synthesis.job import Job
from k2model.synthesis.output import REPORT, SPLITS, PartFiles, count, count_sample, write_report
from k2model.synthesis.teachers.procedural import ProceduralTeacher

AHEAD = 1_000  # talks that may be done before the first that is not
RUN_STATISTICS = "attachments/teacher.json"
SPARE = 16  # talks beyond the documents wanted, besides a quarter, since some are rejected

#: Kind -> its module, which has `case(job, index)` and `check_job(config)`.
_MODULES = {
    Kind.THINKING: "thinking",
    Kind.BEHAVIOUR: "behaviours",
    Kind.TOOLS: "tool_dialogues",
    Kind.CHAT: "chat",
    Kind.CONSTRAINTS: "following",
}


def opener(config: SynthesisConfig) -> Callable[[Job, int], Case]:
    """The function that opens talk `index` of the job. Raises `SynthesisError` when the kind cannot do the job."""
    module = import_module(f"k2model.synthesis.{_MODULES[config.kind]}")
    module.check_job(config)
    case: Callable[[Job, int], Case] = module.case
    return case


def known_families() -> dict[str, list[str]]:
    """What a job's `families` may name, by kind."""
    from k2model.synthesis.chat import SETS
    from k2model.synthesis.constraints import KINDS
    from k2model.synthesis.problems import known_families as problems
    from k2model.synthesis.tools.tasks import TASKS

    found = {Kind.THINKING: problems(), Kind.BEHAVIOUR: problems(), Kind.TOOLS: [*TASKS], Kind.CHAT: [*SETS]}
    return {kind.value: names for kind, names in (found | {Kind.CONSTRAINTS: [*KINDS]}).items()}


def synthesise(config: SynthesisConfig, teacher: Teacher, folder: Path, workers: int = 1) -> dict[str, int]:
    """Run the whole job into `folder`; returns the counts, which `synthesis.json` holds with rates.

    `workers` processes share the parts of a procedural job. An endpoint is asked by one process,
    `endpoint.concurrency` requests at a time. Raises `SynthesisError` for a job that cannot be run; a teacher that
    stops answering is no error: `counts["unfinished"]` talks are left.
    """
    config = pinned(config)
    opener(config)
    _clear(folder, config.source)
    parts = range(part_count(config))
    if workers > 1 and teacher.concurrency > 1:
        raise SynthesisError(
            f"synthesis job '{config.name}': workers = {workers} is for the procedural teacher; an endpoint's calls "
            "run side by side in one process, set endpoint.concurrency"
        )
    if workers > 1:
        made = map_in_processes(partial(synthesise_part, config, teacher, folder), parts, workers)
    else:
        made = asyncio.run(_run_parts(config, teacher, folder, parts))  # in one session of the teacher
    counts = Counts()
    for part_counts in made:
        counts.update(part_counts)
    write_report(folder, config, teacher.description(), counts)
    _write_run_statistics(folder, teacher)
    return dict(counts)


def synthesise_part(config: SynthesisConfig, teacher: Teacher, folder: Path, part: int) -> dict[str, int]:
    """One part of the job: a pure function of its arguments and of what the teacher says. Counts add up over parts."""
    return asyncio.run(_run_parts(config, teacher, folder, [part]))[0]


def generate(config: SynthesisConfig, teacher: Teacher) -> list[Sample]:
    """All samples of a job in memory, kept and rejected: for a corpus source of a few thousand documents."""

    samples: list[Sample] = []

    async def run() -> None:
        async with teacher.session():
            await _answer(config, teacher, range(config.count), Counts(), samples.append)

    asyncio.run(run())
    return samples


def part_count(config: SynthesisConfig) -> int:
    return -(-config.count // config.part_size)


async def _run_parts(
    config: SynthesisConfig, teacher: Teacher, folder: Path, parts: Sequence[int]
) -> list[dict[str, int]]:
    async with teacher.session():
        return [await _run_part(config, teacher, folder, part) for part in parts]


async def _run_part(config: SynthesisConfig, teacher: Teacher, folder: Path, part: int) -> dict[str, int]:
    counts = Counts()
    first = part * config.part_size
    with PartFiles(folder, config.source, part) as files:
        indices = range(first, min(first + config.part_size, config.count))
        await _answer(config, teacher, indices, counts, files.write)
    return dict(counts)


async def _answer(
    config: SynthesisConfig, teacher: Teacher, indices: range, counts: Counts, sink: Callable[[Sample], None]
) -> None:
    """Hold the talks `indices` and hand their samples to `sink` in order, as soon as all before them are there.

    Talks run ahead of the first that is not finished by `AHEAD` at most, which bounds what is kept in memory.
    """
    job, case, ordered = Job(config), opener(config), InOrder(indices, counts, sink)
    room, waiting = asyncio.Semaphore(AHEAD + teacher.concurrency), iter(indices)

    async def answer_some() -> None:
        while True:
            await room.acquire()
            index = next(waiting, None)
            if index is None:
                room.release()
                return
            opened = case(job, index)
            count(counts, opened.family, "cases")
            samples = await _converse(opened, teacher, counts)
            for _ in range(ordered.add(index, opened.family, samples or [])):
                room.release()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(teacher.concurrency, len(indices)))):
                group.create_task(answer_some())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the others are echoes of the first


class InOrder:
    """Brings what was answered back into the order of the talks, judges it, and passes it on."""

    def __init__(self, indices: range, counts: Counts, sink: Callable[[Sample], None]):
        self._next = indices.start
        self._early: dict[int, tuple[str, list[Sample]]] = {}
        self._seen: set[str] = set()
        self._counts, self._sink = counts, sink

    def add(self, index: int, family: str, samples: list[Sample]) -> int:
        """How many talks were passed on: none while an earlier one is missing."""
        self._early[index] = (family, samples)
        passed = 0
        while (found := self._early.pop(self._next, None)) is not None:
            for sample in found[1]:
                self._pass_on(found[0], sample)
            self._next += 1
            passed += 1
        return passed

    def _pass_on(self, family: str, sample: Sample) -> None:
        """A kept document that stood before in the part is rejected."""
        name = sample.document["id"]
        judged = sample._replace(reason="repeated") if not sample.reason and name in self._seen else sample
        self._seen.add(name)
        count_sample(self._counts, family, judged)
        self._sink(judged)


async def _converse(case: Case, teacher: Teacher, counts: Counts) -> list[Sample] | None:
    """The samples of a finished talk; None when the teacher left a request unanswered."""
    try:
        request = next(case.talk)
        while True:
            count(counts, case.family, "asked")
            completion = await teacher.complete(request)
            count(counts, case.family, "answered")
            counts.update(completion.usage._asdict())
            request = case.talk.send(completion)
    except StopIteration as done:
        samples: list[Sample] = done.value
        return samples
    except Unanswered as left:
        case.talk.close()
        count(counts, case.family, "unfinished")
        counts[f"unfinished/{left.reason}"] += 1
        return None


def _clear(folder: Path, source: str) -> None:
    """Parts of an earlier run into the same folder, which may have had more of them, and its reports."""
    for split in SPLITS:
        for path in parts_of(folder, split, source):
            path.unlink()
    for name in (REPORT, RUN_STATISTICS):
        (folder / name).unlink(missing_ok=True)


def _write_run_statistics(folder: Path, teacher: Teacher) -> None:
    if statistics := teacher.run_statistics():
        path = folder / RUN_STATISTICS
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(statistics, indent=2, sort_keys=True) + "\n")


#: Job -> its configuration; `count` and `seed` are the corpus's to set.
JOBS: dict[str, SynthesisConfig] = {
    job.name: job
    for job in (
        SynthesisConfig("thinking", Kind.THINKING, 1),
        SynthesisConfig("thinking-chat", Kind.THINKING, 1, form=Form.CHAT),
        SynthesisConfig("behaviour", Kind.BEHAVIOUR, 1),
        SynthesisConfig("tools", Kind.TOOLS, 1),
        SynthesisConfig("chat", Kind.CHAT, 1, families=("problems",)),
        SynthesisConfig("identity", Kind.CHAT, 1, families=("identity",)),
        SynthesisConfig("safety", Kind.CHAT, 1, families=("safety",)),
        SynthesisConfig("constraints", Kind.CONSTRAINTS, 1),
    )
}


class Made(NamedTuple):
    trained: list[Document]
    heldout: list[Document]


def documents(job: str, count: int, seed: int) -> Made:
    """About `count` verified documents of a job, by the procedural teacher. Raises `KeyError` for an unknown job."""
    config = replace(JOBS[job], count=count + count // 4 + SPARE, seed=seed)
    kept = [sample for sample in generate(config, ProceduralTeacher()) if not sample.reason]
    splits = ([sample.document for sample in kept if sample.heldout == heldout] for heldout in (False, True))
    return Made(*splits)
