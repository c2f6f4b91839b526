"""What the machine can multiply: square products on all workers at once, the best of several."""

import time

SIZE = 2048


def measure(dtype_name: str, repeats: int = 5) -> float:
    """FLOP/s of one worker while the others do the same; `dtype_name` is `bfloat16` or `float32`.

    A product of a smaller size first decides whether the large one can be afforded: without bf16
    instructions torch takes seconds for what takes a tenth of one in fp32.
    """
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        dtype = getattr(torch, dtype_name)
        best, size = 0.0, 256
        while size <= SIZE:
            seconds = _product_seconds(torch.ones(size, size, dtype=dtype), repeats)
            best = max(best, 2 * size**3 / seconds)
            if seconds > 0.1:
                break
            size *= 2
            dist.barrier()
        return best
    finally:
        dist.destroy_process_group()


def _product_seconds(matrix, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return best
