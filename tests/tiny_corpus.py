"""A corpus of every kind of source at a size for tests, and the digests of what it gives."""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from k2model.ingest.raw import write_corpus
from k2model.recipe.schema import CorpusConfig, SourceConfig
from tests.curation.chain import curate_folder

SOURCES = {
    "prose": 60, "code": 60, "facts": 0, "arithmetic/think": 300, "arithmetic/direct": 100, "spelling/think": 200,
    "spelling/direct": 100, "knights/think": 200, "knights/direct": 100, "countdown/think": 300,
    "chat/arithmetic": 100, "chat/spelling": 100, "chat/knights": 100, "chat/countdown": 200, "chat/facts": 0,
    "chat/tools": 200, "chat/identity": 0,
}  # fmt: skip
CONFIG = CorpusConfig(
    sources=(
        *(SourceConfig(name, documents) for name, documents in SOURCES.items()),
        SourceConfig("retrieval/128", 100, context=128),
        SourceConfig("retrieval/512", 40, context=512),
    ),
    heldout_items=24,
)


def build(folder: Path) -> None:
    """Raw and curated corpus in `folder`/raw and /curated."""
    (folder / "curated").mkdir(parents=True)
    write_corpus(folder / "raw", CONFIG)
    curate_folder(folder / "raw", folder / "curated", CONFIG)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        build(Path(place))
        json.dump(digests(Path(place)), sys.stdout)
