"""Run a job: open its cases, let the teacher answer, write what came of them, part by part.

Files of part p below `folder`, for the source `synth/<job>` (p has five digits):

    train/synth-<job>/p.parquet     kept documents         heldout/synth-<job>/p.parquet   those that are held out
    rejected/synth-<job>/p.parquet  rejected ones with `reason` and `detail`
    synthesis.json                  the report

Samples stand in the order of their cases, whatever the order in which answers came. A case that the teacher left
unanswered (budget, outage) leaves no row: it is counted as unfinished, and a run on the same record takes it up.
`documents` runs a job that needs no model in memory: what a corpus source `synth/<job>` is made of.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from k2model.artifacts.steps import map_in_processes
from k2model.documents.counts import Counts
from k2model.documents.schema import Document, parts_of
from k2model.errors import SynthesisError
from k2model.synthesis.behaviours import pinned
from k2model.synthesis.config import Form, Kind, SynthesisConfig
from k2model.synthesis.conversation import Case, Sample, Teacher, Unanswered
from k2model.synthesis.job import Job
from k2model.synthesis.output import REPORT, SPLITS, count, part_files, write_report
from k2model.synthesis.teachers.procedural import ProceduralTeacher

AHEAD = 1_000  # cases that may be done before the first that is not
RUN_STATISTICS = "attachments/teacher.json"
SPARE = 16  # cases beyond the documents wanted, besides a quarter, since some are rejected

#: Kind -> its module, which has `case(job, index)` and `families(config)`.
_MODULES = {
    Kind.THINKING: "thinking",
    Kind.BEHAVIOUR: "behaviours",
    Kind.TOOLS: "tool_dialogues",
    Kind.CHAT: "chat",
    Kind.CONSTRAINTS: "following",
}


def _module(config: SynthesisConfig) -> ModuleType:
    """The module of the job's kind. Raises `SynthesisError` when the kind cannot do the job."""
    module = import_module(f"k2model.synthesis.{_MODULES[config.kind]}")
    module.families(config)
    return module


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
    stops answering is no error: `counts["unfinished"]` cases are left.
    """
    config = pinned(config)
    _module(config)
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
    if statistics := teacher.run_statistics():
        (folder / RUN_STATISTICS).parent.mkdir(parents=True, exist_ok=True)
        (folder / RUN_STATISTICS).write_text(json.dumps(statistics, indent=2, sort_keys=True) + "\n")
    return dict(counts)


def synthesise_part(config: SynthesisConfig, teacher: Teacher, folder: Path, part: int) -> dict[str, int]:
    """One part of the job: a pure function of its arguments and of what the teacher says. Counts add up over parts.

    Raises `SynthesisError` for a job that cannot be run.
    """
    return asyncio.run(_run_parts(config, teacher, folder, [part]))[0]


def generate(config: SynthesisConfig, teacher: Teacher) -> list[Sample]:
    """All samples of a job in memory, kept and rejected: for a corpus source of a few thousand documents.

    Raises `SynthesisError` for a job that cannot be run.
    """
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
    made = []
    async with teacher.session():
        for part in parts:
            first, counts = part * config.part_size, Counts()
            indices = range(first, min(first + config.part_size, config.count))
            with part_files(folder, config.source, part) as write:
                await _answer(config, teacher, indices, counts, write)
            made.append(dict(counts))
    return made


async def _answer(
    config: SynthesisConfig, teacher: Teacher, indices: range, counts: Counts, sink: Callable[[Sample], None]
) -> None:
    """Play the cases `indices` and hand their samples to `sink` in order, as soon as all before them are there.

    As many are under way as the teacher takes at once. They run ahead of the first that is not finished by `AHEAD` at
    most, which bounds what is kept in memory.
    """
    job, module, slots, seen = Job(config), _module(config), asyncio.Semaphore(teacher.concurrency), set[str]()

    async def play(index: int) -> tuple[str, list[Sample]]:
        async with slots:
            case: Case = module.case(job, index)
            count(counts, case.family, "cases")
            return case.family, await _converse(case, teacher, counts)

    async def pass_on(played: "asyncio.Task[tuple[str, list[Sample]]]") -> None:
        family, samples = await played
        for sample in samples:
            sink(_judged(sample, family, seen, counts))

    waiting: deque[asyncio.Task[tuple[str, list[Sample]]]] = deque()
    try:
        async with asyncio.TaskGroup() as group:
            for index in indices:
                waiting.append(group.create_task(play(index)))
                if len(waiting) == AHEAD + teacher.concurrency:
                    await pass_on(waiting.popleft())
            while waiting:
                await pass_on(waiting.popleft())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the others are echoes of the first


def _judged(sample: Sample, family: str, seen: set[str], counts: Counts) -> Sample:
    """The sample, counted as kept or for its reason; a document that is in the part already is rejected."""
    name = sample.document["id"]
    if not sample.reason and name in seen:
        sample = sample._replace(reason="repeated")
    seen.add(name)
    if sample.reason:
        count(counts, family, "samples", "rejected", f"reason/{sample.reason}")
    else:
        count(counts, family, "samples", "kept")
        counts["heldout"] += sample.heldout
        counts["characters"] += len(sample.document["text"])
    return sample


async def _converse(case: Case, teacher: Teacher, counts: Counts) -> list[Sample]:
    """The samples of a finished case; none when the teacher left a request unanswered."""
    try:
        request = next(case.conversation)
        while True:
            count(counts, case.family, "asked")
            completion = await teacher.complete(request)
            count(counts, case.family, "answered")
            counts.update(completion.usage._asdict())
            request = case.conversation.send(completion)
    except StopIteration as done:
        samples: list[Sample] = done.value
        return samples
    except Unanswered as left:
        case.conversation.close()
        count(counts, case.family, "unfinished")
        counts[f"unfinished/{left.reason}"] += 1
        return []


def _clear(folder: Path, source: str) -> None:
    """Parts of an earlier run into the same folder, which may have had more of them, and its reports."""
    parts = [path for split in SPLITS for path in parts_of(folder, split, source)]
    for path in (*parts, folder / REPORT, folder / RUN_STATISTICS):
        path.unlink(missing_ok=True)


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


def documents(job: str, count: int, seed: int) -> tuple[list[Document], list[Document]]:
    """(trained, held out): about `count` verified documents of a job, by the procedural teacher.

    Raises `KeyError` for an unknown job.
    """
    config = replace(JOBS[job], count=count + count // 4 + SPARE, seed=seed)
    kept = [sample for sample in generate(config, ProceduralTeacher()) if not sample.reason]
    trained = [sample.document for sample in kept if not sample.heldout]
    return trained, [sample.document for sample in kept if sample.heldout]
