"""Hugging Face-style dataset folders: which files make up the wanted subset and split.

Three layouts are read, as `datasets` writes and reads them: `save_to_disk` (`dataset_info.json`, `state.json`),
a card (`README.md`) whose front matter declares `configs`, and bare folders whose file names tell their split
(`data/train-00000-of-00003.parquet`). Nothing is downloaded; loading scripts are not run.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, TypedDict, TypeVar

from k2model.errors import CorpusError, nearest
from k2model.ingest.names import METADATA
from k2model.ingest.storage import Entry, SourceFiles
from k2model.plain import SMALL, NotPlain, from_plain, read_as
from k2model.recipe.schema import SourceConfig

T = TypeVar("T")
CARD = "README.md"
CARD_BYTES = 2_000_000
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_DATA = re.compile(r"\.(parquet|arrow|jsonl?|ndjson)(\.gz|\.zst|\.bz2|\.xz)?$", re.IGNORECASE)


class _Saved(TypedDict):
    splits: list[str]


class _File(TypedDict):
    filename: str


class _State(TypedDict):
    _data_files: list[_File]


class _Config(TypedDict):
    config_name: NotRequired[str]
    default: NotRequired[bool]
    data_dir: NotRequired[str]
    data_files: NotRequired[Any]


def is_dataset(files: SourceFiles, entries: Sequence[Entry]) -> bool:
    """Whether a folder is a dataset by its own word: saved by `datasets`, or with a card that declares its data."""
    names = {entry.path for entry in entries}
    if files.pattern:
        return False
    if "dataset_dict.json" in names or {"dataset_info.json", "state.json"} <= names:
        return True
    return CARD in names and bool({"configs", "dataset_info"} & _card(files).keys())


def data_files(source: SourceConfig, files: SourceFiles, entries: Sequence[Entry]) -> list[Entry]:
    """The data files of the source's subset and split. Raises `CorpusError` naming those there are."""
    names = {entry.path for entry in entries}
    if "dataset_dict.json" in names or "state.json" in names:
        patterns = _saved(source, files, names)
    else:
        card = _card(files) if CARD in names else {}
        patterns = _declared(source, files, card) if card.get("configs") else []
    if not patterns or patterns[0].endswith("/"):
        folder = patterns[0] if patterns else ""
        return _by_name(source, [entry for entry in entries if entry.path.startswith(folder)], bool(folder))
    from fsspec.utils import glob_translate

    matches = [re.compile(glob_translate(pattern)).match for pattern in patterns]
    found = [entry for entry in entries if any(match(entry.path) for match in matches)]
    if not found:
        raise CorpusError(
            f"corpus.sources.{source.name}: split '{source.split}' of the dataset declares {', '.join(patterns)}, but "
            "no such file is there. Fetch the whole dataset, or choose another split"
        )
    return found


def stated_rows(source: SourceConfig, files: SourceFiles, entries: Sequence[Entry]) -> Iterator[tuple[str, int]]:
    """(Path of the card or of `dataset_info.json`, rows that it states of the subset and split), if it does."""
    names = {entry.path for entry in entries}
    folder = f"{source.split}/" if "dataset_dict.json" in names else ""
    path = f"{folder}dataset_info.json" if f"{folder}dataset_info.json" in names else CARD
    if path not in names:
        return
    said: Any = _card(files).get("dataset_info") if path == CARD else _metadata(dict[str, Any], files, path)
    several = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, dict)]
    subset = source.subset or "default"
    own = [one for one in several if one.get("config_name", "default") == subset]
    info = own[0] if own else several[0] if len(several) == 1 and not source.subset else {}
    splits = info.get("splits") or []
    # A list of splits in a card, an object of them by name in dataset_info.json.
    for split in splits.values() if isinstance(splits, dict) else splits:
        if isinstance(split, dict) and split.get("name") == source.split:
            rows = split.get("num_examples")
            if isinstance(rows, int) and rows > 0:
                yield path, rows


def _saved(source: SourceConfig, files: SourceFiles, names: set[str]) -> list[str]:
    folder = ""
    if "dataset_dict.json" in names:
        splits = _metadata(_Saved, files, "dataset_dict.json")["splits"]
        folder = f"{_known(source, 'split', source.split, splits)}/"
    state = _metadata(_State, files, f"{folder}state.json")
    if state.get("_indices_files"):
        raise CorpusError(
            f"corpus.sources.{source.name}: the saved dataset has an indices mapping; call flatten_indices() before "
            "save_to_disk()"
        )
    listed = [folder + file["filename"] for file in state["_data_files"]]
    if missing := [path for path in listed if path not in names]:
        raise CorpusError(
            f"corpus.sources.{source.name}: {folder}state.json lists {len(listed)} data files, of which "
            f"{len(missing)} are not there ({', '.join(missing[:3])}). Fetch the whole dataset"
        )
    return listed


def _metadata(kind: type[T], files: SourceFiles, path: str) -> T:
    try:
        return read_as(kind, files.read(path, SMALL + 1))
    except NotPlain as error:
        raise CorpusError(f"{files.full(path)} is not of save_to_disk() ({error}). Save the dataset again") from error


def _declared(source: SourceConfig, files: SourceFiles, card: dict[str, Any]) -> list[str]:
    """Patterns of the split's files, or one folder with a slash at its end where names tell the splits."""
    try:
        stated = from_plain(list[_Config], card["configs"], where="configs")
    except NotPlain as error:
        raise CorpusError(f"{files.full(CARD)}: the front matter is no dataset's ({error}). Mend it") from error
    configs = {config.get("config_name", "default"): config for config in stated}
    default = next((name for name, config in configs.items() if config.get("default")), None)
    subset = source.subset or default or ("default" if "default" in configs else next(iter(configs)))
    config = configs[_known(source, "subset", subset, list(configs))]
    folder = f"{config['data_dir'].strip('/')}/" if config.get("data_dir") else ""
    if "data_files" not in config:
        return [folder] if folder else []
    paths = config["data_files"]
    several = paths if isinstance(paths, list) else [paths]
    splits: dict[str, list[str]] = {}
    for entry in several:
        split, chosen = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        own: list[Any] = chosen if isinstance(chosen, list) else [chosen]
        if not isinstance(split, str) or not all(isinstance(one, str) for one in own):
            raise CorpusError(
                f"{files.full(CARD)}: data_files of the subset '{subset}' are no patterns of files; expected patterns, "
                "or a split and its path (patterns) each. Mend the card"
            )
        splits.setdefault(split, []).extend(own)
    return [folder + path for path in splits[_known(source, "split", source.split, list(splits))]]


def _by_name(source: SourceConfig, entries: Sequence[Entry], declared: bool) -> list[Entry]:
    """Data files whose name or folder holds a word for the split; all are `train` when none holds any."""
    data = [entry for entry in entries if _DATA.search(entry.path) and entry.path.split("/")[-1] not in METADATA]
    if source.subset and not declared:
        subsets = sorted({entry.path.split("/")[0] for entry in data if "/" in entry.path})
        folder = _known(source, "subset", source.subset, subsets)
        data = [entry for entry in data if entry.path.startswith(f"{folder}/")]
    splits: dict[str, list[Entry]] = {}
    for entry in data:
        splits.setdefault(_split_of(entry.path) or "", []).append(entry)
    if set(splits) == {""}:
        splits = {"train": splits[""]}
    splits.pop("", None)
    return splits[_known(source, "split", source.split, list(splits))]


def _split_of(path: str) -> str | None:
    words = set(re.split(r"[^a-z]+", path.lower()))
    return next((split for split, known in _SPLIT_NAMES.items() if words & set(known)), None)


def _card(files: SourceFiles) -> dict[str, Any]:
    """The front matter of the dataset's card; empty when it has none."""
    import yaml

    text = files.read(CARD, CARD_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return {}
    try:
        matter = yaml.safe_load(text[4:].partition("\n---")[0])
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise CorpusError(f"{files.full(CARD)}: the front matter is not YAML ({error}). Mend it") from error
    return matter if isinstance(matter, dict) else {}


def _known(source: SourceConfig, field: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    raise CorpusError(
        f"corpus.sources.{source.name}.{field}='{name}': the dataset has no such {field}; {nearest(name, names)}"
    )
