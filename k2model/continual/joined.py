"""Corpora of a line as one: the artifacts that the steps of a phase read, with files that are linked and not copied.

    corpus_valid    documents, quarantined ones and items; `statistics.json` and `validation.json` are merged
    tokens          the token shards; `counts.json` is merged

Sources of different corpora never have the same name (those of a batch are `batch/<name>`), so a source is whole in one
of them and its files are what they were: rows packed from it and scores on what it holds out are found again. Of the
merged files everything is summed that can be; the quantiles of lengths cannot, and are left out (the histogram of
lengths stays). A joined artifact may be joined again; that gives the same as joining all at once.

Evaluation items of a family are those of the first corpus that has the family, or the scores of two models could not be
compared. What is kept in `attachments/` is the first corpus' own as it is, its Data Docs and what it found on mixtures
among them; that of another lies below `attachments/of/<artifact>/`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, JobStep, Step, Store, read_json
from k2model.artifacts.entry import ATTACHMENTS
from k2model.artifacts.links import Links
from k2model.artifacts.parts import KEPT_RECORDS
from k2model.artifacts.store import Produce
from k2model.errors import CorpusError, TokensError
from k2model.plain import from_plain
from k2model.tokens.shards import COUNTS_FILE, SPLITS
from k2model.versions import STEP_VERSIONS

CORPUS, TOKENS = "corpus_valid", "tokens"
ITEMS = "items"
OF = f"{ATTACHMENTS}/of"  # what is kept of other corpora than the first
STATISTICS, VALIDATION = "statistics.json", "validation.json"
STATS = ("sources", "parts", "documents", "quarantined")
EXAMPLES = 100  # repeated ids and texts that are kept by name
Json = dict[str, Any]
Linked = dict[str, tuple[ArtifactRef, str]]


def joined_corpus_step(store: Store, corpora: Sequence[ArtifactRef]) -> Step | JobStep:
    """The validated corpora as one; kind `corpus_valid`. A single one is that one itself.

    To make it raises CorpusError when two corpora have a source of the same name, or one holds files that this version
    does not know.
    """

    def produce(folder: Path) -> dict[str, float]:
        for name, merged in ((STATISTICS, _statistics), (VALIDATION, _validation)):
            _write(folder / name, merged([read_json(Json, store, ref, name) for ref in corpora]))
        paths = [list(_paths(store, ref)) for ref in corpora]
        families = [path for own in paths for path in own if path.startswith(f"{ITEMS}/")]
        stats = {name: sum(ref.stats.get(name, 0.0) for ref in corpora) for name in STATS}
        return stats | {"corpora": len(corpora), "families_left_out": len(families) - len(set(families))}

    def links() -> Linked:
        return _links(store, corpora, (STATISTICS, VALIDATION))

    return _step(store, _identity(CORPUS, "joined_corpus", "corpus", corpora), produce, links)


def joined_tokens_step(store: Store, tokens: Sequence[ArtifactRef]) -> Step | JobStep:
    """The tokens of several corpora as one; kind `tokens`. Those of a single one are these themselves.

    To make it raises TokensError when they were encoded by different tokenizers, CorpusError as `joined_corpus_step`
    does.
    """

    def produce(folder: Path) -> dict[str, float]:
        tokenizers = {_tokenizer(store, ref): ref.uri for ref in tokens}
        if len(tokenizers) > 1:
            raise TokensError(
                f"{' and '.join(tokenizers.values())} were encoded by different tokenizers, so one id means different "
                "texts; encode all corpora of a line with the tokenizer of its champion"
            )
        _write(folder / COUNTS_FILE, _counts([read_json(Json, store, ref, COUNTS_FILE) for ref in tokens]), True)
        return {name: sum(ref.stats[name] for ref in tokens) for name in tokens[0].stats}

    def links() -> Linked:
        return _links(store, tokens, (COUNTS_FILE,))

    return _step(store, _identity(TOKENS, "joined_tokens", "tokens", tokens), produce, links)


def _identity(kind: str, version: str, role: str, refs: Sequence[ArtifactRef]) -> Identity:
    """The first input has the role's own name, by which the lineage of one that was not joined is followed too."""
    if not refs:
        raise ValueError(f"no {role} to join, expected one at least")
    named = {f"{role}_{number}" if number else role: ref for number, ref in enumerate(refs)}
    return Identity(kind, f"joined-{STEP_VERSIONS[version]}", {}, named)


def _step(store: Store, identity: Identity, produce: Produce, links: Links) -> Step | JobStep:
    """One corpus is not made again: it would have its own digest among its inputs, and no lineage of it an end."""
    if len(identity.inputs) > 1:
        return Step(identity, produce, links)

    def run() -> ArtifactRef:
        (only,) = identity.inputs.values()
        store.look_up(only)
        return only

    return JobStep(identity, run)


def _paths(store: Store, ref: ArtifactRef) -> Iterator[str]:
    """The files of an artifact, without records of how its parts were made."""
    paths = (entry.path for entry in store.look_up(ref)[1].files)
    return (path for path in sorted(paths) if not path.startswith(f"{KEPT_RECORDS}/"))


def _links(store: Store, refs: Sequence[ArtifactRef], merged: Sequence[str]) -> Linked:
    """All files of all corpora but those that are `merged`."""
    found: Linked = {}
    owners: dict[str, ArtifactRef] = {}
    for number, ref in enumerate(refs):
        paths = list(_paths(store, ref))
        stems = {path.split("/")[1] for path in paths if path.count("/") == 2 and not path.startswith(ATTACHMENTS)}
        for stem in sorted(stems):
            if stem in owners:
                raise CorpusError(
                    f"the source {stem} is in {owners[stem].uri} and in {ref.uri}: joined, its documents could not be "
                    "told apart. Give a source of new data a name of its own (batches are batch/<name>)"
                )
            owners[stem] = ref
        for path in paths:
            place = _place(path, ref, merged, f"{OF}/{ref.name}" if number else ATTACHMENTS)
            if place not in merged:
                found.setdefault(place, (ref, path))  # items of the first that has the family
    return found


def _place(path: str, ref: ArtifactRef, merged: Sequence[str], attachments: str) -> str:
    """Where a corpus' file lies in what is joined."""
    top, _, below = path.partition("/")
    if top == ATTACHMENTS:
        return path if path.startswith(f"{OF}/") else f"{attachments}/{below}"
    if top not in (*SPLITS, "quarantine", ITEMS, *merged):
        raise CorpusError(f"{ref.uri} holds {path}, which this version cannot join; expected {', '.join(merged)}, "
                          "documents and items")  # fmt: skip
    return path


def _tokenizer(store: Store, ref: ArtifactRef) -> str:
    """The digest of the tokenizer that tokens were encoded by, joined ones too."""
    inputs = store.record(ref)["inputs"]
    while "tokenizer" not in inputs:
        source = inputs[TOKENS]
        key = source["uri"].rpartition("/")[2]
        inputs = store.record(ArtifactRef(TOKENS, f"{store.uri}/{TOKENS}/{key}", source["digest"], key))["inputs"]
    return str(inputs["tokenizer"]["digest"])


def _counts(all_counts: Sequence[Json]) -> Json:
    """Sources of all; the ids of a tokenizer that is the same."""
    joined = dict(all_counts[0])
    for split in SPLITS:
        joined[split] = {name: entry for counts in all_counts for name, entry in counts[split].items()}
    return joined


def _statistics(all_statistics: Sequence[Json]) -> Json:
    joined = _sum(all_statistics)
    for split in SPLITS:
        lengths = joined[split]["lengths"]
        lengths["histogram"] = dict(sorted(lengths["histogram"].items(), key=lambda one: int(one[0])))
        lengths["quantiles"] = {}
    return joined


def _sum(contents: Sequence[Any]) -> Any:
    """Numbers are summed, tables merged by name in the order of names, lists of examples cut to what is kept."""
    first = contents[0]
    if isinstance(first, Mapping):
        names = sorted({name for content in contents for name in content})
        return {name: _sum([content[name] for content in contents if name in content]) for name in names}
    if isinstance(first, list):
        return sorted((one for content in contents for one in content), key=json.dumps)[:EXAMPLES]
    return sum(contents)


def _validation(reports: Sequence[Json]) -> Json:
    """Of an expectation that several corpora were held to as a whole, rows and parts are summed."""
    from k2model.validation.outcome import Outcome, merge_parts

    told = (one for report in reports for one in report["expectations"])
    outcomes = (from_plain(Outcome, {name: one[name] for name in one if name != "success"}) for one in told)
    tables = ("documents", "quarantine")
    joined = {name: {stem: one for report in reports for stem, one in report[name].items()} for name in tables}
    return joined | {"expectations": [outcome.record() for outcome in merge_parts(outcomes)]}


def _write(path: Path, content: Json, sort_keys: bool = False) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=sort_keys, sort_keys=sort_keys) + "\n", encoding="utf-8")
