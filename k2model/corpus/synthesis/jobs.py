"""Jobs that need no model: what a corpus source `synth/<job>` is made of."""

from dataclasses import replace
from typing import NamedTuple

from k2model.corpus.documents import Document
from k2model.corpus.synthesis.config import Form, Kind, SynthesisConfig
from k2model.corpus.synthesis.run import generate
from k2model.corpus.synthesis.teachers.procedural import ProceduralTeacher

SPARE = 16  # talks beyond the documents wanted, besides a quarter, since some are rejected

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
    sides = ([sample.document for sample in kept if sample.heldout == heldout] for heldout in (False, True))
    return Made(*sides)
