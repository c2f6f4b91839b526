"""Where the items of tasks and the held-out documents lie, and the digests that stand for them in identities.

Of a corpus only what a task asks bears on its score: the digest of the one file of items, or of a domain's held-out
documents, taken from the corpus' manifest. So a corpus that is made anew with equal items measures nothing again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.documents.benchmarks import Benchmark, ItemFile, benchmark_files, read_benchmark
from k2model.documents.families.generated import GENERATED, VERSION, generate
from k2model.documents.markup import Segment
from k2model.documents.schema import Item, parts_of, read_documents, read_items, source_file
from k2model.documents.spans import segments_of
from k2model.errors import EvaluationError
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.tasks import Task
from k2model.tokens.shards import counts_of


@dataclass(frozen=True)
class Material:
    """The validated corpus and its tokens (of these only the counts, which tell the domains held out); None where a
    model is asked benchmarks alone, which lie in files of their own: `files` by benchmark, as they were when they were
    first looked at."""

    store: Store
    corpus: ArtifactRef | None = None
    tokens: ArtifactRef | None = None
    files: dict[str, tuple[ItemFile, ...]] = field(default_factory=dict)
    _read: dict[str, Benchmark] = field(default_factory=dict, repr=False)

    @cached_property
    def _entries(self) -> dict[str, str]:
        """sha256 of the corpus' files, by path."""
        return {entry.path: entry.sha256 for entry in self.store.look_up(self._corpus)[1].files}

    @property
    def _corpus(self) -> ArtifactRef:
        if self.corpus is None:
            raise EvaluationError(
                "the recipe's corpus is not in the store, so there are no items of its families; run the lifecycle to "
                "corpus_valid (`pyflyte run workflows/data.py`), or name tasks in YAML files of their own"
            )
        return self.corpus

    def domains(self) -> dict[str, list[str]]:
        """Domain -> its sources that hold documents out, in order."""
        if self.tokens is None:
            return {}
        domains: dict[str, list[str]] = {}
        for source, counts in sorted(counts_of(self.store, self.tokens)["heldout"].items()):
            if counts["targets"]:
                domains.setdefault(counts["domain"], []).append(source)
        return domains

    def benchmark_files(self, config: BenchmarkConfig) -> tuple[ItemFile, ...]:
        """The files of a benchmark. Raises CorpusError for one that cannot be read."""
        if config.name not in self.files:
            self.files[config.name] = benchmark_files(config)
        return self.files[config.name]

    def digest_of(self, task: Task) -> str:
        """What stands for the items of a task, and for the shots before them."""
        if task.benchmark:
            return fingerprint([file.digest for file in self.benchmark_files(task.benchmark)])
        return VERSION if task.items in GENERATED else self.items_digest(task.items)

    def items_digest(self, family: str) -> str:
        """sha256 of a family's file of items; "" where the corpus has none, which asking them raises."""
        return fingerprint(self._entries.get(f"items/{family}.parquet", ""))

    def heldout_digest(self, sources: Sequence[str]) -> str:
        """What stands for the held-out documents of sources."""
        folders = tuple(f"heldout/{source_file(source)}/" for source in sources)
        return fingerprint({path: sha for path, sha in self._entries.items() if path.startswith(folders)})

    def benchmark(self, config: BenchmarkConfig) -> Benchmark:
        """Raises EvaluationError or CorpusError as `read_benchmark` does."""
        if config.name not in self._read:
            self._read[config.name] = read_benchmark(config, self.benchmark_files(config))
        return self._read[config.name]

    def items(self, task: Task, most: int | None = None, after: int = 0) -> Sequence[Item]:
        """`most` items of a task, or all, behind the first `after`; `most` has to be given where they are made when
        they are asked. Raises EvaluationError when there are none, or not so many can be made."""
        if task.items in GENERATED:
            return generate(task.items, after + (most or 0))[after:]
        found = self.benchmark(task.benchmark).items if task.benchmark else self.family(task.items)
        return found[after:][:most]

    def family(self, family: str) -> list[Item]:
        """All items of `family` that the corpus holds. Raises EvaluationError when there are none."""
        name = f"items/{family}.parquet"
        folder = self._fetch(lambda path: path == name)
        found = read_items(folder, family) if (folder / name).is_file() else []
        if not found:
            raise EvaluationError(
                f"{folder / name} has no items, which the recipe is scored on (evaluation.families); add a source of "
                "this family to the recipe's corpus, or raise corpus.heldout_items"
            )
        return found

    def contexts(self, length: int) -> list[Item]:
        """The items of retrieval at a context of `length` tokens. Raises EvaluationError when there are none."""
        items = self.family("retrieval")
        wanted = [item for item in items if item["context"] == length]
        if not wanted:
            raise EvaluationError(
                f"items/retrieval.parquet of {self._corpus.uri} has no items of context {length}, only of "
                f"{sorted({item['context'] for item in items})}; add a source with context={length} to the recipe's "
                "corpus"
            )
        return wanted

    def heldout(self, source: str, characters: int) -> Iterator[tuple[str, list[Segment]]]:
        """Ids and segments of held-out documents in a fixed random order, up to `characters`; the last is cut to what
        is left of them."""
        folder = f"heldout/{source_file(source)}/"
        corpus = self._fetch(lambda path: path.startswith(folder))
        documents = [document for part in parts_of(corpus, "heldout", source) for document in read_documents(part)]
        for index in np.random.default_rng(0).permutation(len(documents)).tolist():
            yield documents[index]["id"], _cut(segments_of(documents[index]), characters)
            characters -= len(documents[index]["text"])
            if characters <= 0:
                return

    def _fetch(self, wanted: Callable[[str], bool]) -> Path:
        return self.store.fetch(self._corpus, wanted)


def _cut(segments: list[Segment], characters: int) -> list[Segment]:
    """The first `characters` of a document; a special token is whole or not there."""
    kept: list[Segment] = []
    for segment in segments:
        if characters <= 0:
            break
        kept.append({**segment, "text": segment["text"][:characters]} if segment["kind"] != "special" else segment)
        characters -= len(segment["text"])
    return kept
