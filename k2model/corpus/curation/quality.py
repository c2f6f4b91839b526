"""Quality rules on a batch: which of the recipe's rules (`CurationProfile`), if any, rejects each text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2model.corpus.curation.measures import measure
from k2model.corpus.curation.texts import Flags, Numbers, Texts
from k2model.recipe.curation import CurationProfile


def rejecting_rules(strings: pa.LargeStringArray, texts: Texts, profile: CurationProfile) -> list[str]:
    """For each text the name of the first rule that rejects it, in the profile's order; "" when it is good.

    `texts` are those of `strings`. Raises CorpusError when a rule names no measure.
    """
    rejected_by = np.full(texts.count, -1)
    measured: dict[str, Numbers] = {}
    for number, rule in enumerate(profile.rules):
        if rule.measure not in measured:
            measured[rule.measure] = measure(rule.measure, texts, profile.stop_words)
        value = measured[rule.measure]
        bad = (value < rule.at_least) | (value > rule.at_most)
        if rule.from_lines:
            bad &= texts.lines.counts >= rule.from_lines
        rejected_by[bad & (rejected_by < 0)] = number
    for number, phrase in enumerate(profile.phrases, start=len(profile.rules)):
        rejected_by[matches(strings, phrase.pattern) & (rejected_by < 0)] = number
    names = [*(rule.name for rule in profile.rules), *(phrase.name for phrase in profile.phrases), ""]
    return [names[number] for number in rejected_by]


def matches(strings: pa.LargeStringArray, pattern: str) -> Flags:
    """Whether a regular expression (RE2 syntax) occurs in each string."""
    found: Flags = pc.match_substring_regex(strings, pattern).to_numpy(zero_copy_only=False)
    return found
