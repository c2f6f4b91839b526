"""The study of a model's whole life: what it could do at every checkpoint that was kept, as one HTML file.

`study_page` renders a `Study`. What counts as emergence and forgetting is `statistics`; nothing is computed from scores
alone where their items are there.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "asked_of": "content",
        "study_of": "content",
        "study_page": "page",
    },
)
