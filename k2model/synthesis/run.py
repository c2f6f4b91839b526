"""Run a job: open its cases, let the teacher answer, write what came of them, part by part.

Files of part p below `folder`, for the source `synth/<job>` (p has five digits):

    train/synth-<job>/p.parquet     kept documents         heldout/synth-<job>/p.parquet   those that are held out
    rejected/synth-<job>/p.parquet  rejected ones with `reason` and `detail`
    synthesis.json                  the report

Samples stand in the order of their cases, whatever the order in which answers came. A case that the teacher left
unanswered (budget, outage) leaves no row: it is counted as unfinished, and a run on the same record takes it up.
What a run asks and what is made of the answers are one and the same code: `ask` plays the cases and keeps nothing but
the calls, `synthesise_part` plays them again with a teacher that knows these.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from k2model.artifacts.steps import map_in_processes
from k2model.documents.counts import Counts
from k2model.documents.markup import plain
from k2model.documents.schema import content_id, parts_of
from k2model.errors import SynthesisError
from k2model.recipe.synthesis import Kind, SynthesisConfig
from k2model.synthesis.behaviours import pinned
from k2model.synthesis.conversation import Case, Completion, Request, Sample, Teacher, Unanswered
from k2model.synthesis.job import DocumentMetadata, Fault, Job
from k2model.synthesis.output import REPORT, RUN_STATISTICS, SPLITS, count, part_files, write_report
from k2model.synthesis.teachers.endpoint import EndpointTeacher

AHEAD = 1_000  # cases that may be done before the first that is not

#: Kind -> its module, which has `case(job, index)` and `families(config)`.
_MODULES = {
    Kind.THINKING: "thinking",
    Kind.BEHAVIOUR: "behaviours",
    Kind.TOOLS: "tool_dialogues",
    Kind.CHAT: "chat",
    Kind.CONSTRAINTS: "following",
}


def families_of(config: SynthesisConfig) -> tuple[str, ...]:
    """The families that the job is made of. Raises `SynthesisError` when its kind cannot do the job."""
    found: tuple[str, ...] = _module(config).families(config)
    return found


def _module(config: SynthesisConfig) -> ModuleType:
    return import_module(f"k2model.synthesis.{_MODULES[config.kind]}")


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
    families_of(config)
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


def ask(
    config: SynthesisConfig, teacher: EndpointTeacher, folder: Path, told: Callable[[dict[str, int]], None]
) -> dict[str, int]:
    """Ask an endpoint all that the job asks; returns the counts. What it said of part p is in `folder`/p.jsonl, a line
    a call, by fingerprints. `told` is given the counts so far, after every part.

    Raises `SynthesisError` for a job that cannot be run.
    """
    counts = Counts()

    async def run() -> None:
        async with teacher.session():
            for part in range(part_count(config)):
                await _answer(config, teacher, part, counts, lambda _: None)
                lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in teacher.heard())
                with (folder / f"{part:05d}.jsonl").open("wb") as file:
                    file.writelines(line.encode("utf-8", "backslashreplace") for line in lines)
                told(dict(counts))

    asyncio.run(run())
    return dict(counts)


def requests(config: SynthesisConfig, indices: Sequence[int]) -> Iterator[Request]:
    """What the cases `indices` ask of a teacher, as far as can be told without one: all of it where a program knows the
    answers, else the first request of each."""
    job, module = Job(config), _module(config)
    for index in indices:
        conversation = module.case(job, index).conversation
        try:
            request = next(conversation)
            while True:
                yield request
                if request.exact is None:
                    break
                request = conversation.send(Completion(request.exact))
        except StopIteration:
            pass


def part_count(config: SynthesisConfig) -> int:
    return -(-config.count // config.part_size)


async def _run_parts(
    config: SynthesisConfig, teacher: Teacher, folder: Path, parts: Sequence[int]
) -> list[dict[str, int]]:
    made = []
    async with teacher.session():
        for part in parts:
            counts = Counts()
            with part_files(folder, config.source, part) as write:
                await _answer(config, teacher, part, counts, write)
            made.append(dict(counts))
    return made


async def _answer(
    config: SynthesisConfig, teacher: Teacher, part: int, counts: Counts, sink: Callable[[Sample], None]
) -> None:
    """Play the cases of a part and hand their samples to `sink` in order, as soon as all before them are there.

    As many are under way as the teacher takes at once. They run ahead of the first that is not finished by `AHEAD` at
    most, which bounds what is kept in memory.
    """
    families_of(config)
    job, module, slots, seen = Job(config), _module(config), asyncio.Semaphore(teacher.concurrency), set[str]()
    indices = range(part * config.part_size, min((part + 1) * config.part_size, config.count))

    async def play(index: int) -> tuple[str, list[Sample]]:
        async with slots:
            case: Case = module.case(job, index)
            count(counts, case.family, "cases")
            return case.family, await _converse(job, case, teacher, counts)

    async def pass_on(played: "asyncio.Task[tuple[str, list[Sample]]]") -> None:
        family, samples = await played
        for sample in samples:
            sink(_judged(sample, family, part, seen, counts))

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


def _judged(sample: Sample, family: str, part: int, seen: set[str], counts: Counts) -> Sample:
    """The sample, counted as kept or for its reason; a document that is in the part already is rejected. Equal ones of
    two parts, which do not know each other, have ids of their own: deduplication finds them."""
    name = sample.document["id"]
    if not sample.reason and name in seen:
        sample = sample._replace(reason="repeated")
    seen.add(name)
    if part:
        sample = sample._replace(document={**sample.document, "id": content_id(name, str(part))})
    if sample.reason:
        count(counts, family, "samples", "rejected", f"reason/{sample.reason}")
    else:
        count(counts, family, "samples", "kept")
        counts["heldout"] += sample.heldout
        counts["characters"] += len(sample.document["text"])
    return sample


async def _converse(job: Job, case: Case, teacher: Teacher, counts: Counts) -> list[Sample]:
    """The samples of a finished case; none when the teacher left a request unanswered, and a rejected one when what it
    said cannot be used."""
    try:
        request = next(case.conversation)
        while True:
            count(counts, case.family, "asked")
            completion = await teacher.complete(request)
            count(counts, case.family, "answered")
            counts.update(completion.usage._asdict())
            if completion.fault:
                case.conversation.close()
                return [_unusable(job, case.family, request, completion)]
            request = case.conversation.send(completion)
    except StopIteration as done:
        samples: list[Sample] = done.value
        return samples
    except Unanswered as left:
        case.conversation.close()
        count(counts, case.family, "unfinished")
        counts[f"unfinished/{left.reason}"] += 1
        return []


def _unusable(job: Job, family: str, request: Request, completion: Completion) -> Sample:
    """What was asked and what came of it, to be looked at among what is rejected."""
    reply = completion.reply
    said = [*(turn.content for turn in request.turns), reply.trace, reply.content, *(call.text for call in reply.calls)]
    of = DocumentMetadata("synthesis", "", f"k2model {family}", "")
    text = plain("\n\n".join(filter(None, said)))
    return job.sample(of, text, Fault(completion.fault, completion.detail))


def _clear(folder: Path, source: str) -> None:
    """Parts of an earlier run into the same folder, which may have had more of them, and its reports."""
    parts = [path for split in SPLITS for path in parts_of(folder, split, source)]
    for path in (*parts, folder / REPORT, folder / RUN_STATISTICS):
        path.unlink(missing_ok=True)
