"""A peer tokenises a folder of Parquet documents, as its own documentation says, in a process of its own.

    python tokenise_peers.py datasets|datatrove TOKENIZER.JSON FOLDER OUT WORKERS

Prints seconds and tokens as JSON. Imports nothing of this project, so it runs in any environment.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    peer, tokenizer, folder, out, workers = sys.argv[1:]
    run = {"datasets": with_datasets, "datatrove": with_datatrove}[peer]
    print("RESULT " + json.dumps(run(tokenizer, folder, out, int(workers))))


def with_datasets(tokenizer: str, folder: str, out: str, workers: int) -> dict[str, float]:
    """`datasets.map`, batched, then `save_to_disk`; its cache is in `out`, so nothing is found made."""
    from datasets import load_dataset
    from tokenizers import Tokenizer

    fast = Tokenizer.from_file(tokenizer)

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"tokens": [e.ids for e in fast.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    began = time.perf_counter()
    files = sorted(str(path) for path in Path(folder).glob("*.parquet"))
    documents = load_dataset(
        "parquet", data_files=files, split="train", cache_dir=f"{out}/cache", columns=["id", "text"]
    )
    encoded = documents.map(encode, batched=True, num_proc=workers, remove_columns=["text"])
    encoded.save_to_disk(f"{out}/tokens", num_proc=workers)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": sum(map(len, encoded["tokens"]))}


def with_datatrove(tokenizer: str, folder: str, out: str, workers: int) -> dict[str, float]:
    """`ParquetReader` and `DocumentTokenizer`, a task for each file, without shuffling."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    began = time.perf_counter()
    steps = [
        ParquetReader(folder, glob_pattern="*.parquet", batch_size=1000),
        DocumentTokenizer(f"{out}/tokens", tokenizer, shuffle_documents=False, batch_size=1000),
    ]
    tasks = len(list(Path(folder).glob("*.parquet")))
    LocalPipelineExecutor(steps, tasks=tasks, workers=workers, logging_dir=f"{out}/logs", skip_completed=False).run()
    seconds = time.perf_counter() - began
    width = 2 if json.loads(Path(tokenizer).read_text())["model"]["vocab"].__len__() <= 1 << 16 else 4
    return {"seconds": seconds, "tokens": sum(p.stat().st_size for p in Path(out, "tokens").glob("*.ds")) / width}


if __name__ == "__main__":
    main()
