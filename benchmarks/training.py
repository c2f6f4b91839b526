"""Training speed on CPU, ours against Hugging Face Trainer, a nanoGPT-style loop and bare DDP.

    python -m benchmarks.training [--rounds 3] [--timed 4] [--precision auto]

One model shape, the same documents, the same global batch, two workers of one thread each. In every
round each contestant trains in a fresh elastic job, in alternating order; steps are timed inside the
workers after warm-up. A comparison is the median over rounds of the ratio within a round, so that what
else the machine does hits both sides; processor time (of all threads of a worker) is given beside the
clock. Two workloads: `dense` counts all tokens, `documents` only targets,
since padding and prompts teach nothing.

Needs the `dev` extra. Start-up is measured by `benchmarks.startup`, memory not at all.
"""

import argparse
import importlib
import json
import platform
import shutil
import statistics
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import job, peak, workload
from benchmarks.peers.workload import MODEL, SEQUENCE, WORKLOADS, Measured, Trial
from k2model.artifacts import Store
from k2model.model import count_parameters, training_flops
from k2model.recipe.schema import Precision

CONTESTANTS = ("ours", "hugging_face", "nanogpt", "bare_ddp")
DTYPE = {Precision.BF16: "bfloat16", Precision.FP32: "float32"}
PACKAGES = ("torch", "deepspeed", "transformers", "accelerate", "numpy")


@dataclass
class Rates:
    """Useful tokens of every contestant, one value a round: per second on the clock, and per second of the
    processors' time times their number. The second is the first on a machine that does nothing else."""

    workload: str
    clock: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contestant: str, workers: list[Measured]) -> None:
        useful = sum(measured.useful for measured in workers)
        self.clock.setdefault(contestant, []).append(useful / workers[0].seconds)
        busy = statistics.mean(measured.busy for measured in workers)
        self.busy.setdefault(contestant, []).append(useful / busy)


def ratio(rounds: dict[str, list[float]], peer: str) -> float:
    """Median over rounds of ours to the peer's within a round."""
    return statistics.median(ours / theirs for ours, theirs in zip(rounds["ours"], rounds[peer], strict=True))


def main() -> None:
    options = _options()
    peaks = {name: sum(job.on_workers(peak.measure, name)) for name in ("bfloat16", "float32")}
    precision = _precision(options.precision, peaks)
    versions = {name: version(name) for name in PACKAGES}
    print(f"{_processor()}, Python {platform.python_version()}, {versions}")
    print(f"matmul peak of both workers: bf16 {peaks['bfloat16'] / 1e9:.1f}, fp32 {peaks['float32'] / 1e9:.1f} GFLOP/s")
    print(f"model: {count_parameters(MODEL):,} parameters; everyone in {precision.value}\n")
    for name in options.workloads:
        rates = _measure(name, options, precision)
        _report(rates, peaks, precision, versions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1, help="steps of a round that are not timed")
    parser.add_argument("--timed", type=int, default=4, help="steps of a round that are")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--micro-batch", type=int, default=0, help="ours alone; 0 = all rows at once")
    return parser.parse_args()


def _precision(wanted: str, peaks: dict[str, float]) -> Precision:
    """`auto`: bf16 where the machine multiplies it faster than fp32. Elsewhere peers in bf16 would be a straw man."""
    if wanted != "auto":
        return Precision(wanted)
    return Precision.BF16 if peaks["bfloat16"] > peaks["float32"] else Precision.FP32


def _measure(name: str, options: argparse.Namespace, precision: Precision) -> Rates:
    rates = Rates(name)
    with tempfile.TemporaryDirectory(prefix="k2-benchmark-") as folder:
        inputs = Path(folder, "inputs")
        trial = Trial(name, str(inputs), options.warmup, options.timed, precision, options.micro_batch)
        Store.open(inputs)
        workload.rows(trial)
        for round_number in range(options.rounds):
            for contestant in options.contestants:
                store = Path(folder, f"{contestant}-{round_number}")  # nobody finds a trained phase
                shutil.copytree(inputs, store)
                run = importlib.import_module(f"benchmarks.peers.{contestant}").run
                workers = job.on_workers(run, Trial(**{**vars(trial), "store": str(store)}))
                rates.add(contestant, workers)
                clock, busy = rates.clock[contestant][-1], rates.busy[contestant][-1]
                print(
                    f"{name}, round {round_number + 1}, {contestant}: {clock:,.0f} useful tokens/s, "
                    f"{busy:,.0f} by processor time, loss {workers[0].loss:.3f}",
                    flush=True,
                )
    return rates


def _report(rates: Rates, peaks: dict[str, float], precision: Precision, versions: dict[str, str]) -> None:
    median = {name: statistics.median(values) for name, values in rates.clock.items()}
    busy = {name: statistics.median(values) for name, values in rates.busy.items()}
    share = SEQUENCE / (SEQUENCE - 1) * training_flops(MODEL, 1, SEQUENCE) / peaks[DTYPE[precision]]
    dense = rates.workload == "dense"
    print(f"\n{'':14}{'useful tokens/s':^27}{'ours / it':^20}{'of the matmul peak' if dense else ''}")
    print(f"{rates.workload:14}{'clock':>13}{'processor':>13}{'clock':>10}{'processor':>11}")
    for name in median:
        peak_share = f"{busy[name] * share:12.0%} by processor time" if dense else ""
        print(
            f"{name:14}{median[name]:13,.0f}{busy[name]:13,.0f}"
            f"{ratio(rates.clock, name):10.2f}{ratio(rates.busy, name):11.2f}{peak_share}"
        )
    print()
    for peer in median:
        if peer != "ours":
            line = {
                "name": f"training/{rates.workload}/{peer}",
                "ours": round(median["ours"], 1),
                "peer": round(median[peer], 1),
                "ratio": round(ratio(rates.clock, peer), 3),
                "unit": "useful tokens/s",
                "ratio_by_processor_time": round(ratio(rates.busy, peer), 3),
                "precision": precision.value,
                "versions": versions,
            }
            print(json.dumps(line), flush=True)
    print()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    instructions = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{names[0] if names else platform.processor()} x{len(names) or 1} ({', '.join(instructions)})"


if __name__ == "__main__":
    main()
