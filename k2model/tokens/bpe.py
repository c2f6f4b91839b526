"""Learning the byte-level BPE, and writing it as a folder that transformers loads.

Every digit and every ASCII punctuation mark is a pre-token of its own, so that arithmetic and formulas
are never glued into words; a space stays with the word that follows it. The sample is drawn evenly over
sources: the vocabulary should serve the small task families as well as the bulk of prose.
Pre-tokenising for languages other than English is left to byte-level fallback.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2model.corpus.markup import BOS, EOS, PAD, SPECIAL_TOKENS
from k2model.recipe.schema import TokenizerConfig
from k2model.tokens.chat_template import CHAT_TEMPLATE
from k2model.tokens.cuts import ISOLATED
from k2model.tokens.errors import TokensError
from k2model.tokens.tokenizer import TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_folder(corpus: Path, config: TokenizerConfig, folder: Path) -> dict[str, float]:
    """Train on the corpus in `corpus`, write the tokenizer's files into `folder`, return its stats."""
    sample = list(draw_sample(corpus, config.sample_bytes, config.seed))
    tokenizer = learn(sample, config.vocab_size)
    write(tokenizer, folder)
    return {
        "vocab_size": float(tokenizer.get_vocab_size()),
        "sample_bytes": float(sum(len(text.encode("utf-8")) for text in sample)),
    }


def learn(texts: list[str], vocab_size: int) -> "Tokenizer":
    """A BPE tokenizer of at most `vocab_size` entries: special tokens, 256 bytes, then merges."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    least = len(SPECIAL_TOKENS) + 256
    if vocab_size < least:
        raise TokensError(
            f"tokenizer.vocab_size={vocab_size} must be at least {least}: "
            f"{len(SPECIAL_TOKENS)} special tokens and the 256 bytes"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(ISOLATED), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, SPECIAL_TOKENS.index(BOS))]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write(tokenizer: "Tokenizer", folder: Path) -> None:
    """`tokenizer.json` and the three files transformers reads beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    extra = [name for name in SPECIAL_TOKENS if name not in names.values()]
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "extra_special_tokens": extra,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", config)
    _write_json(folder / "special_tokens_map.json", {**names, "additional_special_tokens": extra})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def draw_sample(corpus: Path, sample_bytes: int, seed: int) -> Iterator[str]:
    """Text segments of `sample_bytes` UTF-8 bytes in all (to within a document per source).

    Each source gives an equal part; what a small source lacks is shared among the larger ones.
    Documents come in a seeded order. Raises TokensError when the corpus has no training text.
    """
    paths = sorted((corpus / "train").glob("*/*.parquet"))
    texts = [_document_texts(path) for path in paths]
    sizes = [sum(len(t.encode("utf-8")) for document in source for t in document) for source in texts]
    if not sum(sizes):
        raise TokensError(
            f"{corpus}/train: no text to train a tokenizer on; expected <source>/<part>.parquet with documents"
        )
    for index, (source, quota) in enumerate(zip(texts, even_quotas(sizes, sample_bytes), strict=True)):
        order = np.random.default_rng([seed, index]).permutation(len(source))
        taken = 0
        for position in order:
            if taken >= quota:
                break
            for text in source[position]:
                taken += len(text.encode("utf-8"))
                yield text


def even_quotas(sizes: list[int], total: int) -> list[int]:
    """Shares of `total` as equal as `sizes` permit: no quota above its size, the rest levelled."""
    quotas = [0] * len(sizes)
    left = min(total, sum(sizes))
    for rank, index in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        quotas[index] = min(sizes[index], left // (len(sizes) - rank))
        left -= quotas[index]
    return quotas


def _document_texts(path: Path) -> list[list[str]]:
    """The non-empty text segments of each document of one Parquet file."""
    column = pq.read_table(path, columns=["segments"], partitioning=None)["segments"].combine_chunks()
    values = column.flatten()
    is_text = pc.equal(pc.struct_field(values, "kind"), "text").to_pylist()
    texts = pc.struct_field(values, "text").to_pylist()
    ends = pa.compute.list_value_length(column).to_numpy().cumsum()
    starts = np.concatenate([[0], ends[:-1]])
    return [
        [texts[i] for i in range(start, end) if is_text[i] and texts[i]]
        for start, end in zip(starts, ends, strict=True)
    ]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
