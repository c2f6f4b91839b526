"""Every data step that is made in parts, by name: what Flyte's map tasks and the command line fan out."""

from collections.abc import Callable, Sequence

from k2model.artifacts import ArtifactRef, PartedStep, Store
from k2model.errors import K2Error
from k2model.planning.plan import DataPlan


def _raw(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.corpus.build import raw_step

    return raw_step(data.corpus)


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


def _tokens(store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    from k2model.tokens import tokens_step

    corpus, tokenizer = inputs
    return tokens_step(store, corpus, tokenizer)


_STEPS: dict[str, Callable[[Store, DataPlan, Sequence[ArtifactRef]], PartedStep]] = {
    "corpus_raw": _raw,
    "corpus_clean": _clean,
    "exact_links": _exact_links,
    "band_links": _band_links,
    "corpus": _curated,
    "tokens": _tokens,
}


def parted_step(name: str, store: Store, data: DataPlan, inputs: Sequence[ArtifactRef]) -> PartedStep:
    """The step `name` on its inputs, in the order in which the step names them."""
    if name not in _STEPS:
        raise K2Error(f"'{name}' is no step that is made in parts; there are {', '.join(_STEPS)}")
    return _STEPS[name](store, data, inputs)
