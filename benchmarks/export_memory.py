"""Peak memory of exporting a checkpoint, loading an export and adopting one, against holding the whole state.

Weights are zeros; each form runs in a process of its own, on files that were made before. Counted is the peak of its
resident memory above what it held before, pages of files that are mapped included; a loaded model is there in both
forms, so its own size is taken off. Time is printed as an aside, not compared.

    python -m benchmarks.export_memory                          # a model of some 1 GB in fp32, against others
    python -m benchmarks.export_memory --gigabytes 8 --alone    # ours only

It needs five times the model's size on the disk of the temporary folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from k2model.artifacts import ArtifactRef, Identity, Store, describe_file, make
from k2model.recipe.counts import count_parameters
from k2model.recipe.schema import ExportConfig, ModelConfig

WORKERS = 4  # that the checkpoint was written by
FORM = ExportConfig(shard_bytes=1_000_000_000)
#: Ours, the other, and what that is; in this order, since the first makes what the rest reads.
COMPARISONS = {
    "export": ("export", "hold_and_save", "all tensors, then safetensors' save_file"),
    "load": ("load", "hold_and_load", "safetensors' load_file, then load_state_dict"),
    "adopt": ("adopt", "hold_and_convert", "safetensors' load_file, then save_file"),
}


def model_of(gigabytes: float) -> ModelConfig:
    """About so many 10^9 bytes in fp32, a quarter of them the embedding."""
    vocabulary = int(gigabytes * 15_000)
    return ModelConfig(
        vocab_size=vocabulary, hidden_size=4096, n_layers=max(1, round(gigabytes * 0.66)), n_heads=32, n_kv_heads=8,
        head_dim=128, ffn_size=11_008, init_std=0.02,
    )  # fmt: skip


def write_checkpoint(store: Store, model: ModelConfig) -> ArtifactRef:
    """A finished checkpoint of zeros, whose files have holes instead."""
    import torch

    from k2model.artifacts.files import LocalFiles
    from k2model.export.hugging_face import llama_names
    from k2model.export.weights import llama_shapes
    from k2model.training.checkpoint import ALL, FINAL, MODEL, Piece, Progress, publish, share
    from k2model.training.checkpoint.shard import header_of

    shapes = {ours: llama_shapes(model)[theirs] for ours, theirs in llama_names(model).items()}
    whole = [
        Piece(MODEL + name, shape, ALL, 0, torch.empty(torch.Size(shape).numel(), device="meta"))
        for name, shape in shapes.items()
    ]

    def produce(folder: Path) -> dict[str, float]:
        (folder / FINAL).mkdir()
        names = []
        for rank in range(WORKERS):
            pieces = list(share(whole, rank, WORKERS))
            names.append(f"rank-{rank:05d}-of-{WORKERS:05d}.safetensors")
            with (folder / FINAL / names[-1]).open("wb") as file:
                file.write(header_of(pieces))
                file.truncate(file.tell() + 4 * sum(piece.tensor.numel() for piece in pieces))
        entries = [describe_file(folder / FINAL, name) for name in names]
        publish(LocalFiles(folder), FINAL, entries, Progress("base", 1, 1, WORKERS, 1, "", ""))
        return {}

    return store.build(Identity("checkpoint", "1", {"model": model}), produce)


class Forms:
    """What is measured, on a store in `home`."""

    def __init__(self, home: Path, model: ModelConfig, form: ExportConfig = FORM) -> None:
        self.home, self.model, self.form = home, model, form
        self.store = Store.open(home / "store")
        self.checkpoint = write_checkpoint(self.store, model)

    def export(self) -> Path:
        from k2model.export import export_step
        from k2model.recipe.laptop import laptop

        tokenizer, phase = self.store.build(Identity("tokenizer", "1", {}), write_tokenizer), laptop().phases[0]
        return self.store.fetch(
            make(self.store, export_step(self.store, self.model, phase, self.checkpoint, tokenizer, form=self.form))
        )

    def load(self) -> None:
        from k2model.export import load_exported

        load_exported(self.export())

    def adopt(self) -> None:
        from k2model.export import adopted_checkpoint_step, adopted_model_of

        row = adopted_model_of(str(self.export()), "base", "apache-2.0")
        make(self.store, adopted_checkpoint_step(self.model, row, None))

    def hold_and_save(self) -> None:
        from safetensors.torch import save_file

        from k2model.export.hugging_face import to_llama
        from k2model.training import load_model_state

        state = load_model_state(self.store.fetch(self.checkpoint))
        save_file(to_llama(state, self.model), self.home / "peer")

    def hold_and_load(self) -> None:
        from k2model.export.hugging_face import from_llama_tensor, llama_names
        from k2model.model.transformer import K2Model

        found = self._loaded()
        model = K2Model(self.model, 1e4, 128)
        names = llama_names(self.model)
        model.load_state_dict({ours: from_llama_tensor(ours, found[theirs]) for ours, theirs in names.items()})

    def hold_and_convert(self) -> None:
        from safetensors.torch import save_file

        from k2model.export.hugging_face import from_llama_tensor, llama_names

        found = self._loaded()
        names = llama_names(self.model)
        save_file({ours: from_llama_tensor(ours, found[names[ours]]) for ours in names}, self.home / "peer")

    def _loaded(self) -> dict:
        from safetensors.torch import load_file

        files = sorted(self.export().glob("*.safetensors"))
        return {name: tensor.float() for path in files for name, tensor in load_file(path).items()}


def write_tokenizer(folder: Path) -> dict[str, float]:
    """Bytes and K2's special tokens."""
    from k2model.documents.markup import SPECIAL_TOKENS
    from k2model.tokens.bpe import learn, write

    write(learn(["the rivers are quiet"], len(SPECIAL_TOKENS) + 256), folder)
    return {}


def measure(form: str, home: Path, gigabytes: float) -> tuple[float, float]:
    """(MB of peak, seconds), in a fresh process."""
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.export_memory", "--gigabytes", str(gigabytes), "--form", form, str(home)],
        check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    ).stdout  # fmt: skip
    peak, seconds = json.loads(out.splitlines()[-1])
    return peak, seconds


def run_form(form: str, home: Path, model: ModelConfig) -> None:
    """In the process of one form: prints what `measure` reads."""
    import safetensors.torch  # noqa: F401  what both import is not counted

    import k2model.export.adoption
    import k2model.export.conversion
    import k2model.model.transformer  # noqa: F401

    forms = Forms(home, model)
    if form != "export" and form in COMPARISONS:
        forms.export()
    before, start = resident("VmRSS"), time.perf_counter()
    getattr(forms, form)()
    seconds, peak = time.perf_counter() - start, resident("VmHWM") - before
    if form in ("load", "hold_and_load"):
        peak -= 4 * count_parameters(model)
    (home / "peer").unlink(missing_ok=True)
    print(json.dumps([peak / 1e6, seconds]))


def resident(line: str) -> int:
    """Bytes, of this program alone: getrusage counts what its parent held when it was started."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(found.split()[1] for found in text.splitlines() if found.startswith(line)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the model in fp32")
    parser.add_argument("--alone", action="store_true", help="ours only")
    parser.add_argument("--form", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    model = model_of(asked.gigabytes)
    if asked.form:
        run_form(asked.form[0], Path(asked.form[1]), model)
        return
    versions, lines = {"torch": version("torch"), "safetensors": version("safetensors")}, []
    size, largest = 4 * count_parameters(model) / 1e6, 4 * model.vocab_size * model.hidden_size / 1e6
    print(f"{size:,.0f} MB in fp32, its largest tensor {largest:,.0f}")
    print(f"{'':8} {'ours MB':>9} {'peer MB':>9} {'ratio':>7}   seconds ours/peer")
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, peer, what) in COMPARISONS.items():
            our_peak, our_time = measure(ours, Path(folder), asked.gigabytes)
            if asked.alone:
                print(f"{name:8} {our_peak:9,.0f}   {our_time:.0f} s")
                continue
            peer_peak, peer_time = measure(peer, Path(folder), asked.gigabytes)
            ratio = our_peak / peer_peak
            print(f"{name:8} {our_peak:9,.0f} {peer_peak:9,.0f} {ratio:7.4f}   {our_time:.0f}/{peer_time:.0f}   {what}")
            lines.append({
                "name": f"memory: {name}", "ours": round(our_peak, 1), "peer": round(peer_peak, 1),
                "ratio": round(ratio, 4), "unit": "MB of peak resident memory", "versions": versions,
            })  # fmt: skip
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
