"""What a GPU has to show before anything is trained on it: the real engine on one card, beside a CPU and transformers.

    python -m benchmarks.gpu [--tiny] [--seconds 450] [--parts losses attention evaluation resume speed]

A model of `k2_1b`'s shape goes through the engine, with its rows made on the spot; nothing is downloaded. Checks end in
PASS, FAIL or SKIP, comparisons in one JSON line each; the exit status is 1 where a check failed, 2 without a GPU. Each
contestant runs in a process of its own and within a time, so that one that fails or hangs hides no other. `--tiny` runs
the same on small sizes, on a CPU where no GPU is at hand: what then was measured says nothing about a GPU.

`docs/gpu.md` says what to look at.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers import one_device
from benchmarks.peers.one_device import Sizes, Workload

PACKAGES = ("torch", "deepspeed", "transformers", "flash-attn", "triton", "numpy")
PRELOADED = ["torch", "k2model.training.attempt", "k2model.tokens", "k2model.generation.engine"]
AT_MOST = 120  # seconds of a process, but for the one that takes what is left
FP32_LOSS, FP32_NORM = 1e-4, 1e-3  # relative, device against CPU: other sums, other orders
BF16_LOSS, BF16_NORM = 5e-3, 5e-2
ATTENTION = 2e-2  # of the largest value, bf16 against fp32
MEMORY = 0.15  # of the planner's figure
SAME_WORK = 2e-3  # relative, losses of the same weights in two models under bf16
NEAR = 1e-2  # losses of the same run with kernels that sum in any order


class Failed(Exception):
    """A process ended without a result: its traceback, or how it ended."""


@dataclass
class Checks:
    """What was found, and how much time is left."""

    sizes: Sizes
    folder: Path
    device: str
    ends: float
    versions: dict[str, str]
    failed: int = 0

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def tell(self, status: str, name: str, text: str) -> None:
        self.failed += status == "FAIL"
        print(f"{status:4} {name}: {text}", flush=True)

    def that(self, holds: bool, name: str, text: str) -> None:
        self.tell("PASS" if holds else "FAIL", name, text)

    def compared(self, name: str, ours: float, peer: float, unit: str, **more: Any) -> None:
        """The JSON line of a comparison. `more` goes with it."""
        line = {"name": f"gpu/{name}", "ours": _short(ours), "peer": _short(peer), "ratio": _short(ours / peer)}
        print(json.dumps(line | {"unit": unit} | more | {"device": self.device, "versions": self.versions}), flush=True)

    def run(
        self, work: Callable[..., Any], *arguments: Any, cpu: bool = False, seconds: float = AT_MOST, **environment: str
    ) -> Any:
        """`work(*arguments)` in a fresh process, on the device or, with `cpu`, on none. Raises Failed."""
        seconds = min(seconds, self.left)
        if seconds < 1:
            raise Failed("no time was left: give it more --seconds, or fewer --parts")
        environment = {"K2_HOME": str(self.folder / "home"), **environment}
        if cpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        context = multiprocessing.get_context("forkserver")
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_in_process, args=(sending, environment, work, arguments))
        process.start()
        sending.close()
        try:
            if not receiving.poll(seconds):
                raise Failed(f"{work.__name__} was still running after {seconds:.0f} s")
            done, result = receiving.recv()
            process.join(5)
        except EOFError:
            process.join()
            raise Failed(f"the process of {work.__name__} ended with {process.exitcode}") from None
        finally:
            process.kill()
            process.join()
        if not done:
            raise Failed(result)
        return result


def _in_process(
    sending: Any, environment: dict[str, str], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    try:
        sending.send((True, work(*arguments)))
    except BaseException:
        sending.send((False, traceback.format_exc()))


def losses(checks: Checks) -> None:
    """A few steps of a shallow model: the CPU in fp32, the device in fp32 and in bf16."""
    sizes = checks.sizes
    wanted = checks.run(one_device.steps, sizes, "fp32", cpu=True)
    layers = f"{sizes.shallow.n_layers} layers, {sizes.short.steps} steps of {sizes.short.tokens_per_step} tokens"
    for precision, at_most in (("fp32", (FP32_LOSS, FP32_NORM)), ("bf16", (BF16_LOSS, BF16_NORM))):
        found = checks.run(one_device.steps, sizes, precision)
        for kind, limit in zip(("loss", "gradient norm"), at_most, strict=True):
            apart = max(abs(row[kind] / right[kind] - 1) for row, right in zip(found, wanted, strict=True))
            text = f"{checks.device} in {precision} is {apart:.1e} from a CPU in fp32, at most {limit:g} ({layers})"
            checks.that(apart <= limit, kind, text)
    checks.that(
        wanted[-1]["loss"] < wanted[0]["loss"], "learning", f"{wanted[0]['loss']:.3f} to {wanted[-1]['loss']:.3f}"
    )


def attention(checks: Checks) -> None:
    """Packed documents: a kernel call for each, and one for all of them, against blocks in fp32."""
    found = checks.run(one_device.attention, checks.sizes)
    for name in ("per document", "in one call"):
        if name not in found:
            checks.tell("SKIP", f"attention {name}", "torch's kernel for it runs on CUDA alone")
            continue
        apart, seconds = found[name]
        text = f"{apart:.1e} of the largest value from fp32, at most {ATTENTION:g}; {1000 * seconds:.2f} ms"
        checks.that(apart <= ATTENTION, f"attention {name}", f"{text} forward and backward, {found['shape']}")
    if "in one call" in found:
        ours, peer = found["per document"][1], found["in one call"][1]
        checks.compared("attention per document, against one call", ours, peer, "s", shape=found["shape"])


def speed(checks: Checks) -> None:
    """The whole shape: memory against the planner, tokens/s and MFU against transformers' Llama, side by side."""
    left = checks.left
    found = checks.run(one_device.speed, checks.sizes, left - 10, seconds=left, CUBLAS_WORKSPACE_CONFIG=":4096:8")
    ours, planned = found["memory"]
    if ours is None:
        checks.tell("SKIP", "memory", "a CPU has no allocator to ask")
    else:
        text = f"{_gb(ours)} at its peak, where the planner says {_gb(planned)}; at most {MEMORY:.0%} apart"
        checks.that(abs(ours / planned - 1) <= MEMORY, "memory", text)
        checks.compared("peak memory, against the planner", ours, planned, "bytes")
    print(f"matrix products alone: {found['peak'] / 1e12:.2f} TFLOP/s in {checks.sizes.phase.precision.value}")
    for workload in Workload:
        rates: dict[str, list[float]] = found["rates"][workload.value]
        mine = statistics.median(rates["ours"])
        mfu = mine * found["flops"][workload.value] / found["peak"]
        print(f"{workload.value} rows: {mine:,.0f} tokens/s, MFU {mfu:.1%} of those products")
        for peer in ("transformers", "deterministic"):
            if peer not in rates:
                status = "SKIP" if peer == "transformers" else "FAIL"
                checks.tell(status, f"{workload.value} rows, against {peer}", found["missing"][peer])
                continue
            first = found["first"][workload.value]
            apart = abs(first["ours"] / first[peer] - 1)
            if peer == "transformers":
                text = f"losses of the same weights are {apart:.1e} apart, at most {SAME_WORK:g}"
                checks.that(apart <= SAME_WORK, f"{workload.value} rows, the same work for {peer}", text)
            ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates[peer], strict=True))
            theirs = statistics.median(rates[peer])
            checks.compared(
                f"{workload.value} rows, against {peer}", mine, theirs, "tokens/s", paired_ratio=_short(ratio),
                mfu=_short(mfu), peer_mfu=_short(mfu * theirs / mine), peer_attention=found["attention"],
            )  # fmt: skip


def resume(checks: Checks) -> None:
    """A run that is told to stop and goes on in another process, against one that is left alone."""
    for name, exact in (("with K2_DETERMINISTIC=1", "1"), ("with torch's default kernels", "")):
        store = str(checks.folder / f"store-{exact}")
        calm, whole = checks.run(one_device.phase, checks.sizes, store + "calm", False, K2_DETERMINISTIC=exact)
        stopped, _ = checks.run(one_device.phase, checks.sizes, store, True, K2_DETERMINISTIC=exact)
        resumed, rest = checks.run(one_device.phase, checks.sizes, store, False, K2_DETERMINISTIC=exact)
        checks.that(
            stopped is None and 0 < rest < whole, f"resume {name}", f"stopped, then {rest} of {whole} steps taken"
        )
        apart = max(
            abs(a / b - 1) for one, two in zip(calm, resumed, strict=True) for a, b in zip(one, two, strict=True)
        )
        if exact:
            checks.that(calm == resumed, f"resume {name}", f"losses and norms bit for bit; {apart:.1e} apart")
        else:
            said = "bit for bit" if calm == resumed else "not bit for bit"
            checks.that(
                apart <= NEAR, f"resume {name}", f"losses and norms {said}, {apart:.1e} apart, at most {NEAR:g}"
            )
        for folder in (store, store + "calm"):
            shutil.rmtree(folder, ignore_errors=True)


def evaluation(checks: Checks) -> None:
    """The cache and what evaluation does with a model that lies on the device; against the same model on a CPU."""
    wanted = checks.run(one_device.evaluation, checks.sizes, cpu=True)
    found = checks.run(one_device.evaluation, checks.sizes)
    for name, right in wanted.items():
        got = found[name]
        if isinstance(got, str):
            checks.tell("FAIL", name, got)
        elif isinstance(right, float):
            apart = abs(got - right) / max(abs(right), 1.0)
            checks.that(apart <= FP32_LOSS, name, f"{got:.5f}, on a CPU {right:.5f}")
        else:
            checks.that(got == right, name, f"the same {sum(map(len, right))} tokens as on a CPU")


PARTS = {part.__name__: part for part in (losses, attention, evaluation, resume, speed)}


def main() -> None:
    options = _options()
    began = time.monotonic()
    _preload()
    with tempfile.TemporaryDirectory(prefix="k2-gpu-") as folder:
        checks = Checks(one_device.sizes(options.tiny), Path(folder), "?", began + options.seconds, _versions())
        facts = checks.run(one_device.facts)
        checks.device = facts["device"]
        print(json.dumps({"environment": facts | _machine() | {"versions": checks.versions}}), flush=True)
        if facts["device"] == "cpu" and not options.tiny:
            print("no CUDA device is at hand, so nothing was run: --tiny runs the same on a CPU, on small sizes")
            sys.exit(2)
        for name in options.parts:
            start = time.monotonic()
            try:
                PARTS[name](checks)
            except Exception as error:
                checks.tell("FAIL", name, str(error) if isinstance(error, Failed) else traceback.format_exc())
            print(f"     {name} took {time.monotonic() - start:.0f} s\n", flush=True)
    print(f"{checks.failed or 'none'} failed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if checks.failed else 0)


def _preload() -> None:
    """What the processes are forked from has loaded torch, and the rest where no driver would be touched by that."""
    preloaded = PRELOADED
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        preloaded = [
            *PRELOADED,
            "deepspeed.runtime.zero.muon.muon_optimizer",
            "transformers.models.llama.modeling_llama",
        ]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small sizes, on a CPU as well")
    parser.add_argument("--seconds", type=float, default=450.0, help="for all of it; what is left then is not begun")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    return parser.parse_args()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _machine() -> dict[str, str]:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = "none"
    return {"nvidia-smi": said, "processors": str(len(os.sched_getaffinity(0)))}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _gb(size: float) -> str:
    return f"{size / 1e9:.3f} GB"


if __name__ == "__main__":
    main()
