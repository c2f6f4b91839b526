"""Sources that a job of synthesis makes: their documents become the corpus's as they are, with spans and loss masks."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from k2model.artifacts import ArtifactRef, Part, Store
from k2model.documents.schema import DOCUMENT_SCHEMA, source_file
from k2model.documents.tables import read_table, selected

Artifacts = Mapping[str, ArtifactRef]  # of synthesis, by the names of sources
SPLITS = ("train", "heldout")


def copied_parts(store: Store, source: str, made: ArtifactRef) -> list[Part]:
    """A part of the corpus for each file of the source's documents; its task names that file and the held-out one."""
    _, manifest = store.look_up(made)
    stem = source_file(source)
    names = sorted(entry.path.rpartition("/")[2] for entry in manifest.files if entry.path.startswith(f"train/{stem}/"))
    return [
        Part(f"{stem}/{name.removesuffix('.parquet')}", json.dumps([f"{split}/{stem}/{name}" for split in SPLITS]))
        for name in names
    ]


def copy_part(store_uri: str, made: ArtifactRef, part: Part, folder: Path) -> dict[str, Any]:
    """Copies the files of a part below `folder`, and counts their documents."""
    paths = json.loads(part.task)
    there = Store.open(store_uri).fetch(made, lambda path: path in paths)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(there / path, folder / path)
    train, heldout = (read_table(folder / path, selected(DOCUMENT_SCHEMA, "text")) for path in paths)
    size = pc.sum(pc.binary_length(train["text"])).as_py() or 0
    return {"documents": train.num_rows, "heldout_documents": heldout.num_rows, "bytes": size}
