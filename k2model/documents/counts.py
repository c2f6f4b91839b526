"""Counts that add up over files, parts and sources."""

from collections import Counter
from collections.abc import Mapping


class Counts(Counter[str]):
    """Whole numbers by name; a name may be a path, like `documents/quality` or `rejects/few_words`.

    What is not counted is 0. `update` adds the counts of another, which may come from JSON; `below` and `add` read and
    write a table of counts by its path.
    """

    def add(self, path: str, counts: Mapping[str, int]) -> None:
        """Add a table below a path: `add("rejects", {"few_words": 3})`."""
        self.update({f"{path}/{name}": count for name, count in counts.items()})

    def below(self, path: str) -> dict[str, int]:
        """The counts below a path, sorted: `below("rejects")` -> {"few_words": 3}."""
        start = f"{path}/"
        return {name[len(start) :]: count for name, count in sorted(self.items()) if name.startswith(start)}
