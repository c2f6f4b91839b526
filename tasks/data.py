"""From sources to a validated corpus."""

from flytekit import task

from k2model.artifacts import ArtifactRef
from k2model.planning import StoreRef
from k2model.recipe.schema import CorpusConfig, MixtureEntry, ValidationConfig
from k2model.settings import home
from tasks._platform import DATA_IMAGE, data_task, show_deck
from tasks._types import Artifact


@data_task()
def validate_raw(store: StoreRef, config: ValidationConfig, raw: ArtifactRef) -> Artifact:
    """Gives back `raw` when it passes, so that curation waits for the gate."""
    from k2model.corpus.validation import validate_raw

    validate_raw(store.open(), config, raw)
    return raw


@data_task()
def find_duplicates(
    store: StoreRef, config: CorpusConfig, clean: ArtifactRef, exact: ArtifactRef, bands: ArtifactRef
) -> Artifact:
    """Which documents copy which, from the links of all slices: memory is bounded by the documents that have one."""
    from k2model.corpus.curation.comparison import settle

    return settle(store.open(), config, clean, exact, bands)


@data_task(enable_deck=True)
def validate(
    store: StoreRef,
    config: ValidationConfig,
    mixtures: dict[str, list[MixtureEntry]],
    phase_tokens: dict[str, int],
    curation: CorpusConfig,
    corpus: ArtifactRef,
) -> Artifact:
    """Stops the DAG when an expectation of severity `stop` is not met: nothing downstream may train on such data.

    The results are then in the deck and in `validation_failed.html` of `K2_HOME`.
    """
    from k2model.corpus.validation import ValidationFailed, validate

    opened = store.open()
    tables = {name: tuple(entries) for name, entries in mixtures.items()}
    try:
        valid = validate(
            opened,
            config,
            tables,
            corpus,
            phase_tokens=phase_tokens,
            min_characters=curation.min_characters,
            max_characters=curation.max_characters,
        )
    except ValidationFailed as failed:
        (home() / "validation_failed.html").write_text(failed.html, encoding="utf-8")
        show_deck("Data Docs", failed.html)
        raise
    show_deck("Data Docs", (opened.fetch(valid) / "attachments" / "deck.html").read_text(encoding="utf-8"))
    return valid


@task(container_image=DATA_IMAGE)
def summarize_data(artifacts: list[ArtifactRef]) -> str:
    """What a data run ends with: each artifact's counts and place; never cached, so that it is always said."""
    return "\n".join(f"{ref.kind:14} {_counts(ref)}  {ref.uri}" for ref in artifacts)


def _counts(ref: ArtifactRef) -> str:
    return ", ".join(f"{value:,.0f} {name}" for name, value in ref.stats.items())
