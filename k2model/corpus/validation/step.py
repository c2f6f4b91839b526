"""The validation step: curated corpus in, validated corpus out, or an error before any training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.corpus.validation import suites
from k2model.corpus.validation.outcome import WARNING, Outcome, ValidationFailed
from k2model.corpus.validation.suites import Bounds
from k2model.recipe.schema import MixtureEntry, ValidationConfig
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Store
    from k2model.corpus.validation.quarantine import Reasons
    from k2model.corpus.validation.runner import Runner
    from k2model.corpus.validation.tables import Corpus


Mixtures = Mapping[str, Sequence[MixtureEntry]]


def validate(
    store: "Store",
    config: ValidationConfig,
    mixtures: Mapping[str, tuple[MixtureEntry, ...]],
    corpus: "ArtifactRef",
    *,
    phase_tokens: Mapping[str, int] | None = None,
    min_characters: int = 1,
    max_characters: int = 20_000,
) -> "ArtifactRef":
    """The validated corpus (kind `corpus_valid`): the same layout without the quarantined documents.

    `mixtures` maps a phase's name to its mixture, `phase_tokens` to the tokens it trains on; without
    the latter, epochs are not checked. What depends on the mixtures is kept in `attachments/`, so that
    a change of a mixture gives an artifact of the same digest and nothing after it runs again.

    Raises `ValidationFailed` when a critical expectation is broken; then nothing is published.
    """
    from k2model.artifacts import Identity

    bounds = Bounds(config, min_characters, max_characters)
    settings = {
        "validation": config,
        "mixtures": {phase: list(mixture) for phase, mixture in mixtures.items()},
        "phase_tokens": dict(phase_tokens or {}),
        "characters": [min_characters, max_characters],
    }
    identity = Identity("corpus_valid", STEP_VERSIONS["corpus_valid"], settings, {"corpus": corpus})
    return store.build(
        identity, lambda folder: validate_folder(store.fetch(corpus), folder, bounds, mixtures, phase_tokens)
    )


def validate_folder(
    source: Path,
    target: Path,
    bounds: Bounds,
    mixtures: Mixtures,
    phase_tokens: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Validate corpus folder `source` and write the validated one into the empty folder `target`.

    Returns counts. Raises `ValidationFailed`, having written nothing, and `K2Error` when `source` is
    not a corpus.
    """
    from k2model.corpus.validation.quarantine import publish
    from k2model.corpus.validation.render import deck, write_data_docs
    from k2model.corpus.validation.runner import Runner
    from k2model.corpus.validation.tables import Corpus

    corpus, runner = Corpus.read(source), Runner()
    bad = _check(corpus, runner, bounds, mixtures, phase_tokens or {})
    page = deck(runner.pages, runner.outcomes)
    if broken := [outcome for outcome in runner.outcomes if outcome.stops]:
        raise ValidationFailed(broken, page)
    publish(source, target, corpus.train, bad)
    attachments = target / "attachments"
    attachments.mkdir()
    (attachments / "deck.html").write_text(page, encoding="utf-8")
    write_data_docs(attachments / "data_docs", runner.pages, runner.outcomes)
    on_phases = [outcome.record() for outcome in runner.outcomes if outcome.suite == "mixtures"]
    _write_json(attachments / "mixtures.json", {"expectations": on_phases})
    _write_json(target / "validation.json", _report(corpus, runner.outcomes, bad))
    return _stats(corpus, runner.outcomes, bad)


def _check(
    corpus: "Corpus", runner: "Runner", bounds: Bounds, mixtures: Mixtures, phase_tokens: Mapping[str, int]
) -> "dict[str, Reasons]":
    """Run all suites; returns the documents to set aside, per source. Stops early on a wrong schema."""
    from k2model.corpus.validation import tables
    from k2model.corpus.validation.measures import EvaluationItems, document_frame
    from k2model.corpus.validation.quarantine import reasons_by_row

    if not all(outcome.success for outcome in runner.run(suites.schema_suite(), "all", tables.schema_frame(corpus))):
        return {}  # the other suites would look for columns that are not there
    items, bad = EvaluationItems.of(corpus.items), {}
    for stem, table in corpus.train.items():
        frame = document_frame(table, items)
        bad[stem] = reasons_by_row(runner.run(suites.documents_suite(stem, bounds), stem, frame))
    quarantined = {stem: len(reasons) for stem, reasons in bad.items()}
    runner.run(suites.identifiers_suite(), "all", tables.identifier_frame(corpus))
    runner.run(suites.heldout_suite(), "all", tables.heldout_frame(corpus))
    runner.run(suites.items_suite(), "all", tables.item_frame(corpus))
    runner.run(suites.sources_suite(bounds), "all", tables.source_frame(corpus.train, quarantined))
    runner.run(suites.mixtures_suite(bounds), "all", tables.mixture_frame(mixtures, phase_tokens, corpus.train))
    return bad


def _report(corpus: "Corpus", outcomes: Sequence[Outcome], bad: "Mapping[str, Reasons]") -> dict[str, object]:
    from k2model.corpus.validation.quarantine import count_reasons

    return {
        "documents": {
            stem: {"read": len(table), "published": len(table) - len(bad.get(stem, {}))}
            for stem, table in corpus.train.items()
        },
        "quarantine": {stem: count_reasons(reasons) for stem, reasons in bad.items() if reasons},
        "expectations": [outcome.record() for outcome in outcomes if outcome.suite != "mixtures"],
    }


def _stats(corpus: "Corpus", outcomes: Sequence[Outcome], bad: "Mapping[str, Reasons]") -> dict[str, float]:
    read = sum(len(table) for table in corpus.train.values())
    quarantined = sum(len(reasons) for reasons in bad.values())
    warned = sum(1 for o in outcomes if not o.success and not o.reason and o.severity == WARNING)
    return {
        "sources": float(len(corpus.train)),
        "documents": float(read - quarantined),
        "quarantined": float(quarantined),
        "expectations": float(len(outcomes)),
        "warnings": float(warned),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
