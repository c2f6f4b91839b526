"""The URL filter: documents from hosts, or with words in their address, that the recipe does not want."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from k2model.corpus.curation.quality import matches
from k2model.corpus.curation.texts import Flags


def blocked(origins: pa.ChunkedArray, hosts: Sequence[str], words: Sequence[str]) -> Flags:
    """Whether each origin lies on one of the hosts or below it, or has one of the words between other signs."""
    strings = origins.combine_chunks().cast(pa.large_string())
    bad = np.zeros(len(strings), dtype=bool)
    if hosts:
        names = "|".join(map(re.escape, sorted(hosts)))
        bad |= matches(strings, rf"(?i)^(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(?:[^/@:]*\.)?(?:{names})(?:[:/?#]|$)")
    if words:
        bad |= matches(strings, rf"(?i)(?:^|[^a-z0-9])(?:{'|'.join(map(re.escape, sorted(words)))})(?:[^a-z0-9]|$)")
    return bad
