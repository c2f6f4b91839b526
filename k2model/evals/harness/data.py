"""Where the data of public benchmarks lie. Nothing is fetched: what a score is measured on must not change by itself.

A dataset is looked for below the folder that `K2_EVAL_DATA` names, under the path it has on the hub, then in the cache
that Hugging Face's `datasets` keeps. In the folder it is either files by split, read here (`openai/gsm8k/main/
test.jsonl`, `...-00000-of-00002.parquet`), or a copy of its repository, whose README.md says which file is what.
"""

import contextlib
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.errors import EvaluationError
from k2model.plain import NotPlain, from_plain
from k2model.settings import eval_data

if TYPE_CHECKING:
    from datasets import DatasetDict

_SPLIT_FILE = re.compile(r"(\w+?)(?:-\d+-of-\d+)?\.(jsonl|jsonl\.gz|parquet)")


class Absent(EvaluationError):
    """What a task needs is not on this machine; `what` is the same for all tasks that lack the same."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what or message


@dataclass(frozen=True)
class Found:
    """A dataset by split, where it lay, and what it is: of files their sha256, of a cache the fingerprints it keeps."""

    splits: "DatasetDict"
    place: str
    digests: dict[str, str]


def find_dataset(path: str, name: str | None = None) -> Found:
    """The dataset that the hub has as `path`, in its configuration `name`. Raises Absent, which says where it was
    looked for and how it gets there."""
    looked = []
    if (root := eval_data()) is not None:
        for folder in [root / path / name, root / path] if name else [root / path]:
            looked.append(str(folder))
            if found := _files(folder):
                return found
        if (root / path / "README.md").is_file():
            return _loaded(str(root / path), name, str(root / path))
    try:
        return _loaded(path, name, "the cache of Hugging Face")
    except Absent:
        looked.append("the cache of Hugging Face")
    raise Absent(
        f"no data of {path}{f' ({name})' if name else ''}: looked in {', '.join(looked)}. Where there is a network, "
        f"`hf download --repo-type dataset {path} --local-dir $K2_EVAL_DATA/{path}` brings them; set K2_EVAL_DATA",
        path,
    )


def find_made(path: str) -> Found:
    """The data of a task that the harness would make when it is asked, at `path` below the folder: made beforehand
    (docs/harness.md), since it takes a tokenizer and the network. Raises Absent."""
    root = eval_data()
    if root is not None and (found := _files(root / path)):
        return found
    raise Absent(
        f"no data of {path}, which are made beforehand (docs/harness.md): looked in {root or '$K2_EVAL_DATA'}/{path}"
    )


def _files(folder: Path) -> Found | None:
    """A folder with a file or more for each split."""
    from datasets import Dataset, DatasetDict

    rows: dict[str, list[dict[str, Any]]] = {}
    digests = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and (match := _SPLIT_FILE.fullmatch(path.name)):
            content = path.read_bytes()
            digests[path.name] = hashlib.sha256(content).hexdigest()
            rows.setdefault(match[1], []).extend(_rows(path, content, match[2]))
    if not rows:
        return None
    return Found(DatasetDict({split: Dataset.from_list(own) for split, own in rows.items()}), str(folder), digests)


def _rows(path: Path, content: bytes, kind: str) -> list[dict[str, Any]]:
    try:
        if kind == "parquet":
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return rows
        lines = (gzip.decompress(content) if kind.endswith("gz") else content).splitlines()
        return [from_plain(dict[str, Any], json.loads(line)) for line in lines if line.strip()]
    except (ValueError, OSError, EOFError, zlib.error, RecursionError, pa.ArrowException, NotPlain) as error:
        raise EvaluationError(f"{path} cannot be read as {kind} ({error}); get it again") from error


def _loaded(path: str, name: str | None, place: str) -> Found:
    """What `datasets` makes of a folder or of its cache, without the network. Raises Absent."""
    import datasets

    with offline():
        try:
            splits = datasets.load_dataset(path, name)
        except Exception as error:  # a library's many ways to say that it has nothing
            raise Absent(f"{path}: {type(error).__name__}: {error}") from error
    return Found(splits, place, {split: own._fingerprint for split, own in splits.items()})


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Hugging Face's libraries reach for nothing on the network meanwhile."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
