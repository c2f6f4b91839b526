"""Plain sentences on everyday topics, from `topics.toml`."""

import tomllib
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def topics() -> dict[str, tuple[str, ...]]:
    table = tomllib.loads(files("k2model.corpus.synthesis.constraints").joinpath("topics.toml").read_text())
    return {name: tuple(sentences) for name, sentences in table.items()}
