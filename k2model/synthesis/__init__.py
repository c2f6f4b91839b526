"""Synthesis: documents a teacher writes and a program verifies. Imports cheaply; names resolve on use.

A *job* (`SynthesisConfig`) is one kind of document (thinking traces, reasoning behaviours, tool dialogues,
three-effort chat, constraint following), a count and a teacher. `synthesise` runs it into Parquet parts; what
does not pass verification goes to `rejected/` with its reason.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "EndpointConfig": "k2model.synthesis.config",
    "Kind": "k2model.synthesis.config",
    "SynthesisConfig": "k2model.synthesis.config",
    "load_job": "k2model.synthesis.config",
    "Completion": "k2model.synthesis.conversation",
    "Request": "k2model.synthesis.conversation",
    "Teacher": "k2model.synthesis.conversation",
    "EndpointTeacher": "k2model.synthesis.teachers.endpoint",
    "ProceduralTeacher": "k2model.synthesis.teachers.procedural",
    "open_teacher": "k2model.synthesis.teachers",
    "part_count": "k2model.synthesis.run",
    "synthesise": "k2model.synthesis.run",
    "synthesise_part": "k2model.synthesis.run",
    "write_report": "k2model.synthesis.output",
}

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.synthesis' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
