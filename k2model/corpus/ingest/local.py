"""A whole source on one machine: how a person tries one before it goes into a recipe.

In a pipeline every part is a step of its own, which can be resumed and runs anywhere; here nothing is kept of a run
that fails.
"""

from functools import partial
from pathlib import Path

from k2model.artifacts import map_in_processes
from k2model.corpus.errors import CorpusError
from k2model.corpus.ingest.counts import Counts, check_quarantine, total_counts
from k2model.corpus.ingest.inputs import list_inputs
from k2model.corpus.ingest.part import ingest_part
from k2model.corpus.ingest.parts import split_inputs
from k2model.recipe.schema import SourceConfig

PART_BYTES = 128_000_000


def ingest_source(source: SourceConfig, folder: Path, part_bytes: int = PART_BYTES, processes: int = 1) -> Counts:
    """Write all parts of a source below `folder`, an empty or absent one; returns the counts of the whole.

    What is written does not depend on `processes`. Raises `CorpusError`, also (with everything written, so that the
    quarantine can be looked at) when the source is mostly bad.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CorpusError(f"{folder} is not empty; name a folder that is, so that no file of another run is in it")
    parts = split_inputs(source, list_inputs(source), part_bytes)
    work = partial(ingest_part, source, folder=folder)
    counts = total_counts(map_in_processes(work, parts, processes))
    check_quarantine(source, counts)
    return counts
