"""Our curation beside datatrove's on the same documents: MB/s of a core for each stage, and how far rules agree.

`peer` is the Python of an environment that has `datatrove[processing]` and `spacy`; how it is made stands in
docs/data_platform.md. Speed is measured on generated prose, agreement on pages that are made doubtful
(`benchmarks.peers.pages`), where each rule is asked alone. Ours judges the same texts: bodies, before any cleaning.
"""

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.peers import datatrove_leg
from benchmarks.peers.pages import write_pages
from benchmarks.peers.raw_text import Language, write_file
from k2model.curation import signatures
from k2model.curation.filters import matches, rejecting_rules
from k2model.curation.normalise import clean_lines
from k2model.curation.texts import Texts
from k2model.documents.standard_library import prose_documents
from k2model.recipe.curation import C4_LINES, WEB, LineCleaning
from k2model.recipe.schema import CorpusConfig
from k2model.versions import STEP_VERSIONS

TESTED = {"datatrove": "0.10.1", "spacy": "3.8"}
BATCH_BYTES = 1 << 20
GROUPS = {
    "gopher quality": (*datatrove_leg.QUALITY, *datatrove_leg.SYMBOLS),
    "gopher repetition": tuple(datatrove_leg.REPETITION),
    "fineweb": tuple(datatrove_leg.FINEWEB),
}
SHOWN = 3  # disagreements of a rule that are printed


def measure(peer: str, megabytes: float, pages: int) -> None:
    """Prints a JSON line for each stage and each rule."""
    language = Language.of([document["text"] for document in prose_documents()[0]])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _speed(peer, folder, _prose(language, folder, megabytes))
        _agreement(peer, folder, write_pages(language, pages))


def _speed(peer: str, folder: Path, texts: list[str]) -> None:
    theirs = _peer(peer, folder, texts, "speed")
    ours, copies = _ours(texts)
    size = sum(len(text.encode()) for text in texts) / 1e6
    versions = _versions(theirs)
    stages = {**theirs["seconds"], "all stages": sum(theirs["seconds"].values())}
    ours["all stages"] = sum(ours.values())
    for stage, seconds in stages.items():
        rates = size / ours[stage], size / seconds
        _line(f"curation, {stage}", *rates, rates[0] / rates[1], "MB/s of a core", versions)
    mine, other = set(copies), set(theirs["copies"])
    print(f"near copies among {len(texts)} documents: both {len(mine & other)}, ours alone {len(mine - other)}, "
          f"datatrove alone {len(other - mine)}")  # fmt: skip
    for name, few in (("ours", mine - other), ("datatrove", other - mine)):
        told = sorted(_nearest(texts, number) for number in sorted(few)[:50])
        print(f"  found by {name} alone: Jaccard index with the nearest earlier document {[round(x, 2) for x in told]}")


def _ours(texts: list[str]) -> tuple[dict[str, float], list[int]]:
    """Seconds of processor time by stage; and the near copies."""
    seconds = dict.fromkeys((*GROUPS, "c4 lines", "minhash"), 0.0)
    config, minima = CorpusConfig(sources=()), []
    rules = {name: replace(WEB, rules=_rules(own), phrases=()) for name, own in GROUPS.items()}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        made = work()
        seconds[name] += time.process_time() - began
        return made

    _judge(texts[:20], rules, config, lambda _, work: work())  # tables of characters
    for start, end in _batches(texts):
        minima.append(_judge(texts[start:end], rules, config, timed))
    return seconds, _copies(np.concatenate(minima), config)


def _judge(texts: list[str], rules: dict[str, Any], config: CorpusConfig, timed: Callable[..., Any]) -> np.ndarray:
    """[texts, permutations]. What words there are is found by the first stage that asks, as by datatrove's."""
    strings, cut = pa.array(texts, pa.large_string()), Texts.of(texts)
    for name, profile in rules.items():
        timed(name, lambda profile=profile: rejecting_rules(strings, cut, profile))
    timed("c4 lines", lambda: _c4(strings))

    def signed() -> np.ndarray:
        minima = signatures.minima(*signatures.shingles(cut, config.shingle_words), config.minhash_permutations)
        bands = signatures.bands_for(config.near_duplicate_threshold, config.minhash_permutations)
        signatures.band_keys(minima, *bands), signatures.sketches(minima)
        return minima

    return timed("minhash", signed)


def _c4(strings: pa.LargeStringArray) -> pa.LargeStringArray:
    for phrase in WEB.phrases:
        matches(strings, phrase.pattern)
    return clean_lines(strings, np.ones(len(strings), dtype=bool), LineCleaning(drop=C4_LINES))


def _copies(minima: np.ndarray, config: CorpusConfig) -> list[int]:
    """As `near_duplicates` decides: a document that is similar to an earlier one with which it has a key in common."""
    sketches = signatures.sketches(minima)
    keys = signatures.band_keys(
        minima, *signatures.bands_for(config.near_duplicate_threshold, config.minhash_permutations)
    )
    leaders: dict[int, list[int]] = {}
    copies = []
    for number, own in enumerate(keys.tolist()):
        near = sorted({other for key in own for other in leaders.get(key, ())})
        alike = signatures.similarity(sketches[near], sketches[number]) if near else np.zeros(0)
        if (alike >= config.near_duplicate_threshold).any():
            copies.append(number)
        else:
            for key in own:
                leaders.setdefault(key, []).append(number)
    return copies


def _agreement(peer: str, folder: Path, pages: list[tuple[str, str]]) -> None:
    kinds, texts = [kind for kind, _ in pages], [text for _, text in pages]
    theirs = _peer(peer, folder, texts)
    strings, cut = pa.array(texts, pa.large_string()), Texts.of(texts)
    versions = _versions(theirs)
    phrases = {phrase.name: phrase for phrase in WEB.phrases}
    for rule, rejected in theirs["rules"].items():
        if rule in phrases:
            mine = matches(strings, phrases[rule].pattern)
        else:
            found = rejecting_rules(strings, cut, replace(WEB, rules=_rules((rule,)), phrases=()))
            mine = np.array(found) != ""
        _compare(rule, mine, np.array(rejected), kinds, versions)
    cleaned = clean_lines(strings, np.ones(len(strings), dtype=bool), LineCleaning(drop=C4_LINES)).to_pylist()
    own = [[line.strip() for line in text.split("\n") if line.strip()] for text in cleaned]
    other = [[line for line in lines if line] for lines in theirs["lines"]]
    lost = [len(text.split("\n")) - len(lines) for text, lines in zip(texts, own, strict=True)]
    differ = np.array([one != two for one, two in zip(own, other, strict=True)])
    print(f"c4 lines: {sum(lost)} lines or blanks taken out; pages left alike {int((~differ).sum())} of {len(texts)}")
    _line("agreement, c4 lines", int((~differ).sum()), len(texts), float(np.mean(~differ)), "pages alike", versions)


def _compare(rule: str, mine: np.ndarray, theirs: np.ndarray, kinds: list[str], versions: dict[str, str]) -> None:
    _line(f"agreement, {rule}", int(mine.sum()), int(theirs.sum()), float(np.mean(mine == theirs)),
          "pages rejected; ratio: share of pages judged alike", versions)  # fmt: skip
    for name, differ in (("ours", mine & ~theirs), ("datatrove", theirs & ~mine)):
        if differ.any():
            told = Counter(kinds[number] for number in np.flatnonzero(differ)).most_common(SHOWN)
            print(f"  {rule}: rejected by {name} alone {int(differ.sum())}: {dict(told)}")


def _rules(names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(rule for rule in WEB.rules if rule.name in names)


def _nearest(texts: list[str], number: int) -> float:
    """The exact Jaccard index of runs of five words with the earlier document that is nearest."""
    own = _shingles(texts[number])
    return max(
        (len(own & other) / len(own | other) for other in map(_shingles, texts[:number]) if own | other), default=0
    )


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    import re

    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4)))


def _prose(language: Language, folder: Path, megabytes: float) -> list[str]:
    write_file(folder / "raw.jsonl", language, int(megabytes * 1e6), seed=0)
    lines = (folder / "raw.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines if line.endswith("}")]


def _batches(texts: list[str]) -> list[tuple[int, int]]:
    ends = np.cumsum([len(text) for text in texts])
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] + BATCH_BYTES, BATCH_BYTES))
    cuts[-1] = len(texts)
    return [(int(a), int(b)) for a, b in pairwise(cuts) if b > a]


def _peer(python: str, folder: Path, texts: list[str], *mode: str) -> dict[str, Any]:
    source, target = folder / "documents.jsonl", folder / "verdicts.json"
    source.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    ran = subprocess.run(
        [python, datatrove_leg.__file__, str(source), str(target), *mode], capture_output=True, text=True
    )
    if ran.returncode:
        raise SystemExit(
            f"{python} cannot run datatrove: {ran.stderr[-600:]}\nGive --peer the Python of an environment with "
            f"datatrove[processing]=={TESTED['datatrove']} and spacy (tested: {TESTED})"
        )
    return json.loads(target.read_text(encoding="utf-8"))


def _versions(theirs: dict[str, Any]) -> dict[str, str]:
    """Of both sides: the steps' versions of ours, and what it computes with."""
    ours = {"corpus_clean": STEP_VERSIONS["corpus_clean"], "pyarrow": pa.__version__, "numpy": np.__version__}
    return theirs["versions"] | {f"our {name}": number for name, number in ours.items()}


def _line(name: str, ours: float, peer: float, ratio: float, unit: str, versions: dict[str, str]) -> None:
    told = {"name": name, "ours": round(ours, 2), "peer": round(peer, 2), "ratio": round(ratio, 4), "unit": unit}
    print(json.dumps(told | {"versions": versions}), flush=True)
