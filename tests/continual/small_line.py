"""A line of tiny real models, one that knows its sums and one that was never trained, and what they are asked from."""

import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from k2model.artifacts import ArtifactRef, Identity, Store
from k2model.continual.state import Corpus, Model, State
from k2model.documents.markup import chat, plain
from k2model.documents.schema import make_document, make_item, source_file, write_documents, write_items
from k2model.export.step import write_export
from k2model.model.transformer import K2Model
from k2model.recipe import Recipe
from k2model.recipe.continual import CanaryConfig, ContinualConfig
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import EvaluationConfig, PhaseConfig
from k2model.tokens import K2Tokenizer
from k2model.training.checkpoint import InMemory
from tests.evals.conftest import LENGTH, MODEL, learn
from tests.model.conftest import byte_tokenizer
from tests.tokens.folders import tokenize_folder

ITEMS, ASKED = 24, 8
SUMS = [(f"Compute {a}+0*{b}=", str(a)) for b in range(1, 5) for a in range(1, 7)][:ITEMS]  # soon learnt


def recipe(**changes: object) -> Recipe:
    base = laptop()
    phase = replace(base.phase("sft"), sequence_length=LENGTH, rope_theta=1e4, parent="")
    evaluation = EvaluationConfig(families=("arithmetic",), items_per_family=ASKED, loss_tokens=400, batch_size=8)
    continual = ContinualConfig(tuned="sft", canary=CanaryConfig(items=ITEMS - ASKED, allowed=0.15), default_loss=0.5)
    return replace(
        base, name="line", phases=(phase,), evaluation=evaluation, gates=(), continual=replace(continual, **changes)
    )  # type: ignore[arg-type]


def write_corpus(folder: Path, source: str = "facts", words: str = "The capital of Peru is Lima") -> None:
    """`ITEMS` sums, and documents of one domain of which nine are held out."""
    write_items(folder, "arithmetic", [make_item("arithmetic", asked, asked, said) for asked, said in SUMS])
    documents = [
        make_document(source, "knowledge", "MIT", "test", plain(f"{i}: {words}. " * (i + 1))) for i in range(9)
    ]
    for split in ("train", "heldout"):
        write_documents(folder / split / source_file(source) / "00000.parquet", documents)


@cache
def weights(knows: bool) -> K2Model:
    """One that has learnt every sum by heart, at low effort; one that was never trained."""
    torch.manual_seed(1)
    if not knows:
        return K2Model(MODEL, 1e4, 256).eval()
    documents = [
        chat([{"role": "user", "content": asked}, {"role": "assistant", "content": said, "trace": ""}], "low")
        for asked, said in SUMS
    ]
    return learn(documents, _tokenizer(), 1e4)


@cache
def _tokenizer() -> K2Tokenizer:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        byte_tokenizer(Path(folder))
        return K2Tokenizer.load(Path(folder))


@dataclass(frozen=True)
class Line:
    """A store with a corpus in which both models can be asked."""

    store: Store
    tokenizer: ArtifactRef
    corpus: Corpus

    @staticmethod
    def at(root: Path) -> "Line":
        store = Store.open(root / "store")
        folder = root / "tokenizer"
        folder.mkdir(parents=True)
        byte_tokenizer(folder)
        return Line(store, _put(store, "tokenizer", folder), corpus_of(store, root, "lifecycle", "facts"))

    def model(self, turn: int, knows: bool) -> Model:
        """The model of a turn; its name makes the export another artifact, whatever the weights."""
        phase: PhaseConfig = recipe().phase("sft")
        tokenizer = self.store.fetch(self.tokenizer)

        def produce(folder: Path) -> dict[str, float]:
            write_export(folder, InMemory(weights(knows).state_dict()), MODEL, phase, tokenizer)
            (folder / "turn.txt").write_text(str(turn))
            return {}

        export = self.store.build(Identity("export", "1", {"turn": turn, "knows": knows}), produce)
        made = {"tuned/export": export, "tokenizer": self.tokenizer}
        made |= {"corpus_valid": self.corpus.valid, "tokens": self.corpus.tokens}
        return Model(turn, made, ("lifecycle",))

    def state(self, before: Model, champion: Model) -> State:
        models = {before.turn: before, champion.turn: champion}
        return State("line", models=models, champion=champion.turn, before=(before.turn,))


def corpus_of(store: Store, root: Path, name: str, source: str, words: str = "The capital of Peru is Lima") -> Corpus:
    folder, tokens = root / f"corpus {name}", root / f"tokens {name}"
    for one in (folder, tokens):
        one.mkdir(parents=True)
    write_corpus(folder, source, words)
    tokenize_folder(folder, _tokenizer(), tokens)
    return Corpus(name, None, _put(store, "corpus_valid", folder), _put(store, "tokens", tokens))


def _put(store: Store, kind: str, source: Path) -> ArtifactRef:
    def produce(folder: Path) -> dict[str, float]:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return {}

    return store.build(Identity(kind, "1", {"of": source.name}), produce)
