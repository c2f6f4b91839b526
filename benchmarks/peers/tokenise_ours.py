"""Our side of `benchmarks.data`: a folder of Parquet documents to token shards, as the step makes its parts."""

import json
import sys
import time
from functools import lru_cache, partial
from pathlib import Path

import pyarrow.parquet  # noqa: F401  imports are not counted

from k2model.artifacts import map_in_processes
from k2model.tokens.encoder import Encoder
from k2model.tokens.shard_writer import tokenize_part
from k2model.tokens.tokenizer import K2Tokenizer


@lru_cache(maxsize=1)
def _encoder(tokenizer: str) -> Encoder:
    return Encoder(K2Tokenizer.load(Path(tokenizer).parent))


def one(tokenizer: str, out: str, part: Path) -> int:
    return int(tokenize_part(part, _encoder(tokenizer), Path(out, part.name).with_suffix(".arrow"))["tokens"])


def main() -> None:
    tokenizer, folder, out, workers = sys.argv[1:]
    began = time.perf_counter()
    tokens = map_in_processes(partial(one, tokenizer, out), sorted(Path(folder).glob("*.parquet")), int(workers))
    print("RESULT " + json.dumps({"seconds": time.perf_counter() - began, "tokens": sum(tokens)}))


if __name__ == "__main__":
    main()
