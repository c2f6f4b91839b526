"""What rejects documents of a batch: where they come from, which language they are in, and the rules on quality.

Languages are told by the naive Bayes model over byte n-grams that py3langid ships. The package walks its automaton in
Python, byte by byte and text by text; here all texts take a step together, which is an order of magnitude faster and
gives the same answers. The first `SAMPLE` bytes decide. The model is loaded by the first text that asks, and only
sources that ask for languages do.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.characters import SCRIPT_NAMES, SCRIPTS
from k2model.curation.measures import measure
from k2model.curation.texts import Flags, Numbers, Texts
from k2model.errors import CorpusError, nearest
from k2model.recipe.curation import CurationProfile, QualityRule

SAMPLE = 512  # bytes of a text


def blocked(origins: pa.ChunkedArray, hosts: Sequence[str], words: Sequence[str]) -> Flags:
    """[documents]: whether each origin lies on one of the hosts or below it, or has one of the words apart."""
    strings = origins.combine_chunks().cast(pa.large_string())
    bad = np.zeros(len(strings), dtype=bool)
    if hosts:
        names = "|".join(map(re.escape, sorted(hosts)))
        bad |= matches(strings, rf"(?i)^(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(?:[^/@:]*\.)?(?:{names})(?:[:/?#]|$)")
    if words:
        bad |= matches(strings, rf"(?i)(?:^|[^a-z0-9])(?:{'|'.join(map(re.escape, sorted(words)))})(?:[^a-z0-9]|$)")
    return bad


class _Model(NamedTuple):
    """`weights` are log likelihoods [features, classes]. A state of the automaton is where its 256 moves begin: behind
    a byte `moves[state + byte]` is the next state, and `outputs[state + byte]` the feature that ends there or -1."""

    weights: Any
    prior: Any
    classes: Any
    start: int
    moves: Any
    outputs: Any


def identify_languages(texts: Sequence[str]) -> list[tuple[str, float]]:
    """(ISO 639-1 code, probability) of the most likely language of each text."""
    if not texts:
        return []
    model = _model()
    encoded = [_sample(text) for text in texts]
    scores = _scores(encoded, model)
    scores /= np.sqrt(np.maximum(1, [len(octets) for octets in encoded]))[:, None]  # calibrated across lengths
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    names, which = np.unique(model.classes, return_inverse=True)
    together = np.zeros((len(texts), len(names)))
    np.add.at(together.T, which, likely.T)  # a language in two scripts is one language
    best = together.argmax(axis=1)
    return [(str(names[i]), float(together[row, i])) for row, i in enumerate(best)]


def _sample(text: str) -> bytes:
    start = unicodedata.normalize("NFC", text[:SAMPLE])
    octets = (start.lower() if start.isupper() else start).encode("utf-8", "replace")[:SAMPLE]
    return octets.decode("utf-8", "ignore").encode("utf-8")


def _scores(encoded: Sequence[bytes], model: _Model) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """[texts, classes]: sum of log(1 + count) x weight over the features found, and the prior."""
    texts, width = len(encoded), max(1, max(map(len, encoded)))
    octets = np.zeros((width, texts), dtype=np.int64)
    for column, sample in enumerate(encoded):
        octets[: len(sample), column] = np.frombuffer(sample, dtype=np.uint8)
    lengths = np.array([len(sample) for sample in encoded])
    state, found = np.full(texts, model.start), np.empty((width, texts), dtype=np.int64)
    for step in range(width):
        move = state + octets[step]
        state, found[step] = model.moves[move], model.outputs[move]
    features = len(model.weights)
    keys = (found + features * np.arange(texts))[(found >= 0) & (np.arange(width)[:, None] < lengths)]
    pairs, counts = np.unique(keys, return_counts=True)
    owners, values = pairs // features, np.log1p(counts).astype(np.float32)
    scores = np.zeros((texts, model.weights.shape[1]))
    bounds = np.searchsorted(owners, np.arange(texts + 1))
    for text in np.flatnonzero(np.diff(bounds)):
        own = slice(bounds[text], bounds[text + 1])
        scores[text] = values[own] @ model.weights[pairs[own] % features] + model.prior
    return scores


@lru_cache(maxsize=1)
def _model() -> _Model:
    from py3langid.langid import MODEL_DIR, MODEL_FILE
    from py3langid.modelio import load_model

    weights, prior, classes, moves, rows, outputs = load_model(MODEL_DIR / MODEL_FILE)
    states = np.asarray(rows, dtype=np.int64) << 8
    tables = states[moves].astype(np.int32), np.asarray(outputs)[moves].astype(np.int32)
    return _Model(np.asarray(weights, dtype=np.float32), np.asarray(prior), np.array(classes), int(states[0]), *tables)


def rejecting_rules(strings: pa.LargeStringArray, texts: Texts, profile: CurationProfile) -> list[str]:
    """For each text the name of the first rule that rejects it, in the profile's order; "" when it is good.

    `texts` are those of `strings`. A rule judges texts whose main script is among its `scripts`. Raises CorpusError
    when a rule names no measure, or no script.
    """
    rejected_by = np.full(texts.count, -1)
    measured: dict[str, Numbers] = {}
    for number, rule in enumerate(profile.rules):
        if rule.measure not in measured:
            measured[rule.measure] = measure(rule.measure, texts, profile.stop_words)
        value = measured[rule.measure]
        bad = (value < rule.at_least) | (value > rule.at_most)
        if rule.scripts:
            bad &= np.isin(texts.main_scripts, _numbers(rule))
        if rule.from_lines:
            bad &= texts.lines.counts >= rule.from_lines
        rejected_by[bad & (rejected_by < 0)] = number
    for number, phrase in enumerate(profile.phrases, start=len(profile.rules)):
        rejected_by[matches(strings, phrase.pattern) & (rejected_by < 0)] = number
    names = [*(rule.name for rule in profile.rules), *(phrase.name for phrase in profile.phrases), ""]
    return [names[number] for number in rejected_by]


def _numbers(rule: QualityRule) -> list[int]:
    for name in rule.scripts:
        if name not in SCRIPTS:
            hint = nearest(name, list(SCRIPTS))
            raise CorpusError(
                f"the quality rule '{rule.name}' judges the script '{name}', which has no name here; {hint}"
            )
    return [SCRIPT_NAMES.index(name) for name in rule.scripts]


def matches(strings: pa.LargeStringArray, pattern: str) -> Flags:
    """[strings]: whether a regular expression (RE2 syntax) occurs in each."""
    found: Flags = pc.match_substring_regex(strings, pattern).to_numpy(zero_copy_only=False)
    return found
