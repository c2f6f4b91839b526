"""Raw corpora with planted rows, and what curation makes of them."""

import json

from k2model.documents.markup import chat, plain
from k2model.documents.schema import make_document, part_path, read_documents, write_documents, write_items
from k2model.recipe.schema import CorpusConfig, SourceConfig
from tests.curation.chain import curate_folder

GOOD = (
    "The quick module reads a file in small parts and returns the lines of it to the caller. "
    "When the file is missing, the function raises an error that names the path and the mode. "
    "A second argument sets the size of the buffer, which is a number of bytes and not of lines. "
)
CONFIG = CorpusConfig(sources=(SourceConfig("prose"), SourceConfig("chat/tools")))
NOUNS = ("module", "file", "error", "value", "list", "class", "method", "object", "string", "number", "path", "name")


def prose(text, origin="m"):
    return make_document("prose", "prose", "PSF-2.0", origin, plain(text))


def tool_document(key):
    turns = [{"role": "user", "content": f"What is {key}?"}, {"role": "assistant", "content": "A"}]
    return make_document("chat/tools", "tools", "Apache-2.0", "t", chat(turns, "low"), key=f"calc {key}")


def sentences(rng, count):
    return " ".join(f"the {rng.choice(NOUNS)}{rng.randrange(500)} of a {rng.choice(NOUNS)}." for _ in range(count))


def distinct_words(rng, count):
    """Words drawn from so many that no two runs of them are alike by chance."""
    return [f"{rng.choice(NOUNS)}{rng.randrange(100_000)}" for _ in range(count)]


def edited(rng, words, changes):
    """The words with `changes` of them replaced, far from each other: each changes all shingles it lies in."""
    step, copy = len(words) // changes, list(words)
    for place in range(changes):
        copy[place * step + step // 2] = f"changed{rng.randrange(1_000_000)}"
    return copy


def write_raw(raw, parts, items=()):
    """`parts` maps (side, source, part) to documents."""
    for place, documents in parts.items():
        write_documents(part_path(raw, *place), documents)
    for family in {item["family"] for item in items} | {"tools"}:
        write_items(raw, family, [item for item in items if item["family"] == family])


def curated(tmp_path, train, heldout=(), tools=("1+1",), items=(), config=CONFIG):
    """Curate planted documents; returns (trained prose, tool documents, the account)."""
    raw, folder = tmp_path / "raw", tmp_path / "curated"
    folder.mkdir()
    parts = {
        ("train", "prose", 0): train,
        ("heldout", "prose", 0): heldout,
        ("train", "chat/tools", 0): [tool_document(key) for key in tools],
        ("heldout", "chat/tools", 0): [],
    }
    write_raw(raw, parts, items)
    curate_folder(raw, folder, config)
    account = json.loads((folder / "curation.json").read_text())
    kept = [read_documents(part_path(folder, "train", source)) for source in ("prose", "chat/tools")]
    return kept[0], kept[1], account
