"""Artifacts as MLflow's datasets: by name in a lifecycle and digest, with what is in them as their profile.

A dataset is what one run made and others read: the run that makes it logs it in the context `output`, so that one can
go from a model to the files of the user. Its content is not read, beyond the small tables that an artifact has of it.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from k2model.artifacts import ArtifactRef, Store, read_json
from k2model.tokens.reader import Composition
from k2model.tokens.shards import TokenCounts

if TYPE_CHECKING:
    from mlflow.entities import Dataset, DatasetInput

MAX_DIGEST = 36  # characters of a digest that MLflow keeps
MAX_TAG = 500  # of the value of an input's tag
# Contexts: what a dataset is to its run.
OUTPUT, INPUT, TRAINING, CORPUS, EVALUATION = "output", "input", "training", "corpus", "evaluation"

Profile = dict[str, Any]


@dataclass(frozen=True)
class DatasetOf:
    """What an artifact is called as a dataset, and what is in it."""

    name: str
    ref: ArtifactRef
    profile: Profile

    @classmethod
    def read(cls, store: Store, name: str, ref: ArtifactRef) -> "DatasetOf":
        """Raises the store's errors."""
        return cls(name, ref, profile_of(store, ref))

    @property
    def digest(self) -> str:
        return self.ref.digest[:MAX_DIGEST]

    def entity(self) -> "Dataset":
        return dataset(self.name, self.ref.digest, self.ref.uri, self.profile)

    def used(self, context: str) -> "DatasetInput":
        return used(self.entity(), context, {"k2.digest": self.ref.digest, "k2.uri": self.ref.uri})


def dataset(name: str, digest: str, uri: str, profile: Profile) -> "Dataset":
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.entities import Dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it knows two names for a local folder
        source = resolve_dataset_source(uri)
    written = json.dumps(profile, ensure_ascii=False)
    return Dataset(name, digest[:MAX_DIGEST], source._get_source_type(), source.to_json(), profile=written)


def used(one: "Dataset", context: str, tags: Mapping[str, str]) -> "DatasetInput":
    from mlflow.entities import DatasetInput, InputTag

    marks = [InputTag("mlflow.data.context", context), *(InputTag(name, tags[name][:MAX_TAG]) for name in tags)]
    return DatasetInput(one, marks)


def profile_of(store: Store, ref: ArtifactRef) -> Profile:
    """The artifact's numbers, and what it says of itself by source."""
    reader = _READERS.get(ref.kind)
    _, manifest = store.look_up(ref)
    numbers: Profile = {name: value for name, value in ref.stats.items() if name != "seconds"}
    if reader is None or reader[0] not in {entry.path for entry in manifest.files}:
        return numbers
    path, kind, profile = reader
    return numbers | profile(read_json(kind, store, ref, path))


def _of_rows(composition: Mapping[str, Any]) -> Profile:
    """What a phase really trains on: shares of the tokens and passes, by entry of the mixture."""
    whole = ("sequence_length", "rows", "tokens", "targets", "documents", "padding", "split", "truncated", "skipped")
    own = ("share", "share_wanted", "tokens", "documents", "epochs")
    entries = composition["sources"]
    by_source = {name: {key: entry[key] for key in own if key in entry} for name, entry in entries.items()}
    return {name: composition[name] for name in whole if name in composition} | {"sources": by_source}


def _of_documents(statistics: Mapping[str, Any]) -> Profile:
    train = statistics["train"]
    grouped = {
        f"by_{by}": {
            name: {key: counted[key] for key in ("documents", "bytes")} for name, counted in train[f"by_{by}"].items()
        }
        for by in ("source", "domain", "licence")
        if f"by_{by}" in train
    }
    return {name: train[name] for name in ("documents", "bytes", "characters")} | grouped


def _of_tokens(counts: Mapping[str, Any]) -> Profile:
    own = ("tokens", "targets", "documents", "bytes", "domain")
    return {
        split: {name: {key: entry[key] for key in own if key in entry} for name, entry in counts[split].items()}
        for split in ("train", "heldout")
        if split in counts
    }


class _Amounts(TypedDict):
    documents: int
    bytes: int


class _OfSplit(_Amounts):
    characters: int
    by_source: NotRequired[dict[str, _Amounts]]
    by_domain: NotRequired[dict[str, _Amounts]]
    by_licence: NotRequired[dict[str, _Amounts]]


class _Statistics(TypedDict):
    train: _OfSplit


#: By kind of artifact: its file, what that says, and what is told of it.
_READERS: dict[str, tuple[str, Any, Callable[[Mapping[str, Any]], Profile]]] = {
    "sequences": ("composition.json", Composition, _of_rows),
    "corpus_valid": ("statistics.json", _Statistics, _of_documents),
    "tokens": ("counts.json", TokenCounts, _of_tokens),
}
