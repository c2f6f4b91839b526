"""Figures of accelerators that plans are reckoned with, from their makers' data sheets."""

from dataclasses import dataclass

from k2model.errors import nearest


@dataclass(frozen=True)
class Gpu:
    """`memory`: bytes, as the data sheet counts them; `peak`: dense bf16 FLOP/s; `link`: bytes/s each way to the GPUs
    of its node; `network`: bytes/s each way to other nodes, of the adapter usually beside each GPU."""

    name: str
    memory: float
    peak: float
    link: float
    network: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-80GB", 80e9, 312e12, 300e9, 25e9),  # SXM4; NVLink 600 GB/s both ways, HDR InfiniBand
        Gpu("H100-80GB", 80e9, 989e12, 450e9, 50e9),  # SXM5; NVLink 900 GB/s both ways, NDR InfiniBand
        Gpu("H200", 141e9, 989e12, 450e9, 50e9),  # SXM
        Gpu("B200", 180e9, 2_250e12, 900e9, 50e9),  # SXM; NVLink 1,800 GB/s both ways
    )
}


def gpu_problem(name: str) -> str | None:
    """What is wrong with `cluster.gpu`, None when nothing is."""
    if not name or name in GPUS:
        return None
    return f"cluster.gpu='{name}' is no GPU whose figures are known: {nearest(name, GPUS)}"
