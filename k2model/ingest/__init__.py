"""Sources that are read from files: JSONL, Parquet, Arrow, text and code trees, Hugging Face folders, local or on S3.

`list_inputs` says what a source is (and bears its identity), `split_inputs` divides it into parts, `ingest_part` turns
one part into documents and quarantined rows, `total_counts` adds up and `check_quarantine` stops what is mostly bad.
`docs/data_sources.md` is the guide for users.
"""

from importlib import import_module
from typing import Any

from k2model.ingest.counts import Counts, check_quarantine, total_counts
from k2model.ingest.inputs import FileSlice, InputFile, InputPart, list_inputs
from k2model.ingest.part import ingest_part, ingest_source
from k2model.ingest.parts import split_inputs

_LAZY = {"raw_step": "k2model.ingest.raw", "source_versions": "k2model.ingest.raw"}

__all__ = [
    *_LAZY,
    "Counts",
    "FileSlice",
    "InputFile",
    "InputPart",
    "check_quarantine",
    "ingest_part",
    "ingest_source",
    "list_inputs",
    "split_inputs",
    "total_counts",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
