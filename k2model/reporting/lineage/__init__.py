"""Where a model comes from and what became of it, as a tree and as a drawing: the same for the report, which has the
records of one lifecycle, and for `k2 lineage` and `k2 compare`, which have all that a store knows.

`Lineage` is of artifacts, `grouped` what a person thinks in: sources, corpora, phases, releases.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Lineage": "graph",
        "Group": "groups",
        "Groups": "groups",
        "grouped": "groups",
        "reading": "groups",
        "legend": "drawing",
        "lineage_figure": "drawing",
    },
)
