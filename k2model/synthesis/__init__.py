"""Synthesis: documents a teacher writes and a program verifies. Imports cheaply; names resolve on use.

A *job* (`SynthesisConfig`) is one kind of document (thinking traces, reasoning behaviours, tool dialogues,
three-effort chat, constraint following), a count and a teacher. `synthesise` runs it into Parquet parts; what
does not pass verification goes to `rejected/` with its reason.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "EndpointConfig": "config",
        "Kind": "config",
        "SynthesisConfig": "config",
        "load_job": "config",
        "Completion": "conversation",
        "Request": "conversation",
        "Teacher": "conversation",
        "EndpointTeacher": "teachers.endpoint",
        "ProceduralTeacher": "teachers.procedural",
        "open_teacher": "teachers",
        "part_count": "run",
        "synthesise": "run",
        "synthesise_part": "run",
        "write_report": "output",
    },
)
