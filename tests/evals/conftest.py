"""A small world with known answers: hand-written items, and a model that has learnt some of them by heart.

The model is overfitted on a few documents, some of them wrong on purpose, so that the right score of
each measure is known in advance.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.documents.families import retrieval
from k2model.documents.markup import Segment, chat, plain, reasoning
from k2model.documents.schema import make_document, make_item, write_documents, write_items
from k2model.evals.answers import Answers
from k2model.evals.backends import OwnModel
from k2model.evals.items import ItemResult
from k2model.evals.material import Material
from k2model.evals.measures import Bounds, Measure, measures_of
from k2model.evals.scores import ScoreRow, row_of
from k2model.export.step import write_export
from k2model.model.loss import IGNORED, shifted_targets
from k2model.model.transformer import K2Model
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import EvaluationConfig, ModelConfig, PhaseConfig, PhaseKind
from k2model.recipe.tasks import CORPUS_FAMILIES
from k2model.tokens import K2Tokenizer
from k2model.training.checkpoint import InMemory
from tests.model.conftest import byte_tokenizer
from tests.tokens.folders import tokenize_folder

MODEL = ModelConfig(
    vocab_size=274, hidden_size=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, ffn_size=128, init_std=0.05
)
CONFIG = EvaluationConfig(
    families=tuple(CORPUS_FAMILIES),
    items_per_family=4,
    retrieval_documents=2,
    retrieval_queries=2,
    loss_tokens=400,
    batch_size=3,
)
LENGTH = 96

#: prompt -> (trace, answer the model learns, true answer). The third is learnt wrong.
SUMS = {
    "Compute 1+2=": ("1+2=3", "3", "3"),
    "Compute 2+2=": ("2+2=4", "4", "4"),
    "Compute 5-1=": ("5-1=3", "3", "4"),
    "Compute 7-2=": ("7-2=5", "5", "5"),
}
FACTS = {"The capital of Peru is": " Lima", "The capital of Cuba is": " Havana"}
ENTRIES = [("cat", "red"), ("dog", "blue"), ("fox", "green"), ("owl", "gold")]
CODE = "def f(x):\n    total = 0\n"
LINES = ["    return total + x", "    yield value.next", "    raise KeyError(a)", "    import os as sys"]
CALL = '{"name": "calc", "arguments": {"a": 2, "op": "*", "b": 3}}'


def learnt_documents() -> list[list[Segment]]:
    layout = retrieval.Layout(ENTRIES, [""] * 4, ENTRIES)
    documents = [plain(prompt + answer) for prompt, answer in FACTS.items()]
    documents += [retrieval.segments(layout), plain(CODE + LINES[0] + "\n")]
    for prompt, (trace, answer, _) in SUMS.items():
        documents.append(reasoning(prompt, trace, answer))
        for effort in ("low", "high"):
            reply = {"role": "assistant", "content": answer, "trace": trace if effort == "high" else ""}
            documents.append(chat([{"role": "user", "content": prompt}, reply], effort))
    tools = [{"role": "user", "content": "What is 2*3?"}, {"role": "assistant", "tool_call": CALL}]
    return [*documents, chat(tools, "high")]


def write_corpus(folder: Path) -> None:
    """Items of every family and held-out documents of two domains."""
    sums = [make_item("arithmetic", p, p, true) for p, (_, _, true) in SUMS.items()]
    write_items(folder, "arithmetic", sums)
    write_items(folder, "spelling", [make_item("spelling", "cat", "Reverse cat:", " t a c")])
    puzzles = [("11", "a"), ("01", "b"), ("01", "c"), ("10", "d")]
    write_items(folder, "knights", [make_item("knights", key, f"Knights {key}?", answer) for answer, key in puzzles])
    write_items(folder, "countdown", [make_item("countdown", "2 3 5 to 6", "Countdown 3 2 5 to 6:", "(3-2)+5")])
    for family in ("facts_seen", "facts_heldout"):
        write_items(folder, family, [make_item(family, p, p, a) for p, a in FACTS.items()])
    for family in ("facts_chat_seen", "facts_chat_heldout"):
        write_items(folder, family, [make_item(family, "q", "Name the capital of Peru.", "Lima")])
    write_items(folder, "tools", [make_item("tools", "2*3", "What is 2*3?", CALL, meta={"result": "6"})])
    lines = {"choices": [LINES[1], LINES[0], *LINES[2:]], "index": 1}
    write_items(folder, "code", [make_item("code", "f:3", CODE, LINES[0], meta=lines)])
    write_items(folder, "retrieval", [_retrieval_item(LENGTH), _retrieval_item(2 * LENGTH)])
    facts = [make_document("facts", "knowledge", "MIT", "test", plain(p + a)) for p, a in FACTS.items()]
    prose = [make_document("prose", "prose", "MIT", "test", plain(f"Text number {i} " * (i + 1))) for i in range(9)]
    for split in ("train", "heldout"):
        write_documents(folder / split / "facts" / "00000.parquet", facts)
        write_documents(folder / split / "prose" / "00000.parquet", prose)


def _retrieval_item(context: int) -> dict:
    """The second query's value is not what the model learnt."""
    prompt = retrieval.context_text(retrieval.Layout(ENTRIES, [""] * 4, []))
    queries = [ENTRIES[0], ("dog", "pink")]
    return make_item("retrieval", f"r{context}", prompt, "", context=context, meta={"queries": queries})


def learn(documents: list[list[Segment]], tokenizer: K2Tokenizer, theta: float) -> K2Model:
    """A model that continues these documents by heart, in every position counted by their loss."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = K2Model(MODEL, theta, 256)
    encoded = [tokenizer.encode_segments(document) for document in documents]
    longest = max(len(ids) for ids, _ in encoded)
    tokens = torch.tensor([ids + [tokenizer.pad] * (longest - len(ids)) for ids, _ in encoded])
    targets = torch.tensor([loss + [False] * (longest - len(loss)) for _, loss in encoded])
    targets = shifted_targets(tokens, targets)
    count = (targets != IGNORED).sum()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            nats, _ = model.loss(tokens, targets)
        (nats / count).backward()
        optimizer.step()
    assert nats / count < 0.05, "the fixture's model has not learnt its documents"
    return model.eval()


@dataclass(frozen=True)
class World:
    """Folders of a corpus, its tokens, a tokenizer and an exported model, and the phase it belongs to."""

    corpus: Path
    tokens: Path
    tokenizer: Path
    export: Path
    phase: PhaseConfig
    model: K2Model

    @property
    def loaded_tokenizer(self) -> K2Tokenizer:
        return K2Tokenizer.load(self.tokenizer)

    @property
    def backend(self) -> OwnModel:
        return OwnModel(self.model, self.loaded_tokenizer, "world")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    folders = {name: root / name for name in ("corpus", "tokens", "tokenizer", "export")}
    for folder in folders.values():
        folder.mkdir()
    byte_tokenizer(folders["tokenizer"])
    tokenizer = K2Tokenizer.load(folders["tokenizer"])
    write_corpus(folders["corpus"])
    tokenize_folder(folders["corpus"], tokenizer, folders["tokens"])
    phase = replace(laptop().phase("mid_1"), sequence_length=LENGTH, rope_theta=1e4)
    model = learn(learnt_documents(), tokenizer, phase.rope_theta)
    write_export(folders["export"], InMemory(model.state_dict()), MODEL, phase, folders["tokenizer"])
    return World(**folders, phase=phase, model=model)


@dataclass(frozen=True)
class Asked:
    """What came of a measure: its results, and the row of each of its scores."""

    results: list[ItemResult]
    rows: list[ScoreRow]

    @property
    def row(self) -> ScoreRow:
        (row,) = self.rows
        return row


@pytest.fixture(scope="session")
def ask(
    world: World, put: Callable[[Store, str, Path], ArtifactRef], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Asked]:
    """Asks the world's model whatever gives a score, of a phase of some kind."""
    store = Store.open(tmp_path_factory.mktemp("material"))
    corpus, tokens = put(store, "corpus", world.corpus), put(store, "tokens", world.tokens)

    def asked(
        score: str, kind: PhaseKind = PhaseKind.MIDTRAIN, lengths: tuple[int, ...] = (LENGTH,), backend: Any = None,
        corpus: ArtifactRef = corpus, **changes: Any,
    ) -> Asked:  # fmt: skip
        material = Material(store, corpus, tokens)
        measures = measures_of(replace(CONFIG, **changes), material, kind, Bounds(LENGTH, 256), lengths)
        measure = next(one for one in measures if one.name == score)
        return measured(measure, backend or world.backend)

    return asked


def measured(measure: Measure, backend: Any) -> Asked:
    with Answers() as answers:
        results = measure.ask(backend, answers)
    by_score: dict[str, list[ItemResult]] = {}
    for one in results:
        by_score.setdefault(one.score, []).append(one)
    about = measure.group, measure.unit, measure.chance()
    return Asked(results, [row_of("mid_1", score, own, *about) for score, own in by_score.items()])


@pytest.fixture(scope="session")
def put() -> Callable[[Store, str, Path], ArtifactRef]:
    """Puts a folder into a store as an artifact of some step."""

    def put_folder(store: Store, step: str, folder: Path) -> ArtifactRef:
        import shutil

        def produce(target: Path) -> dict[str, float]:
            shutil.copytree(folder, target, dirs_exist_ok=True)
            return {}

        return store.build(Identity(step, "1", {}), produce)

    return put_folder
