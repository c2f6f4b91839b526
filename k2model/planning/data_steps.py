"""Every data step that is made in parts, by name: what Flyte's map tasks and the command line fan out."""

from collections.abc import Callable, Sequence

from k2model.artifacts import ArtifactRef, PartedStep, Store
from k2model.errors import K2Error
from k2model.planning.plan import DataPlan


def _raw(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.build import raw_step

    return raw_step(data.corpus)


def _raw_checks(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.validation import raw_checks_step

    (raw,) = inputs
    return raw_checks_step(store, data.validation, raw)


def _clean(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.curation.steps import clean_step

    (raw,) = inputs
    return clean_step(store, data.corpus, raw)


def _exact_links(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.curation.comparison import exact_step

    (clean,) = inputs
    return exact_step(store, clean)


def _band_links(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.curation.comparison import band_step

    clean, exact = inputs
    return band_step(store, data.corpus, clean, exact)


def _curated(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.curation.steps import curated_step

    raw, clean, duplicates = inputs
    return curated_step(store, data.corpus, raw, clean, duplicates)


def _valid(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.validation import valid_step

    (curated,) = inputs
    return valid_step(
        store,
        data.validation,
        data.mixtures,
        curated,
        phase_tokens=data.phase_tokens,
        min_characters=data.corpus.min_characters,
        max_characters=data.corpus.max_characters,
    )


def _tokens(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.tokens import tokens_step

    corpus, tokenizer = inputs
    return tokens_step(store, corpus, tokenizer)


def _tokens_checks(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.tokens.validation import tokens_checks_step

    (tokens,) = inputs
    return tokens_checks_step(store, data.validation, tokens)


_STEPS: dict[str, Callable[[Store, DataPlan, Sequence[ArtifactRef]], PartedStep]] = {
    "corpus_raw": _raw,
    "raw_checks": _raw_checks,
    "corpus_clean": _clean,
    "exact_links": _exact_links,
    "band_links": _band_links,
    "corpus": _curated,
    "corpus_valid": _valid,
    "tokens": _tokens,
    "tokens_checks": _tokens_checks,
}


def parted_step(name: str, store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    """The step `name` on its inputs, in the order in which the step names them."""
    if name not in _STEPS:
        raise K2Error(f"'{name}' is no step that is made in parts; there are {', '.join(_STEPS)}")
    return _STEPS[name](store, data, inputs)
