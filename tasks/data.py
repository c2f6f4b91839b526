"""From sources to a validated corpus."""

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import CorpusConfig, MixtureEntry, ValidationConfig
from tasks._platform import data_task, show_deck


@data_task()
def build_corpus(store: StoreRef, config: CorpusConfig) -> ArtifactRef:
    from k2model.corpus import build_corpus

    return build_corpus(store.open(), config)


@data_task()
def curate(store: StoreRef, config: CorpusConfig, raw: ArtifactRef) -> ArtifactRef:
    from k2model.corpus import curate

    return curate(store.open(), config, raw)


@data_task(enable_deck=True)
def validate(
    store: StoreRef,
    config: ValidationConfig,
    mixtures: dict[str, list[MixtureEntry]],
    phase_tokens: dict[str, int],
    corpus: ArtifactRef,
) -> ArtifactRef:
    """Stops the DAG when a critical expectation is broken: nothing downstream may train on such data."""
    from k2model.corpus.validation import validate

    opened = store.open()
    tables = {name: tuple(entries) for name, entries in mixtures.items()}
    valid = validate(opened, config, tables, corpus, phase_tokens=phase_tokens)
    show_deck("Data Docs", (opened.fetch(valid) / "attachments" / "deck.html").read_text(encoding="utf-8"))
    return valid
