"""Two artifacts of a store beside each other: how they are related, which settings differ, what they score on the same
items, and how both were trained.

`comparison_of` reads it, `comparison_page` draws it. What is missing on either side is named, not left out.
"""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "Comparison": "content",
        "comparison_of": "content",
        "comparison_page": "page",
    },
)
