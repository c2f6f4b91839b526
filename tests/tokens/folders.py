"""A tokens folder of a corpus folder, made without a store."""

from pathlib import Path

from k2model.tokens import K2Tokenizer
from k2model.tokens.shard_writer import tokenize_part, write_counts


def tokenize_folder(corpus: Path, tokenizer: K2Tokenizer, folder: Path) -> None:
    files = [path.relative_to(corpus) for side in ("train", "heldout") for path in sorted(corpus.glob(f"{side}/*/*"))]
    parts = [
        (str(file.with_suffix("")), tokenize_part(corpus / file, tokenizer, folder / file.with_suffix(".arrow")))
        for file in files
    ]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"vocab_size": tokenizer.vocab_size, "bos": tokenizer.bos, "pad": tokenizer.pad}
    write_counts(parts, vocabulary, folder)
