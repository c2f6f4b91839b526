"""A lineage as a person thinks of it: a corpus, a phase, a release each as one thing, and below the corpus its sources.

A group stands for all the artifacts that make it: of a phase its rows, checkpoint, export and scores. Sources are no
artifacts: the record of a raw corpus says which there were and which files were read, by their digests. Sources that
the project builds itself are told together by domain; those that are read from files stay by themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict, TypeVar

from k2model.artifacts import Store, json_as
from k2model.artifacts.record import ref_of
from k2model.errors import ArtifactError
from k2model.reporting.lineage.graph import PARENT, Key, Lineage, Record, reduced
from k2model.reporting.svg import short_number
from k2model.units import readable_size

T = TypeVar("T")
Reading = Callable[[Record, str], bytes | None]  # a file of an artifact; None where that is gone or has none

_CURATION = (
    "corpus_raw", "raw_checks", "corpus_clean", "signature_ranges", "signature_matches", "sketch_ranges",
    "near_duplicate_pairs", "known_copies", "duplicates", "corpus", "corpus_valid",
)  # fmt: skip
_TRAINED = ("checkpoint", "adopted_checkpoint")
_SYNTHESIS = ("synthesis", "synthesis_calls")
_OF_ONE_MODEL = ("export", "adopted_export", "items_seen", "scores", "safety_answers", "safety", "sequences_checks")
MOST = 6  # groups of one corpus' sources; of more, those alone in theirs are told together


class Kind(Enum):
    """What a group is; its colour."""

    SOURCE = "source"
    DATA = "data"
    PHASE = "phase"
    ADOPTED = "adopted"
    RELEASE = "release"
    OTHER = "other"


@dataclass
class Group:
    """`main`: the artifact that it is called by, None of sources. `lines`: what is said of it, the most telling first.
    `parents`: groups whose weights it goes on from. `mixture`: domain -> share of what a phase was trained on."""

    name: str
    kind: Kind
    main: Key | None = None
    members: list[Key] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    parents: set[str] = field(default_factory=set)
    mixture: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Groups:
    """`all` by id; `edges`: of each group those that it was made from, without the ones that others imply."""

    all: Mapping[str, Group]
    edges: Mapping[str, Sequence[str]]
    of: Mapping[Key, str]  # the id of each artifact's group


def reading(store: Store) -> Reading:
    """Of a store: gives a file of the artifact with a record; None where it is gone, damaged or has none, which is told
    of the artifact already."""

    def read(record: Record, path: str) -> bytes | None:
        try:
            return store.read(ref_of(dict(record), store.uri), path)
        except ArtifactError:
            return None

    return read


def grouped(lineage: Lineage, read: Reading) -> Groups:
    """The groups of a lineage; `read` gives files of artifacts that are there, for what their records do not say."""
    of = {key: _group_of(lineage, key) for key in lineage.records}
    edges: dict[str, dict[str, None]] = {name: {} for name in of.values()}
    members: dict[str, list[Key]] = {}
    parents: dict[str, set[str]] = {}
    for key, name in [*of.items()]:
        members.setdefault(name, []).append(key)
        for role, source in lineage.inputs(key).items():
            if source not in lineage.records:
                of.setdefault(source, _unknown(source))
                edges.setdefault(of[source], {})
            if (before := of[source]) != name:
                edges[name][before] = None
                if role == PARENT and key[0] in _TRAINED:
                    parents.setdefault(name, set()).add(before)
    groups = {name: _described(lineage, keys, read) for name, keys in members.items()}
    groups |= {
        name: Group(lineage.place(key), Kind.OTHER, key, [key], wrong=lineage.problems(key))
        for key, name in of.items()
        if key not in lineage.records
    }
    for name, keys in members.items():
        groups[name].parents = parents.get(name, set())
        for raw in (lineage.records[key] for key in keys if key[0] == "corpus_raw"):
            for title, made in _sources(raw, read).items():
                place = f"{name}/{title}"
                groups[place], edges[place] = made, {}
                edges[name][place] = None
    shown = reduced({name: [*before] for name, before in edges.items()})
    for name, descended in parents.items():  # that weights go on is never left out
        shown[name] += [one for one in descended if one not in shown[name]]
    return Groups(groups, shown, of)


def _group_of(lineage: Lineage, key: Key) -> str:
    """The id of an artifact's group."""
    kind, digest = key
    if kind in _TRAINED:
        return f"model {digest}"
    if kind in _OF_ONE_MODEL:
        near = [one for role, one in lineage.inputs(key).items() if not role.startswith(PARENT)]
        wanted = next(
            (one for one in near if one[0] in (*_TRAINED, "export", "adopted_export", "safety_answers")), None
        )
        wanted = wanted or next((one for one in near if one[0] == "sequences"), None)
        return _group_of(lineage, wanted) if wanted in lineage.records and wanted else f"{kind} {digest}"
    if kind == "sequences":
        trained = [one for one in lineage.outputs.get(key, ()) if one[0] == "checkpoint"]
        return _group_of(lineage, trained[0]) if len(trained) == 1 else f"{kind} {digest}"
    if kind in _CURATION:
        inputs = [one for one in lineage.inputs(key).values() if one[0] in _CURATION and one in lineage.records]
        if kind == "corpus_raw" or not inputs or (kind == "corpus_valid" and _joined(inputs)):
            return f"{kind} {digest}"
        return _group_of(lineage, inputs[0])
    if kind in ("evaluation_items", "overlap", "tokens_checks"):
        near = [one for one in lineage.inputs(key).values() if one[0] in ("corpus_valid", "tokens")]
        return _group_of(lineage, near[0]) if near and near[0] in lineage.records else f"{kind} {digest}"
    if kind == "synthesis_calls":
        written = [one for one in lineage.outputs.get(key, ()) if one[0] == "synthesis"]
        return f"synthesis {written[0][1]}" if len(written) == 1 else f"{kind} {digest}"
    if kind == "report":
        released = [one for one in lineage.outputs.get(key, ()) if one[0] == "release"]
        return f"release {released[0][1]}" if released else f"{kind} {digest}"
    return f"{kind} {digest}"


def _joined(inputs: Sequence[Key]) -> bool:
    return any(one[0] == "corpus_valid" for one in inputs)


def _unknown(key: Key) -> str:
    return f"unknown {key[0]} {key[1]}"


def _described(lineage: Lineage, keys: list[Key], read: Reading) -> Group:
    """What a group is called and what is said of it, from the records of its artifacts."""
    records = {key[0]: lineage.records[key] for key in keys}
    order = (*_TRAINED, "release", "synthesis", "corpus_valid", "corpus", "corpus_raw", "tokens")
    main = next((key for kind in order for key in keys if key[0] == kind), keys[0])
    record = lineage.records[main]
    group = Group(_title(lineage, main), _kind(main[0]), main, keys)
    group.lines, group.details = _said(main[0], record, records)
    if main[0] == "checkpoint":
        group.mixture = _mixture(lineage.records.get(lineage.inputs(main).get("sequences", ("", ""))), read)
        shares = sorted(group.mixture.items(), key=lambda one: -one[1])
        group.details = [", ".join(f"{domain.replace('_', ' ')} {share:.0%}" for domain, share in shares)]
    group.wrong = [f"{lineage.name(key)}: {one}" for key in keys for one in lineage.problems(key)]
    return group


def _said(kind: str, record: Record, records: Mapping[str, Record]) -> tuple[list[str], list[str]]:
    """Lines and details of a group whose main artifact has this record. Earlier versions recorded less: what a record
    does not have is not said."""
    stats = record["stats"]
    if kind == "checkpoint":
        what = [
            _at(record, "phase.kind"),
            _count(_at(record, "phase.steps"), "steps"),
            _count(stats.get("tokens"), "tokens"),
        ]
        how = [f"lr {lr:g}" if (lr := _at(record, "phase.optimizer.lr")) is not None else None]
        how.append(_count(_at(record, "phase.sequence_length"), "long"))
        return [_joined_by_commas(what), _joined_by_commas(how)], []
    if kind == "adopted_checkpoint":
        files = _at(record, "files") or {}
        lines = [
            _at(record, "adopted.source") or "adopted model",
            f"{_at(record, 'adopted.licence')}, {len(files)} files",
        ]
        return lines, [f"{path}  {digest[:19]}" for path, digest in files.items()]
    if kind == "synthesis":
        teacher = _at(record, "job.endpoint.model") or _at(record, "job.teacher")
        lines = [_joined_by_commas([_count(stats.get("kept"), "documents written")])]
        lines.append(f"teacher {teacher}, {', '.join(_at(record, 'families') or ())}")
        return lines, [f"{package} {version}" for package, version in (_at(record, "packages") or {}).items()]
    if kind == "release":
        made = str(record["provenance"]["ended"])[:16].replace("T", " ")
        return [f"{record['files']:,} files, {readable_size(record['bytes'])}", f"made {made}"], []
    of = f"of {_count(records['corpus_raw']['stats'].get('documents'), 'read')}" if "corpus_raw" in records else None
    counts = {"documents": "documents", "tokens": "tokens", "vocab_size": "entries"}
    told = [_count(stats[name], what) for name, what in counts.items() if name in stats]
    return [one for one in (*told, of) if one], []


def _at(record: Record, path: str) -> Any:
    """A field of its config, None where it has none."""
    value: Any = record["config"]
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(number: float | None, what: str) -> str | None:
    return None if number is None else f"{number:,.0f} {what}" if number < 10_000 else f"{short_number(number)} {what}"


def _joined_by_commas(parts: Sequence[str | None]) -> str:
    return ", ".join(part for part in parts if part)


def _title(lineage: Lineage, key: Key) -> str:
    record = lineage.records[key]
    if key[0] in _TRAINED:
        return lineage.name(key).rpartition("/")[0] or key[0]
    if key[0] in _SYNTHESIS:
        return lineage.name(key).rpartition("/")[0] or key[0]
    if key[0] == "sequences":
        return f"rows of {lineage.owner(key)}"
    if key[0] == "release":
        return f"release of {_at(record, 'recipe.name') or 'a lifecycle'}"
    if key[0] in _CURATION:
        sources = [one["name"] for one in _at(record, "corpus.sources") or ()]
        joined = (
            _joined([*lineage.inputs(key).values()]) and key[0] == "corpus_valid" and "corpus_1" in record["inputs"]
        )
        return "corpora joined" if joined else sources[0] if len(sources) == 1 else "corpus"
    joined = key[0] == "tokens" and "tokens_1" in record["inputs"]
    return "tokens joined" if joined else lineage.name(key)


def _kind(kind: str) -> Kind:
    known = {"checkpoint": Kind.PHASE, "adopted_checkpoint": Kind.ADOPTED, "release": Kind.RELEASE}
    data = (*_CURATION, "tokens", "tokenizer", "sequences")
    return known.get(kind, Kind.SOURCE if kind in _SYNTHESIS else Kind.DATA if kind in data else Kind.OTHER)


class _Portion(TypedDict):
    domain: str
    share: float


class _Composition(TypedDict):
    sources: dict[str, _Portion]


class _Ingested(TypedDict):
    rows: int
    documents: int
    heldout: int
    quarantined: dict[str, int]
    damaged_files: int


def _mixture(sequences: Record | None, read: Reading) -> dict[str, float]:
    composition = _json(_Composition, sequences, "composition.json", read)
    found: dict[str, float] = {}
    for one in composition["sources"].values() if composition else ():
        found[one["domain"]] = found.get(one["domain"], 0.0) + one["share"]
    return found


def _sources(raw: Record, read: Reading) -> dict[str, Group]:
    """Of a raw corpus by id: each source that was read from files, and those that the project builds by domain."""
    files, accounts = _at(raw, "inputs") or {}, _json(dict[str, _Ingested], raw, "ingest.json", read)
    found: dict[str, Group] = {}
    built: dict[str, list[str]] = {}
    by_domain: dict[str, list[Group]] = {}
    for source in _at(raw, "corpus.sources") or ():
        name = source["name"]
        if name in files:
            made = _from_files(name, source, files[name], accounts and accounts.get(name))
            by_domain.setdefault(source["domain"], []).append(made)
        elif name not in raw["inputs"]:
            built.setdefault(name.partition("/")[0], []).append(name)
    together = sum(map(len, by_domain.values())) > MOST
    for domain, several in by_domain.items():
        told = [_together(domain, several)] if together and len(several) > 1 else several
        found |= {f"files {one.name}": one for one in told}
    made_with = ", ".join(f"{package} {version[:12]}" for package, version in (_at(raw, "sources") or {}).items())
    for family, names in _merged(built).items():
        title = names[0] if len(names) == 1 else f"{family}, {len(names)} sources"
        lines = ["built by the project", ", ".join(names)]
        found[f"built {family}"] = Group(title, Kind.SOURCE, lines=lines, details=[made_with])
    return found


def _merged(built: dict[str, list[str]]) -> dict[str, list[str]]:
    if len(built) <= MOST:
        return built
    alone = [name for names in built.values() if len(names) == 1 for name in names]
    return {family: names for family, names in built.items() if len(names) > 1} | ({"built": alone} if alone else {})


def _from_files(name: str, source: Mapping[str, Any], files: Sequence[Any], account: Any) -> Group:
    rows = "rows not known: the raw corpus is gone"
    if account:
        lost = sum(account["quarantined"].values())
        rows = f"{account['rows']:,} rows: {account['documents'] + account['heldout']:,} documents"
        rows += f", {lost:,} quarantined" if lost else ""
        rows += f", {account['damaged_files']:,} damaged files" if account["damaged_files"] else ""
    size = readable_size(sum(one["size"] for one in files))
    what = files[0]["path"] if len(files) == 1 else f"{len(files):,} files"
    details = [f"{one['path']}  {readable_size(one['size'])}  {one['digest'][:19]}" for one in files]
    details.append(f"licence {source['licence'] or 'of each row'}")
    return Group(name, Kind.SOURCE, lines=[f"{what}, {size}", rows], details=details)


def _together(domain: str, sources: Sequence[Group]) -> Group:
    """Sources of one domain as one, where there are too many to be told one by one."""
    details = [f"{one.name}: {line}" for one in sources for line in (*one.lines, *one.details)]
    lines = [f"{len(sources)} sources read from files", ", ".join(one.name for one in sources)]
    return Group(domain.replace("_", " "), Kind.SOURCE, lines=lines, details=details)


def _json(kind: type[T], record: Record | None, path: str, read: Reading) -> T | None:
    """Raises CorruptArtifact for a file of another form."""
    content = read(record, path) if record else None
    return json_as(kind, content, f"{record['step']}/{record['identity']}", path) if record and content else None
