"""The gates on a corpus, raw and curated, as steps whose parts are groups of files; each stops before training.

What a group is and what is found in it is in `group`, which loads Great Expectations and so is imported when a part is
made.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import read_json
from k2model.errors import K2Error
from k2model.plain import NotPlain, read_as
from k2model.recipe.fields import without_places
from k2model.recipe.schema import ValidationConfig
from k2model.validation.documents.suites import Bounds
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    from k2model.artifacts import ArtifactRef, Part, PartedStep, PartRecord, Store
    from k2model.validation.documents.group import Mixtures

ITEMS = "items/"


def valid_step(
    store: "Store",
    config: ValidationConfig,
    mixtures: "Mixtures",
    corpus: "ArtifactRef",
    *,
    phase_tokens: Mapping[str, int] | None = None,
    min_characters: int = 1,
    max_characters: int = 20_000,
) -> "PartedStep":
    """The validated corpus: the same layout without the quarantined documents.

    `mixtures` maps a phase's name to its mixture, `phase_tokens` to the tokens it trains on; without
    the latter, epochs are not checked. What depends on the mixtures or on the previous version is kept in
    `attachments/`, so that changing them gives an artifact of the same digest and nothing after it runs again.

    To finish it raises `ValidationFailed` when an expectation of severity `stop` is not met; then nothing is
    published, and parts that were looked at are kept.
    """
    from k2model.artifacts import Identity, PartedStep

    bounds = Bounds(config, min_characters, max_characters)
    previous = cache(partial(read_previous, config.previous_statistics))

    @cache
    def identify() -> Identity:
        settings = {
            "validation": without_places(config),
            "previous": hashlib.sha256(previous()).hexdigest() if previous() else "",
            "mixtures": {phase: list(mixture) for phase, mixture in mixtures.items()},
            "phase_tokens": dict(phase_tokens or {}),
            "characters": [min_characters, max_characters],
        }
        return Identity("corpus_valid", STEP_VERSIONS["corpus_valid"], settings, {"corpus": corpus})

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        from k2model.artifacts import local_parts
        from k2model.validation.documents.group import SUMMARIES, gather_corpus
        from k2model.validation.gate import FOUND

        parts_folder = local_parts(store, identify(), records, lambda path: path.startswith((FOUND, SUMMARIES, ITEMS)))
        earlier = read_statistics(previous(), config.previous_statistics) if previous() else None
        groups = [record.name for record in records]
        return gather_corpus(parts_folder, groups, folder, bounds, mixtures, phase_tokens or {}, earlier)

    parts = partial(_groups, store, corpus, config)
    return PartedStep(identify, parts, partial(_look_at, store.uri, corpus, bounds, "documents"), finish)


def raw_checks_step(store: "Store", config: ValidationConfig, raw: "ArtifactRef") -> "PartedStep":
    """Check every training file of a raw corpus before curation; leaves `validation.json` and a page.

    Of sources that were read from files every row is accounted for: what was read of a part is what its files hold and
    what was sampled out.

    To finish it raises `ValidationFailed` when an expectation of severity `stop` is not met; what curation mends is
    warned of.
    """
    from k2model.artifacts import Identity, PartedStep

    bounds = Bounds(config)
    settings = {"validation": without_places(config)}
    identity = Identity("raw_checks", STEP_VERSIONS["raw_checks"], settings, {"raw": raw})

    def finish(records: "Sequence[PartRecord]", folder: Path) -> dict[str, float]:
        from k2model.artifacts import local_parts
        from k2model.validation.documents.group import gather_files
        from k2model.validation.documents.suites import accounts_suite
        from k2model.validation.documents.tables import account_frame
        from k2model.validation.gate import FOUND, publish

        parts_folder = local_parts(store, identity, records, lambda path: path.startswith(FOUND))
        findings, counts = gather_files(parts_folder, [record.name for record in records], bounds, "raw corpus")
        findings.check(accounts_suite(bounds), account_frame(_accounts(store, raw), counts))
        return publish(findings, folder, "raw corpus")

    produce = partial(_look_at, store.uri, raw, bounds, "raw")
    return PartedStep(lambda: identity, partial(_groups, store, raw, config, raw=True), produce, finish)


def read_previous(address: str) -> bytes:
    """The bytes of a `statistics.json`, nothing for "". Raises K2Error when it is not there."""
    import fsspec

    if not address:
        return b""
    try:
        with fsspec.open(address, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise K2Error(
            f"validation.previous_statistics: {address} cannot be read ({error}); name the statistics.json of a "
            'corpus_valid artifact, or "" to compare with none'
        ) from error


def read_statistics(content: bytes, address: str) -> Mapping[str, Any]:
    """What a `statistics.json` says of the documents that `drift` compares. Raises K2Error naming field and setting."""
    from k2model.validation.documents.tables import Compared

    try:
        return read_as(Compared, content)
    except NotPlain as error:
        raise K2Error(
            f"validation.previous_statistics: {address} is no statistics.json of a corpus_valid artifact ({error}); "
            'name one, or "" to compare with none'
        ) from error


def _accounts(store: "Store", raw: "ArtifactRef") -> dict[str, dict[str, dict[str, int]]]:
    """`accounts.json` of a raw corpus; there is none where the project builds every source itself."""
    from k2model.ingest.raw import ACCOUNTS_FILE

    _, manifest = store.look_up(raw)
    there = any(entry.path == ACCOUNTS_FILE for entry in manifest.files)
    return read_json(dict[str, dict[str, dict[str, int]]], store, raw, ACCOUNTS_FILE) if there else {}


def _groups(store: "Store", corpus: "ArtifactRef", config: ValidationConfig, raw: bool = False) -> "list[Part]":
    from k2model.validation.documents.group import corpus_groups

    _, manifest = store.look_up(corpus)
    return corpus_groups(((entry.path, entry.size) for entry in manifest.files), corpus.uri, config.part_bytes, raw)


def _look_at(uri: str, corpus: "ArtifactRef", bounds: Bounds, kind: str, group: "Part", folder: Path) -> dict[str, Any]:
    """Look at the files of a group beside the evaluation items, which none of them may hold."""
    from k2model.artifacts import Store
    from k2model.validation.documents.group import look_at
    from k2model.validation.gate import files_of

    wanted = set(files_of(group))
    source = Store.open(uri).fetch(corpus, lambda path: path in wanted or path.startswith(ITEMS))
    return look_at(source, group, folder, bounds, kind)
