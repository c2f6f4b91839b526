"""A small line whose champion has learned chats of sums and knows some notes, and batches that arrive at it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.continual.batches import Manifest
from k2model.continual.gate.arrival import judge_batch
from k2model.continual.gate.evidence import Arrival, Check, read_arrival
from k2model.continual.inbox import Inbox
from k2model.continual.state import LIFECYCLE, Corpus, Model, State
from k2model.documents.families import arithmetic
from k2model.documents.families.task import Task
from k2model.documents.schema import Document, is_heldout, parts_of, read_documents, read_items
from k2model.documents.spans import segments_of
from k2model.export.step import write_export
from k2model.ingest.builtin import CHAT_EFFORTS
from k2model.lifecycle.steps import DATA, Work, inputs_of
from k2model.model.loss import IGNORED, shifted_targets
from k2model.model.transformer import K2Model
from k2model.recipe import Recipe
from k2model.recipe.continual import ArrivalConfig, BatchKind, ContinualConfig
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import CorpusConfig, FieldMapping, ModelConfig, SourceConfig
from k2model.tokens import K2Tokenizer
from k2model.training.checkpoint import InMemory

SUMS, NOTES, RIDDLES = "sums", "notes", "riddles"
FIELDS = FieldMapping(messages="messages", key="key", effort="effort")
Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A store with a champion, and what its ledger would say."""

    store: Store
    recipe: Recipe
    state: State

    @property
    def corpus(self) -> Path:
        return self.store.fetch(self.state.corpora[LIFECYCLE].valid)

    def documents(self, source: str, split: str = "train") -> list[Document]:
        return [one for path in parts_of(self.corpus, split, source) for one in read_documents(path)]

    def sums(self, split: str) -> list[Document]:
        """Its own chats of sums."""
        return self.documents(SUMS, split)

    def add(self, name: str, rows: Iterable[Row | str], **said: Any) -> Manifest:
        """A batch in the line's inbox, of dialogues if nothing else is said; a row that is text is written as it is."""
        file = written(Path(self.store.uri).parent / "outside" / name, rows)
        told = {"kind": BatchKind.TUNED, "domain": "chat", "licence": "MIT", "fields": FIELDS, "heldout": 0.05} | said
        return self.inbox.add([str(file)], name, **told)

    @property
    def inbox(self) -> Inbox:
        return Inbox.open(self.store, self.recipe)

    def judged(self, manifest: Manifest, **changes: Any) -> ArtifactRef:
        """Its arrival; changes: of the state."""
        return judge_batch(self.store, self.recipe, replace(self.state, **changes), manifest, self.inbox)

    def arrival(self, manifest: Manifest, **changes: Any) -> Arrival:
        return read_arrival(self.store, self.judged(manifest, **changes))


def row(told: Arrival, name: str) -> Check:
    return next(one for one in told.checks if one.name == name)


def failed(told: Arrival) -> list[str]:
    return [one.name for one in told.checks if not one.passed]


def dialogue(prompt: str, answer: str, trace: str = "", effort: str = "low", key: str = "") -> Row:
    reply = {"role": "assistant", "content": answer, "trace": trace}
    return {"messages": [{"role": "user", "content": prompt}, reply], "effort": effort, "key": key or prompt}


def said(one: Row) -> str:
    """What a dialogue asks."""
    return str(one["messages"][0]["content"])


def asking(one: Row, prompt: str) -> Row:
    """The same dialogue with another question."""
    return one | {"messages": [{"role": "user", "content": prompt}, one["messages"][1]]}


def answering(one: Row, answer: str) -> Row:
    """With another answer, and no thinking."""
    return one | {"messages": [one["messages"][0], {"role": "assistant", "content": answer}], "effort": "low"}


@cache
def _pool() -> list[Task]:
    tasks = arithmetic.pool(Random(0), arithmetic.MAX_POOL)
    return [task for task in tasks if task.split == "train"][:4_000]


def sums(count: int, first: int) -> list[Row]:
    """Chats of sums that are not held out, from the number `first` of one long list on; the line has the first 400."""
    tasks, rng = _pool()[first : first + count], Random(first)
    efforts = [rng.choice(CHAT_EFFORTS) for _ in tasks]
    drawn = zip(tasks, efforts, strict=True)
    return [dialogue(task.prompt, task.answer, task.trace(effort), effort, task.key) for task, effort in drawn]


WORDS = {
    "who": ("ferry", "train", "baker", "teacher", "gardener", "cat", "clerk", "old man", "smith", "choir"),
    "did": ("waited", "sang", "left", "came back", "slept", "argued", "laughed", "worked", "hid", "paid"),
    "where": ("by the mill", "at noon", "near the harbour", "in the rain", "after supper", "on the bridge", "upstairs"),
    "why": ("because of the noise", "as ever", "for no reason", "without a word", "to be alone", "for an hour"),
}


def notes(count: int, seed: int) -> list[Row]:
    """Plain texts of a few sentences in everyday words."""
    rng = Random(f"notes {seed}")
    drawn = ([rng.choice(own) for own in WORDS.values()] for _ in range(6 * count))
    said = [f"The {who} {did} {where} {why}." for who, did, where, why in drawn]
    return [{"text": " ".join(said[first : first + 6])} for first in range(0, len(said), 6)]


def riddles() -> list[Row]:
    """The items of a benchmark of the line's own."""
    asked = ("walks on four legs in the morning", "has a neck and no head", "gets wetter the more it dries")
    return [{"prompt": f"Tell me which creature or thing {one} and why?", "answer": one[:5]} for one in asked]


def written(folder: Path, rows: Iterable[Row | str]) -> Path:
    folder.mkdir(parents=True)
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder / "rows.jsonl"


def heldout_items(line: Line, family: str = "arithmetic") -> list[Mapping[str, Any]]:
    return [item for item in read_items(line.corpus, family) if is_heldout(item["key"])]


def made_line(root: Path) -> Line:
    """The line of the tests' session (fixture `line`)."""
    store, base = Store.open(root / "store"), smoke()
    file = written(root / "sums", sums(400, 0))
    own = SourceConfig(SUMS, location=str(file), fields=FIELDS, domain="chat", licence="MIT", heldout=0.1)
    text = SourceConfig(
        NOTES, location=str(written(root / "notes", notes(150, 0))), domain="prose", licence="MIT", heldout=0.2
    )
    sources = (own, text, SourceConfig("chat/spelling", 200))
    exam = BenchmarkConfig(RIDDLES, str(written(root / "riddles", riddles())), decontaminate=False)
    recipe = replace(
        base, name="line", corpus=CorpusConfig(sources=sources, heldout_items=24),
        phases=tuple(replace(phase, mixture=()) for phase in base.phases),
        evaluation=replace(base.evaluation, benchmarks=(exam,)),
        continual=ContinualConfig(
            tuned="sft", base="mid_4", arrival=ArrivalConfig(min_documents=20, measured_documents=32)
        ),
    )  # fmt: skip
    made: dict[str, ArtifactRef] = {}
    for step in DATA:
        made[step.name] = make(store, step.build(Work(store, recipe, None, inputs_of(step, None, made))))
    kept = {name: made[name] for name in ("corpus_valid", "tokenizer", "tokens")}
    corpus = Corpus(LIFECYCLE, made["corpus_clean"], made["corpus_valid"], made["tokens"])
    learned = _learned(store, recipe, kept)
    model = Model(0, kept | {"tuned/export": learned, "base/export": learned}, (LIFECYCLE,))
    return Line(store, recipe, State("line", models={0: model}, champion=0, corpora={LIFECYCLE: corpus}))


def _learned(store: Store, recipe: Recipe, made: Mapping[str, ArtifactRef]) -> ArtifactRef:
    """An export of a model that knows what chats of sums look like, and much of what they say."""
    tokenizer_at, corpus = store.fetch(made["tokenizer"]), store.fetch(made["corpus_valid"])
    tokenizer, phase = K2Tokenizer.load(tokenizer_at), recipe.phase("sft")
    files = [path for name in (SUMS, "chat/spelling") for path in parts_of(corpus, "train", name)]
    own = [one for path in files for one in read_documents(path)]
    encoded = [tokenizer.encode_segments(segments_of(one)) for one in own]
    config = ModelConfig(
        vocab_size=512, hidden_size=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, ffn_size=128, init_std=0.05
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, rng = K2Model(config, phase.rope_theta, 256), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        batch = [encoded[index] for index in rng.integers(0, len(encoded), 32)]
        longest = max(len(ids) for ids, _ in batch)
        tokens = torch.tensor([ids + [tokenizer.pad] * (longest - len(ids)) for ids, _ in batch])
        targets = shifted_targets(tokens, torch.tensor([one + [False] * (longest - len(one)) for _, one in batch]))
        optimizer.zero_grad()
        (model.loss(tokens, targets)[0] / (targets != IGNORED).sum()).backward()
        optimizer.step()
    name = hashlib.sha256(b"champion of tests").hexdigest()

    def produce(folder: Path) -> dict[str, float]:
        write_export(folder, InMemory(model.state_dict()), config, phase, tokenizer_at)
        return {}

    return store.build(Identity("export", "1", {"test": name}), produce)
