"""A small corpus of the real layout, and the artifacts made of it once per session."""

import random
from pathlib import Path

import pytest

from k2model.documents import markup
from k2model.documents.markup import Segment
from k2model.documents.schema import make_document, write_documents
from k2model.recipe.schema import TokenizerConfig
from k2model.tokens import K2Tokenizer
from k2model.tokens.bpe import train_folder
from tests.tokens.folders import tokenize_folder

WORDS = [
    "the",
    "of",
    "train",
    "model",
    "learns",
    "tokens",
    "rivers",
    "seven",
    "quiet",
    "naïve",
    "cafés",
    "—",
    "東京",
    "😀",
    "x_1",
    "(y)",
]


def prose(rng: random.Random) -> list[Segment]:
    return markup.plain(" ".join(rng.choices(WORDS, k=rng.randint(5, 160))))


def fact(rng: random.Random) -> list[Segment]:
    return markup.plain(f"The capital of {rng.choice(WORDS)}{rng.randint(0, 99)} is {rng.choice(WORDS)}.")


def sums(rng: random.Random) -> list[Segment]:
    a, b, c = (rng.randint(1, 9) for _ in range(3))
    return markup.reasoning(f"C {a}+{b}+{c}=", f"{a}+{b}={a + b};{a + b}+{c}={a + b + c}", str(a + b + c))


def chat(rng: random.Random) -> list[Segment]:
    effort = rng.choice(["low", "medium", "high"])
    call = {"role": "assistant", "tool_call": '{"name": "calc", "arguments": {"a": %d}}' % rng.randint(0, 999)}  # noqa: UP031
    messages = [{"role": "user", "content": " ".join(rng.choices(WORDS, k=4))}, call]
    return markup.chat(
        [*messages, {"role": "tool", "content": "7"}, {"role": "assistant", "content": "It is 7."}], effort
    )


SOURCES = {
    "prose": ("prose", prose, 120),
    "facts": ("knowledge", fact, 60),
    "arithmetic/think": ("mathematics", sums, 400),
    "chat/tools": ("tools", chat, 150),
}


def write_corpus(folder: Path) -> Path:
    """`train` and `heldout` of every source; a function of nothing but this file."""
    for name, (domain, make, count) in SOURCES.items():
        rng = random.Random(name)
        documents = [make_document(name, domain, "CC0-1.0", f"test {i}", make(rng)) for i in range(count)]
        stem = name.replace("/", "-")
        write_documents(folder / "train" / stem / "00000.parquet", documents[count // 10 :])
        write_documents(folder / "heldout" / stem / "00000.parquet", documents[: count // 10])
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def tokenizer_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_folder(corpus, TokenizerConfig(vocab_size=340, sample_bytes=60_000), folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> K2Tokenizer:
    return K2Tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def tokens(corpus: Path, tokenizer: K2Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    tokenize_folder(corpus, tokenizer, folder)
    return folder
