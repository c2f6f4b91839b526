"""What the machine can multiply: square products on all workers at once, the best of several.

By processor time, as contestants are compared with it: on a machine that does nothing else the clock says
the same.
"""

import time

from benchmarks.peers.job import join

SIZE = 2048


def measure(dtype_name: str, repeats: int = 5) -> float:
    """FLOP per second of this worker's processor while the others do the same; `dtype_name`: `bfloat16` or `float32`.

    A product of a smaller size first decides whether the large one can be afforded: without bf16
    instructions torch takes seconds for what takes a tenth of one in fp32.
    """
    import torch
    import torch.distributed as dist

    join()
    try:
        dtype = getattr(torch, dtype_name)
        best, size = 0.0, 256
        while size <= SIZE:
            seconds = _product_seconds(torch.ones(size, size, dtype=dtype), repeats)
            best = max(best, 2 * size**3 / seconds)
            slowest = torch.tensor(seconds)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)  # all stop alike, and start the next size together
            size = size * 2 if slowest < 0.1 else SIZE + 1
        return best
    finally:
        dist.destroy_process_group()


def _product_seconds(matrix, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        matrix @ matrix
        best = min(best, time.process_time() - began)
    return best
