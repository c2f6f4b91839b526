"""From documents in Parquet to token files: ours against `datasets.map` and `datatrove`, side by side.

    python -m benchmarks.data [--megabytes 24] [--rounds 3] [--workers 1 2] [--peer-python /path/to/python]

Same documents, same tokenizer; everyone starts in a new process and is timed from its first read to its
last file (imports are not counted). Rounds alternate, and ratios are medians over rounds of the pairs in
one round. Peers are `datasets` and `datatrove`, in an environment of their own, which `make bench` creates: their
caps on versions differ from this project's. Every side must find the same number of tokens.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers.processors import Sequence

from benchmarks.peers import raw_text
from k2model.documents import markup
from k2model.documents.schema import make_document, part_path, write_documents
from k2model.tokens import bpe

PEERS = ("datasets", "datatrove")
FILES = 4
VOCABULARY = 16_384
UNIT = "tokens/s per worker, Parquet to token files"
PEER_PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SCRIPT = Path(__file__).parent / "peers" / "tokenise_peers.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peer-python", default=str(PEER_PYTHON))
    arguments = parser.parse_args()
    if not Path(arguments.peer_python).exists():
        parser.error(
            f"no {arguments.peer_python}: `make {PEER_PYTHON.parts[-3]}/.ready` installs the peers "
            f"(benchmarks/peers/tokenise.txt), or name an interpreter that has them by --peer-python"
        )
    with tempfile.TemporaryDirectory(prefix="k2-tokenise-") as scratch:
        folder = Path(scratch)
        megabytes = write_corpus(folder, arguments.megabytes)
        commands = {"ours": [sys.executable, "-m", "benchmarks.peers.tokenise_ours"]}
        commands |= {peer: [arguments.peer_python, str(SCRIPT), peer] for peer in PEERS}
        for workers in arguments.workers:
            _compare(commands, folder, workers, arguments.rounds, megabytes, arguments.peer_python)


def write_corpus(folder: Path, megabytes: float) -> float:
    """`documents/train/text/*.parquet` of natural text and a tokenizer learned from some of it; the size in MB."""
    prose = [path.read_text("utf-8", "replace") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    language = raw_text.Language.of(prose)
    texts: list[str] = []
    for seed in range(FILES):
        jsonl = folder / "raw.jsonl"
        raw_text.write_file(jsonl, language, int(megabytes * 1e6 / FILES), seed)
        own = [text for line in jsonl.read_text("utf-8").splitlines() if (text := _text(line))]
        documents = [
            make_document("text", "prose", "CC0-1.0", f"{seed}/{i}", [markup.text(text, loss_mask=True)])
            for i, text in enumerate(own)
        ]
        write_documents(part_path(folder / "documents", "train", "text", seed), documents)
        texts += own
    order = np.random.default_rng(0).permutation(len(texts))[:1_000]
    tokenizer = bpe.learn([*prose[:50], *(texts[i] for i in order)], VOCABULARY)
    tokenizer.post_processor = Sequence([])  # some peers would add a token to each document
    bpe.write(tokenizer, folder / "tokenizer")
    return sum(len(text.encode()) for text in texts) / 1e6


def _text(line: str) -> str:
    try:
        return str(json.loads(line)["text"])
    except json.JSONDecodeError:
        return ""  # planted by the generator


def _compare(
    commands: dict[str, list[str]], folder: Path, workers: int, rounds: int, megabytes: float, peer_python: str
) -> None:
    taken: dict[str, list[float]] = {name: [] for name in commands}
    tokens: set[int] = set()
    for _ in range(rounds):
        for name, command in commands.items():
            result = _run(command, folder, workers)
            taken[name].append(result["seconds"])
            tokens.add(int(result["tokens"]))
    if len(tokens) != 1:
        raise SystemExit(f"the sides do not agree about the tokens: {sorted(tokens)}")
    (count,) = tokens
    print(f"{megabytes:.1f} MB, {count} tokens, {workers} worker(s)")
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"  {name:10} {middle:7.2f} s {count / middle / workers / 1e6:7.3f} M tokens/s per worker")
    for peer in PEERS:
        ratio = statistics.median(theirs / own for own, theirs in zip(taken["ours"], taken[peer], strict=True))
        speeds = {side: round(count / statistics.median(taken[side]) / workers) for side in ("ours", peer)}
        versions = {"tokenizers": version("tokenizers"), peer: _version(peer_python, peer)}
        line = {"name": f"data/tokenise/{peer}/{workers}", "ours": speeds["ours"], "peer": speeds[peer],
                "ratio": round(ratio, 2), "unit": UNIT, "versions": versions}  # fmt: skip
        print(json.dumps(line))


def _run(command: list[str], folder: Path, workers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        paths = [str(folder / "tokenizer" / "tokenizer.json"), str(folder / "documents/train/text"), out]
        parallel = "false" if workers > 1 else "true"
        environment = os.environ | {"TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": "1"}
        done = subprocess.run([*command, *paths, str(workers)], env=environment, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if done.returncode or not lines:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        return json.loads(lines[0].removeprefix("RESULT "))


def _version(python: str, name: str) -> str:
    script = f"from importlib.metadata import version; print(version('{name}'))"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
