"""How long a save holds training up: ours beside it and synchronous, and torch's DCP as the peer.

Two worker processes over gloo, each with its half of the same fp32 tensors; rounds alternate the four ways,
the first round is thrown away, and what counts is the slower worker. Times are until the call returns; what
goes on in the background is awaited between rounds. With --s3 the store is a SeaweedFS on this machine.

    python -m benchmarks.checkpoints --megabytes 128 --rounds 7 [--s3]
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

WORKERS = 2
WAYS = ("ours, beside training", "ours, synchronous", "DCP async_save", "DCP save")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=128, help="of state, both workers together")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    with _store(options.s3) as (uri, environment):
        times = _measure(uri, environment, options.megabytes, options.rounds)
    _print(times, options.megabytes, "s3" if options.s3 else "local")


def _print(times: dict[str, list[float]], megabytes: int, where: str) -> None:
    import torch

    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(f"{megabytes} MB of state, {WORKERS} workers, {where} store, training held up (median, spread):")
    for way, seconds in times.items():
        print(f"  {way:24} {1e3 * median(seconds):9.1f} ms   {1e3 * min(seconds):.1f} .. {1e3 * max(seconds):.1f}")
    comparisons = [
        ("async_against_own_sync", WAYS[0], WAYS[1]),
        ("async_against_dcp_async", WAYS[0], WAYS[2]),
        ("async_against_dcp_sync", WAYS[0], WAYS[3]),
        ("sync_against_dcp_sync", WAYS[1], WAYS[3]),
    ]
    for name, ours, peer in comparisons:
        ratio = median(p / o for o, p in zip(times[ours], times[peer], strict=True))
        row = {"name": f"checkpoint_{where}_{name}", "ours": median(times[ours]), "peer": median(times[peer])}
        print(json.dumps({**row, "ratio": round(ratio, 2), "unit": "s blocked", "versions": versions}))


@contextlib.contextmanager
def _store(s3: bool) -> Iterator[tuple[str, dict[str, str]]]:
    folder = Path(tempfile.mkdtemp(prefix="k2-benchmark-"))
    try:
        if s3:
            from tests.servers import run_s3

            with run_s3(folder) as server:
                yield f"s3://{server.bucket}/benchmark", server.environment
        else:
            yield str(folder), {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(uri: str, environment: dict[str, str], megabytes: int, rounds: int) -> dict[str, list[float]]:
    """Way -> seconds of each round but the first, of the slower worker."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as meeting:
        workers = [
            context.Process(target=_worker, args=(rank, meeting, uri, environment, megabytes, rounds, queue))
            for rank in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed, see above")
    by_worker = [queue.get() for _ in workers]
    return {way: [max(pair) for pair in zip(*(times[way] for times in by_worker), strict=True)][1:] for way in WAYS}


def _worker(
    rank: int, meeting: str, uri: str, environment: dict[str, str], megabytes: int, rounds: int, queue: Any
) -> None:
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORKERS, "MASTER_ADDR": f"file://{meeting}/workers"}
    os.environ.update({name: str(value) for name, value in launched.items()} | environment)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch.distributed as dist

    from k2model.training.world import World

    world = World.from_environment()
    with world.joined():
        ways = _ways(uri, world, megabytes)
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for step in range(1, rounds + 2):
            shift = step % len(WAYS)
            for way in WAYS[shift:] + WAYS[:shift]:
                start, settle = ways[way]
                dist.barrier()
                before = time.perf_counter()
                token = start(step)
                times[way].append(time.perf_counter() - before)
                settle(token)
        queue.put(times)


def _ways(uri: str, world: Any, megabytes: int) -> dict[str, tuple[Callable[[int], Any], Callable[[Any], None]]]:
    """Way -> (start a save of a step, wait until it is done)."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

    from k2model.artifacts.files import files_at
    from k2model.recipe.schema import CheckpointConfig
    from k2model.training.checkpoint import ALL, Piece, Progress, step_folder
    from k2model.training.saver import Saver

    count = megabytes // (4 * WORKERS)
    tensors = {f"model.{world.rank}.{i}": torch.randn(1024, 250) for i in range(count)}  # 1 MB each
    tensors |= {f"optimizer.{name}.{s}": torch.randn(1024, 250) for name in tensors for s in ("m", "v", "x")}

    class State:
        def pieces(self) -> list[Piece]:
            return [Piece(name, tuple(t.shape), ALL, 0, t.view(-1)) for name, t in sorted(tensors.items())]

    saver = Saver(files_at(f"{uri}/ours"), world, CheckpointConfig(save_every=1, keep_last=1))
    saver.reserve(State())

    def progress(step: int) -> Progress:
        return Progress("benchmark", step, 0, world.size, step, "identity", "rows")

    def writer() -> Any:
        path = f"{uri}/dcp"  # overwritten every time: as much is kept as of ours
        return FsspecWriter(path) if "://" in path else dcp.FileSystemWriter(path, overwrite=True)

    return {
        WAYS[0]: (lambda n: saver.begin(step_folder(2 * n), State(), progress(2 * n)), lambda _: saver.finish()),
        WAYS[1]: (lambda n: saver.save(step_folder(2 * n + 1), State(), progress(2 * n + 1)), lambda _: None),
        WAYS[2]: (lambda _: dcp.async_save(dict(tensors), storage_writer=writer()), lambda done: done.result()),
        WAYS[3]: (lambda _: dcp.save(dict(tensors), storage_writer=writer()), lambda _: None),
    }


if __name__ == "__main__":
    main()
