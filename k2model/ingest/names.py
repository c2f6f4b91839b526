"""What the name of a file says of it: the format it is read in, how it is compressed, the language of source code, and
whether it is a licence, an archive, or was never finished."""

import re

from k2model.recipe.schema import SourceFormat

#: What `datasets` keeps about a dataset beside its data.
METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
SUFFIXES: dict[SourceFormat, tuple[str, ...]] = {
    SourceFormat.JSONL: (".jsonl", ".ndjson", ".json"),
    SourceFormat.PARQUET: (".parquet", ".pq"),
    SourceFormat.ARROW: (".arrow", ".feather", ".ipc"),
    SourceFormat.TEXT: (".txt", ".text", ".md", ".rst", ".tex", ".org"),
}
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}  # of JSONL
#: Rows in a format that is not read; they are told where other rows are read, never passed over.
FOREIGN_ROWS = (".csv", ".tsv", ".avro", ".orc", ".mds", ".tfrecord", ".warc")
#: What holds data that must be got out first: in a folder of rows it is read like the others, to be named and counted.
_PACKED = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".lz4", ".br", ".lzma", ".zstd", ".snappy")
_UNFINISHED = re.compile(
    r"\.(?:incomplete|part|partial|crdownload|download|tmp|temp|aria2|filepart)$|(?:^|/)_temporary/|_COPYING_$",
    re.IGNORECASE,
)
#: Language of a source file by its suffix, in the spelling of GitHub's linguist.
LANGUAGES: dict[str, str] = {
    ".py": "Python", ".pyi": "Python", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".cxx": "C++", ".hpp": "C++",
    ".hh": "C++", ".cu": "Cuda", ".java": "Java", ".kt": "Kotlin", ".scala": "Scala", ".js": "JavaScript",
    ".mjs": "JavaScript", ".jsx": "JavaScript", ".ts": "TypeScript", ".tsx": "TypeScript", ".go": "Go", ".rs": "Rust",
    ".rb": "Ruby", ".php": "PHP", ".cs": "C#", ".swift": "Swift", ".m": "Objective-C", ".sh": "Shell",
    ".bash": "Shell", ".pl": "Perl", ".lua": "Lua", ".r": "R", ".jl": "Julia", ".hs": "Haskell", ".ml": "OCaml",
    ".ex": "Elixir", ".erl": "Erlang", ".clj": "Clojure", ".sql": "SQL", ".lean": "Lean", ".v": "Coq",
    ".f90": "Fortran", ".html": "HTML", ".css": "CSS", ".tf": "HCL", ".dart": "Dart", ".zig": "Zig",
}  # fmt: skip
_LICENCE_NAMES = ("license", "licence", "copying", "unlicense")


def format_of(path: str) -> SourceFormat | None:
    suffix = "" if path.split("/")[-1] in METADATA else suffix_of(path)
    return next((kind for kind, known in SUFFIXES.items() if suffix in known), None)


def suffix_of(path: str) -> str:
    """The lower-case suffix without that of a compression; `.jsonl` of `a/b.jsonl.zst`."""
    name = path.rsplit("/", 1)[-1].lower()
    for compressed in COMPRESSED:
        name = name.removesuffix(compressed)
    return name[name.rindex(".") :] if "." in name else ""


def unfinished(path: str) -> bool:
    """Whether a file's name says that whoever wrote it was not done."""
    return bool(_UNFINISHED.search(path))


def packed(path: str) -> bool:
    """Whether a file's name says that it is an archive, or compressed in a way that is not read."""
    return suffix_of(path) in _PACKED


def compression(path: str) -> str:
    """`gzip`, `zstd`, or "" by the name of a file."""
    return next((kind for suffix, kind in COMPRESSED.items() if path.lower().endswith(suffix)), "")


def language(path: str) -> str:
    """The programming language of a source file, by its suffix; "" when unknown."""
    return LANGUAGES.get(suffix_of(path), "")


def is_licence(path: str) -> bool:
    """Whether a file is the licence of the folder it lies in."""
    return path.rsplit("/", 1)[-1].lower().split(".")[0] in _LICENCE_NAMES and not language(path)
