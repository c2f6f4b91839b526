"""Files of people and of strangers that are nested without end, or name values that are none: an error with a name."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.stack.config import load
from k2model.artifacts import Identity, PartedStep, Store
from k2model.artifacts.shares import make_share
from k2model.errors import K2Error
from k2model.evals.harness.data import _files
from k2model.export.architecture import parse_config
from k2model.export.weights import read_header, weights_files
from k2model.ingest.inputs import list_inputs
from k2model.judges.packages import PackageFiles
from k2model.recipe import chosen_recipe
from k2model.recipe.schema import SourceConfig
from k2model.recipe.task_files import read_tasks
from k2model.registry.gates import Registration
from k2model.safety.suites import public_tests
from k2model.synthesis import load_job
from k2model.synthesis.behaviours import read_queries
from k2model.synthesis.teachers.record import Record
from k2model.synthesis.teachers.wire import reply_of
from k2model.tokens import K2Tokenizer
from k2model.validation.documents.step import read_statistics

DEEP = "[" * 200_000
#: Nine names for nine times as much each: a few lines that say 9**10 values.
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 11)
)  # fmt: skip


def tasks(text: str, folder: Path) -> object:
    (folder / "tasks.yaml").write_text(text)
    return read_tasks(str(folder / "tasks.yaml"))


def job(text: str, folder: Path) -> object:
    (folder / "job.toml").write_text(text)
    return load_job(folder / "job.toml")


def header(text: str, _: Path) -> object:
    data = struct.pack("<Q", len(text)) + text.encode()
    return read_header(io.BytesIO(data), len(data) + 4, "model.safetensors", "x")


def saved(text: str, folder: Path) -> object:
    """A dataset as `save_to_disk` leaves it."""
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(text)
    return list_inputs(SourceConfig("web", location=str(folder)))


def card(text: str, folder: Path) -> object:
    """A dataset whose card declares its files."""
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    return list_inputs(SourceConfig("web", location=str(folder)))


def record(text: str, folder: Path) -> object:
    (folder / "calls.jsonl").write_text(f"{text}\n")
    with Record.opened(folder / "calls.jsonl") as opened:
        return reply_of(opened.answer("a")[0])


def queries(text: str, folder: Path) -> object:
    (folder / "queries.jsonl").write_text(f"{text}\n")
    return read_queries(str(folder / "queries.jsonl"))


def public(text: str, folder: Path) -> object:
    (folder / "train.jsonl").write_text(f"{text}\n")
    return _files(folder)


def seeds(text: str, folder: Path) -> object:
    (path := folder / "pyrit/datasets/seed_datasets/local/adv_bench.prompt").parent.mkdir(parents=True)
    path.write_text(text)
    return public_tests(PackageFiles(str(folder)))


def stack(text: str, folder: Path) -> object:
    (folder / "stack.json").write_text(text)
    return load(folder)


def share(text: str, folder: Path) -> object:
    store = Store.open(folder)
    step = PartedStep(lambda: Identity("corpus", "1", {}), lambda: [], print, print)
    name = step.identity.name
    store.files_of(f"_listed/{name}").write("0123456789abcdef.json", text.encode())
    return make_share(store, step, name, "0123456789abcdef", 1)


ANSWERED = '{"fingerprint": "a", "reply": %s, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "read, text",
    [
        (tasks, "[" * 5_000), (tasks, "a: " + "{a: " * 5_000), (tasks, "a: 2026-99-99"),
        (tasks, BOMB + "name: *a10\n"), (tasks, f"{BOMB}*a10 : x\n"),
        (job, f"a = {'[' * 5_000}"), (job, "a = 1979-99-99"),
        *((lambda text, _: parse_config(text.encode(), "x"), text) for text in (DEEP, "[]", '{"a": 1, "a": 2}')),
        *((header, text) for text in (DEEP, "[]", '{"a": 3}', '{"__metadata__": 1, "a": ' + DEEP)),
        *((lambda text, _: weights_files(["a"], text.encode(), "x"), text)
          for text in (DEEP, '{"weight_map": []}', '{"weight_map": {"a": "../b"}}')),
        *((lambda text, _: K2Tokenizer(text), text) for text in (DEEP, "[]", "{}", '{"added_tokens": [1]}', "x")),
        (lambda text, _: chosen_recipe("smoke", {"corpus.sources.+": text}), DEEP),
        *((saved, text) for text in (DEEP, "[]", '{"_data_files": 3}', '{"_data_files": ["a"]}',
                                     '{"_data_files": [{"filename": 3}]}')),
        *((card, text) for text in ("[" * 5_000, "configs: 3", "configs: [a]", "configs: [{data_files: 3}]",
                                    "configs: [{data_files: {a: b}}]", "configs: [{data_files: [{split: train}]}]",
                                    "configs: [{data_dir: 2026-01-01}]", f"{BOMB}configs: [{{config_name: *a10}}]")),
        *((record, text) for text in (DEEP, "[]", "{}", '{"fingerprint": 3}', '{"fingerprint": "a"}', ANSWERED % "3",
                                      ANSWERED % "{}", ANSWERED % '{"content": "a", "trace": "b", "calls": [3]}')),
        *((queries, text) for text in (DEEP, "3", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"))),
        *((public, text) for text in (DEEP, "3", "{")),
        *((seeds, text) for text in ("[" * 5_000, "3", "seeds: [a]", "seeds: [{value: 3}]", "a: 2026-99-99",
                                     f"{BOMB}seeds: [{{value: *a10}}]")),
        *((stack, text) for text in (DEEP, "[]", '{"ports": {}, "secrets": {}}', '{"ports": 1e999}')),
        *((share, text) for text in (DEEP, "[]", '[["a", "{"]]')),
        *((lambda text, _: read_statistics(text.encode(), "x"), text)
          for text in (DEEP, "[]", '{"train": {"lengths": 3}}')),
        *((lambda text, _: Registration.from_json(text), text) for text in (DEEP, "[]", "{", '{"gates": [3]}')),
    ],
)  # fmt: skip
def test_it_is_named(read: Callable[[str, Path], object], text: str, tmp_path: Path) -> None:
    with pytest.raises(K2Error) as caught:
        read(text, tmp_path)
    assert len(str(caught.value)) < 3_000
