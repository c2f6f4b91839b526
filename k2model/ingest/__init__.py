"""Sources that are read from files: JSONL, Parquet, Arrow, text and code trees, Hugging Face folders, local or on S3.

`list_inputs` says what a source is (and bears its identity), `split_inputs` divides it into parts, `ingest_part` turns
one part into documents and quarantined rows, `total_counts` adds up and `check_quarantine` stops what is mostly bad.
`docs/data_sources.md` is the guide for users.
"""

from k2model import lazy_exports
from k2model.ingest.counts import SourceCounts, check_quarantine, total_counts
from k2model.ingest.inputs import FileSlice, InputFile, InputPart, left_out, list_inputs
from k2model.ingest.part import ingest_part, ingest_source
from k2model.ingest.parts import split_inputs

__all__ = [
    "FileSlice",
    "InputFile",
    "InputPart",
    "SourceCounts",
    "check_quarantine",
    "ingest_part",
    "ingest_source",
    "left_out",
    "list_inputs",
    "split_inputs",
    "total_counts",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "raw_step": "raw",
        "source_versions": "raw",
    },
)
