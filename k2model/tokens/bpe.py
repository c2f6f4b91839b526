"""Learning the byte-level BPE, and writing it, with K2's chat template, as a folder that transformers loads.

Every digit is a pre-token of its own, so that arithmetic is never glued into words; a space stays with the word that
follows it. Marks stand alone, or make runs (`PreTokens`). The sample is drawn evenly over sources: the vocabulary
should serve the small task families as well as the bulk of prose. Letters beyond the 256 bytes come by merges alone.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from k2model.documents.markup import BOS, EOS, PAD, SPECIAL_TOKENS
from k2model.documents.schema import DOCUMENT_SCHEMA, parts_of, sources_of
from k2model.documents.spans import FlatSpans
from k2model.documents.tables import read_batches, selected
from k2model.errors import TokensError
from k2model.recipe.schema import PreTokens, TokenizerConfig
from k2model.tokens.chat_template import CHAT_TEMPLATE
from k2model.tokens.tokenizer import BY_SCRIPT, ISOLATED, TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DOCUMENTS_PER_READ = 1_024


def train_folder(corpus: Path, config: TokenizerConfig, folder: Path) -> dict[str, float]:
    """Train on the corpus in `corpus`, write the tokenizer's files into `folder`, return its stats."""
    sample = list(draw_sample(corpus, config.sample_bytes, config.seed))
    tokenizer = learn(sample, config.vocab_size, config.pre_tokens)
    write(tokenizer, folder)
    return {"vocab_size": float(tokenizer.get_vocab_size()), "sample_bytes": float(_size(sample))}


def learn(texts: list[str], vocab_size: int, pre_tokens: PreTokens = PreTokens.ISOLATED) -> "Tokenizer":
    """A BPE tokenizer of at most `vocab_size` entries: special tokens, 256 bytes, then merges."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    least = len(SPECIAL_TOKENS) + 256
    if vocab_size < least:
        raise TokensError(
            f"tokenizer.vocab_size={vocab_size} must be at least {least}: "
            f"{len(SPECIAL_TOKENS)} special tokens and the 256 bytes"
        )
    pattern = {PreTokens.ISOLATED: ISOLATED, PreTokens.BY_SCRIPT: BY_SCRIPT}[pre_tokens]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre_tokens is PreTokens.ISOLATED),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin_with_bos(tokenizer)
    return tokenizer


def begin_with_bos(tokenizer: "Tokenizer") -> None:
    """What transformers encodes begins with K2's BOS, whose id the tokenizer knows."""
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )


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
    """Texts of `sample_bytes` UTF-8 bytes in all (to within a document per source).

    Each source gives an equal part; what a small source lacks is shared among the larger ones.
    Documents come in a seeded order. The corpus is read twice as a stream: memory holds the sample, and 24 bytes for
    each document of one source. Raises TokensError when the corpus has no training text.
    """
    sources = [parts_of(corpus, "train", stem) for stem in sources_of(corpus, "train")]
    sizes = [np.fromiter(map(_size, _documents(parts)), dtype=np.int64) for parts in sources]
    totals = [int(size.sum()) for size in sizes]
    if not sum(totals):
        raise TokensError(
            f"{corpus}/train: no text to train a tokenizer on; expected <source>/<part>.parquet with documents"
        )
    quotas = even_quotas(totals, sample_bytes)
    for index, (parts, size, quota) in enumerate(zip(sources, sizes, quotas, strict=True)):
        order = np.random.default_rng([seed, index]).permutation(len(size))
        before = np.cumsum(size[order]) - size[order]
        drawn = order[before < quota].tolist()
        wanted = set(drawn)
        found = {place: texts for place, texts in enumerate(_documents(parts)) if place in wanted}
        for place in drawn:
            yield from found.pop(place)


def even_quotas(sizes: list[int], total: int) -> list[int]:
    """Shares of `total` as equal as `sizes` permit: no quota above its size, the rest levelled."""
    quotas = [0] * len(sizes)
    left = min(total, sum(sizes))
    for rank, index in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        quotas[index] = min(sizes[index], left // (len(sizes) - rank))
        left -= quotas[index]
    return quotas


def _documents(parts: Sequence[Path]) -> Iterator[list[str]]:
    """The non-empty texts of each document as they are encoded, a few documents in memory at a time."""
    for part in parts:
        for batch in read_batches(part, selected(DOCUMENT_SCHEMA, "id", "text", "spans"), DOCUMENTS_PER_READ):
            spans = FlatSpans.of(batch).encoded_together()
            written = pc.and_(pc.equal(spans.kinds, "text"), pc.not_equal(spans.texts, ""))
            texts = spans.texts.filter(written).to_pylist()
            before = np.concatenate([[0], np.cumsum(written.to_numpy(zero_copy_only=False))])
            yield from (texts[start:end] for start, end in pairwise(before[spans.bounds].tolist()))


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
