"""Who answers: a procedure that makes no mistakes unless told to, or any OpenAI-compatible endpoint."""

from pathlib import Path

from k2model.synthesis.config import SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Teacher

__all__ = ["open_teacher"]


def open_teacher(config: SynthesisConfig, record: Path) -> Teacher:
    """The teacher of a job. `record` is the JSONL file of an endpoint's calls, made if need be and only ever
    appended to; a run that finds an answer there does not ask for it again. Raises `TeacherError` for an address or a
    key that cannot be used."""
    if config.teacher == TeacherKind.PROCEDURAL:
        from k2model.synthesis.teachers.procedural import ProceduralTeacher

        return ProceduralTeacher(config.error_rate, config.seed)
    from k2model.synthesis.teachers.endpoint import EndpointTeacher

    return EndpointTeacher(config.endpoint, record)
