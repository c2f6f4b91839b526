"""How much the rows of a phase attend, once packed: documents never see each other, so that short ones cost less."""

import numpy as np

from k2model.artifacts import ArtifactRef, Store
from k2model.tokens import PackedSequences

SAMPLED = 64  # rows


def attended_pairs(store: Store, sequences: ArtifactRef) -> float:
    """The mean over rows of the sum of squared lengths of their documents, from rows spread evenly over the phase;
    padding attends to nothing worth counting."""
    packed = PackedSequences.open(store, sequences)
    found = []
    for row in np.unique(np.linspace(0, packed.rows - 1, SAMPLED).astype(int)):
        document = packed.batch(int(row), 1)["document"].numpy()
        _, lengths = np.unique(document[document >= 0], return_counts=True)
        found.append(int(np.square(lengths.astype(np.int64)).sum()))
    return float(np.mean(found))
