"""Counts that add up over files, parts and sources."""

from collections import Counter


class Counts(Counter[str]):
    """Whole numbers by name; a name may be a path, like `documents/quality` or `rejects/few_words`.

    What is not counted is 0. `update` adds the counts of another, which may come from JSON.
    """

    def below(self, path: str) -> dict[str, int]:
        """The counts below a path, sorted: `below("rejects")` -> {"few_words": 3}."""
        start = f"{path}/"
        return {name[len(start) :]: count for name, count in sorted(self.items()) if name.startswith(start)}
