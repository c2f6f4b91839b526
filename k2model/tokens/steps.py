"""The three steps of this package: what bears their identity, and where their work is done.

Heavy imports happen inside `produce`, so that a cached step costs a look-up and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Identity, Part, PartedStep, PartRecord, Step, Store, totals
from k2model.documents import SPECIAL_TOKENS
from k2model.recipe.source_problems import source_file
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.recipe.schema import PhaseConfig, TokenizerConfig
    from k2model.tokens.encoder import Encoder

SPLITS = ("train", "heldout")
#: Epochs of one source in one phase beyond which a mixture is refused.
MAX_EPOCHS = 60.0


def tokenizer_step(
    store: Store, config: TokenizerConfig, corpus: ArtifactRef, of_models: Mapping[str, bytes] = MappingProxyType({})
) -> Step:
    """Learn the byte-level BPE from `corpus` (kind `corpus` or `corpus_valid`), or adopt one; kind `tokenizer`.

    An adopted tokenizer is a function of its file and owes nothing to the corpus. A model that is adopted comes with
    its own: `of_models` holds their `tokenizer.json`s by what names them in messages. Raises TokensError when the
    vocabulary is too small for bytes and special tokens, what is to be adopted is not usable, or the recipe means
    several tokenizers.
    """
    if config.adopt or of_models:
        return _adopted_step(config, of_models)

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.bpe import train_folder

        return train_folder(store.fetch(corpus), config, folder)

    settings = {"tokenizer": config, "special_tokens": SPECIAL_TOKENS}
    return Step(Identity("tokenizer", STEP_VERSIONS["tokenizer"], settings, {"corpus": corpus}), produce)


def _adopted_step(config: TokenizerConfig, of_models: Mapping[str, bytes]) -> Step:
    from k2model.tokens.adoption import content_digest, read_specification, the_same

    named = {f"tokenizer.adopt='{config.adopt}'": read_specification(config.adopt)} if config.adopt else {}
    where, specification = the_same(named | dict(of_models))

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.adoption import adopt_folder

        return adopt_folder(specification, config.vocab_size, folder, where)

    adopted = content_digest(specification)
    settings = {"adopted": adopted, "vocab_size": config.vocab_size, "special_tokens": SPECIAL_TOKENS}
    return Step(Identity("tokenizer", STEP_VERSIONS["tokenizer"], settings, {}), produce)


def tokens_step(store: Store, corpus: ArtifactRef, tokenizer: ArtifactRef) -> PartedStep:
    """Encode every training and held-out document of `corpus`; one part for each of its files.

    A part raises TokensError for a document without tokens or with an unknown special token.
    """

    def parts() -> list[Part]:
        _, manifest = store.look_up(corpus)
        found = (PurePosixPath(entry.path) for entry in manifest.files)
        files = [p for p in found if p.suffix == ".parquet" and len(p.parts) == 3 and p.parts[0] in SPLITS]
        return [Part(name) for name in sorted(str(path.with_suffix("")) for path in files)]

    def finish(records: Sequence[PartRecord], folder: Path) -> dict[str, float]:
        from k2model.tokens.shard_writer import TOTALS, write_counts
        from k2model.tokens.tokenizer import K2Tokenizer

        learned = K2Tokenizer.load(store.fetch(tokenizer))
        vocabulary = {"vocab_size": learned.vocab_size, "bos": learned.bos, "pad": learned.pad}
        write_counts([(r.name, r.counts) for r in records], vocabulary, folder)
        trained = totals(r for r in records if r.name.startswith("train/"))
        return {name: trained[name] for name in TOTALS}

    identity = Identity("tokens", STEP_VERSIONS["tokens"], {}, {"corpus": corpus, "tokenizer": tokenizer})
    return PartedStep(lambda: identity, parts, partial(_tokenize_part, store.uri, corpus, tokenizer), finish)


def _tokenize_part(
    store_uri: str, corpus: ArtifactRef, tokenizer: ArtifactRef, part: Part, folder: Path
) -> dict[str, Any]:
    from k2model.tokens.shard_writer import tokenize_part

    store = Store.open(store_uri)
    file = f"{part.name}.parquet"
    documents = store.fetch(corpus, lambda path: path == file) / file
    return tokenize_part(documents, _encoder(str(store.fetch(tokenizer))), folder / f"{part.name}.arrow")


@lru_cache(maxsize=1)
def _encoder(folder: str) -> Encoder:
    """One for all parts that a process makes: a large vocabulary takes seconds to read, and words recur."""
    from k2model.tokens.encoder import Encoder
    from k2model.tokens.tokenizer import K2Tokenizer

    return Encoder(K2Tokenizer.load(folder))


def sequences_step(store: Store, phase: PhaseConfig, tokens: ArtifactRef, max_epochs: float = MAX_EPOCHS) -> Step:
    """Draw and pack the rows of `phase`; kind `sequences`.

    Of `tokens` only the sources that the phase draws from are fetched. Only the fields that decide the rows bear
    identity: a changed learning rate packs nothing again.
    Raises MixtureError when the mixture names a source that `tokens` does not hold, would repeat one more than
    `max_epochs` times, does not fit the phase's length or keeps too little short-context data.
    """

    def produce(folder: Path) -> dict[str, float]:
        from k2model.tokens.sequences import pack_folder

        return pack_folder(fetch_drawn(store, phase, tokens), phase, folder, max_epochs)

    names = ("sequence_length", "global_batch", "steps", "mixture", "mixing", "packing", "long_documents", "seed")
    settings = {name: getattr(phase, name) for name in names} | {"max_epochs": max_epochs}
    return Step(Identity("sequences", STEP_VERSIONS["sequences"], settings, {"tokens": tokens}), produce)


def fetch_drawn(store: Store, phase: PhaseConfig, tokens: ArtifactRef) -> Path:
    """The folder of `tokens`, as far as `phase` draws from it: `counts.json` and the training shards of its mixture."""
    from k2model.tokens.mixture import drawn_sources
    from k2model.tokens.shards import COUNTS_FILE, counts_of

    counts = counts_of(store, tokens)
    shards = {f"train/{source_file(name)}" for name in drawn_sources(phase, counts["train"])}
    return store.fetch(tokens, lambda path: path == COUNTS_FILE or path.rpartition("/")[0] in shards)
