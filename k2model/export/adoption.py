"""The steps that adopt a model from outside: its weights as a training state, and as an export.

It is a folder in Hugging Face's form or a release of this project, on a disk or an object store. All that its small
files and the headers of its weights can tell is told when a step is built, so that `k2 plan` refuses what a run would;
the weights themselves are `conversion`'s.
"""

import json
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from k2model.artifacts import ArtifactRef, Identity, Step, Store, describe_file, read_json, read_json_file
from k2model.export.architecture import (
    CONFIG,
    RELEASED,
    TRAINING_STATE,
    AdoptionError,
    difference,
    parse_config,
    read_architecture,
)
from k2model.export.source import Released, Source
from k2model.export.step import form_identity, write_model
from k2model.export.weights import (
    INDEX,
    WeightsFile,
    check_tensors,
    read_header,
    weights_files,
)
from k2model.ingest.names import is_licence
from k2model.model import count_parameters
from k2model.recipe.fields import without_places
from k2model.recipe.schema import AdoptedModel, ExportConfig, ModelConfig
from k2model.recipe.validate import hub_licence
from k2model.versions import STEP_VERSIONS

RECORD, LOCATION = "source.json", "attachments/location.json"
WITH_IT = "with_it"  # the folder of the artifact with the small files that lay beside the weights
TOKENIZER, README = "tokenizer.json", "README.md"
_SMALL = (
    CONFIG, "generation_config.json", TOKENIZER, "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", README,
)  # fmt: skip
_STATED_LICENCE = re.compile(rb"^license:[ \t]*['\"]?([\w.+-]+)", re.MULTILINE)


class _State(TypedDict):
    optimizer_steps: int


def adopted_checkpoint_step(model: ModelConfig, adopted: AdoptedModel, released: Released | None) -> Step:
    """A training state of the weights, step 0, with `source.json` (what was adopted, from what files); kind
    `adopted_checkpoint`. `released`: what a release at the location says of itself.

    Raises AdoptionError, which names file, field and both values, for a model that is not whole, has not the shape of
    `model`, or is of an architecture that K2's cannot hold; for values that are not finite when it is made.
    """
    opened = _Opened(model, adopted, released)
    return Step(opened.identity, opened.produce)


def specification_of(adopted: AdoptedModel, released: Released | None) -> bytes:
    """The `tokenizer.json` of an adopted model. Raises AdoptionError."""
    return _source(adopted, released).read(_inside(TOKENIZER, released))


def read_record(store: Store, checkpoint: ArtifactRef) -> dict[str, Any]:
    """What `source.json` of an adopted checkpoint says, and the location that it was read from."""
    named = dict[str, Any]
    return read_json(named, store, checkpoint, RECORD) | read_json(named, store, checkpoint, LOCATION)


def _source(adopted: AdoptedModel, released: Released | None) -> Source:
    return Source(f"adopted.{adopted.name}.location='{adopted.location}'", adopted.location, released)


def _inside(path: str, released: Released | None) -> str:
    return f"{RELEASED}/{path}" if released is not None else path


class _Opened:
    """An adopted model whose small files and headers were read and found sound."""

    def __init__(self, model: ModelConfig, adopted: AdoptedModel, released: Released | None) -> None:
        self.model, self.adopted, self.released = model, adopted, released
        self.source = source = _source(adopted, released)
        self.where = source.where
        below = _inside("", released)
        paths = {path.removeprefix(below) for path in source.entries if path.startswith(below)}
        # What a folder without a config holds says best what it is: an adapter, GGUF, nothing of the kind.
        listed = weights_files(paths, source.read(below + INDEX) if INDEX in paths else None, self.where)
        self.config = parse_config(source.read(below + CONFIG), f"{self.where}: {CONFIG}")
        self.found = read_architecture(self.config, f"{self.where}: {CONFIG}")
        if wrong := difference(model, adopted, self.found):
            raise AdoptionError(
                f"{self.where}: {wrong}. Set them in the recipe; k2model.export.model_config_of and adopted_model_of "
                "read them from the folder"
            )
        self.small = [below + path for path in sorted(paths) if path in _SMALL or is_licence(path)]
        self._check_licence(below)
        self._check_vocabulary(below)
        self.files = [self._header(below + path) for path in listed]
        check_tensors(self.files, {below + path: names for path, names in listed.items()}, self.found, self.where)
        self.state = self._state() if adopted.training_state else []

    def _header(self, path: str) -> WeightsFile:
        with self.source.open(path) as file:
            return read_header(file, self.source.entries[path].size, path, self.where)

    def _check_licence(self, below: str) -> None:
        """The licence that the recipe states is the one that lies with the weights, where one does."""
        if self.released is not None:
            stated, said_in = self.released.licence, "the release's recipe"
        else:
            card = self.source.read(README) if README in self.source.entries else b""
            found = _STATED_LICENCE.search(card.split(b"\n---")[0]) if card.startswith(b"---") else None
            stated, said_in = (found[1].decode() if found else ""), README
        if stated and hub_licence(stated)[0] != hub_licence(self.adopted.licence)[0]:
            raise AdoptionError(
                f"{self.where}: adopted.{self.adopted.name}.licence='{self.adopted.licence}', but {said_in} says "
                f"'{stated}'. State the licence under which its weights were published"
            )

    def _check_vocabulary(self, below: str) -> None:
        """Every id that its tokenizer gives has a row."""
        if below + TOKENIZER not in self.source.entries:
            raise AdoptionError(
                f"{self.where} holds no {TOKENIZER}: the weights mean nothing without their tokenizer. "
                "`save_pretrained` of its fast tokenizer of transformers writes it"
            )
        content = parse_config(self.source.read(below + TOKENIZER), f"{self.where}: {TOKENIZER}")
        try:
            vocabulary = (content.get("model") or {}).get("vocab") or {}
            ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else [*range(len(vocabulary))]
            size = max([*ids, *(token["id"] for token in content.get("added_tokens") or [])], default=-1) + 1
        except (TypeError, KeyError, AttributeError) as error:
            raise AdoptionError(f"{self.where}: {TOKENIZER} is none ({error}); get it again") from error
        if size > self.found.model.vocab_size:
            raise AdoptionError(
                f"{self.where}: its {TOKENIZER} gives ids up to {size - 1}, but the embedding has "
                f"{self.found.model.vocab_size} rows (vocab_size of {CONFIG}): they are of different models"
            )

    def _state(self) -> list[str]:
        """The files of a release's training state."""
        files = (
            []
            if self.released is None
            else sorted(p for p in self.released.files if p.startswith(f"{TRAINING_STATE}/"))
        )
        said = f"adopted.{self.adopted.name}.training_state=True, but"
        if not files:
            raise AdoptionError(
                f"{self.where}: {said} no optimizer state lies there; only a release whose recipe has "
                "release_training_state=True carries it. Set training_state=False and the phase's "
                "keep_optimizer_state=False to go on with the weights alone"
            )
        if self.model.vocab_size != self.found.model.vocab_size:
            raise AdoptionError(
                f"{self.where}: {said} model.vocab_size={self.model.vocab_size} adds rows to its "
                f"{self.found.model.vocab_size}, for which there is no optimizer state; set them equal"
            )
        return files

    @property
    def identity(self) -> Identity:
        used = self.small + (self.state or [file.path for file in self.files])
        config = {
            "adopted": without_places(self.adopted),
            "model": self.model,
            "files": {path: self.source.digest(path) for path in used},
            "release": self.released.manifest if self.released is not None else "",
        }
        return Identity("adopted_checkpoint", STEP_VERSIONS["adopted_checkpoint"], config)

    def produce(self, folder: Path) -> dict[str, float]:
        from k2model.artifacts.files import LocalFiles
        from k2model.export.conversion import convert
        from k2model.training.checkpoint import FINAL, Progress, publish

        for name in (WITH_IT, FINAL, "attachments"):
            (folder / name).mkdir()
        read: dict[str, str] = {}  # sha256 by path
        for path in self.small:
            with self.source.checked(path) as file:
                (folder / WITH_IT / path.rpartition("/")[2]).write_bytes(b"".join(file.rest()))
            read[path] = file.sha256
        appended = self._check_tokenizer(folder)
        final = folder / FINAL
        if self.state:
            shards, steps = self._copy_state(final, read)
        else:
            shards, steps = convert(self.source, self.files, self.found, self.model, final, read), 0
        progress = Progress(self.adopted.name, 0, 0, len(shards), steps, "", "")
        publish(LocalFiles(folder), FINAL, [describe_file(final, name) for name in shards], progress)
        record = self._record(read, appended, steps)
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / LOCATION).write_text(json.dumps({"location": self.adopted.location}) + "\n", encoding="utf-8")
        return {"parameters": float(record["parameters"]), "rows_added": float(record["rows_added"])}

    def _check_tokenizer(self, folder: Path) -> int:
        """That the project can work with it, before anything else is made; how many entries it is given."""
        from k2model.tokens.adoption import adopted

        tokenizer, appended = adopted((folder / WITH_IT / TOKENIZER).read_bytes(), f"{self.where}: {TOKENIZER}")
        if (size := tokenizer.get_vocab_size()) > self.model.vocab_size:
            raise AdoptionError(
                f"{self.where}: its tokenizer has {size} entries with K2's special tokens, of which {appended} are "
                f"appended, model.vocab_size={self.model.vocab_size} rows; set tokenizer.vocab_size={size} and "
                "model.vocab_size to no less"
            )
        return appended

    def _copy_state(self, final: Path, read: dict[str, str]) -> tuple[list[str], int]:
        """The shards of a release's training state, and how many steps its optimizer has seen."""
        from k2model.training.checkpoint import STATE, SUFFIX

        for path in self.state:
            with self.source.checked(path) as file, (final / path.rpartition("/")[2]).open("wb") as out:
                out.writelines(file.rest())
            read[path] = file.sha256
        shards = sorted(path.name for path in final.iterdir() if path.name.endswith(SUFFIX))
        state = read_json_file(_State, final, STATE)
        for other in [path for path in final.iterdir() if path.name not in shards]:
            other.unlink()
        return shards, state["optimizer_steps"]

    def _record(self, read: dict[str, str], appended: int, steps: int) -> dict[str, Any]:
        """`source.json`: what was adopted, and what was done to it. The same wherever the files lay."""
        types = Counter(one.dtype for file in self.files for one in file.tensors if not one.derived)
        released = self.released
        return {
            "name": self.adopted.name,
            "source": self.adopted.source,
            "licence": self.adopted.licence,
            "release": None if released is None else {
                "recipe": released.recipe, "phase": released.phase, "manifest": released.manifest,
            },
            "files": dict(sorted(read.items())),
            "config": asdict(self.found.model),
            "rope_theta": self.found.rope_theta,
            "sequence_length": self.found.sequence_length,
            "tied": self.found.tied,
            "types": dict(sorted(types.items())),
            "parameters": count_parameters(self.model),
            "entries_appended": appended,
            "rows_added": self.model.vocab_size - self.found.model.vocab_size,
            "optimizer_steps": steps if self.state else None,
        }  # fmt: skip


def adopted_export_step(
    store: Store, model: ModelConfig, adopted: AdoptedModel, checkpoint: ArtifactRef,
    form: ExportConfig = ExportConfig(),
) -> Step:  # fmt: skip
    """The adopted weights as transformers loads them, with the tokenizer and template that came with them; kind
    `adopted_export`. As `form` says, the head beside the embedding, rows added: what a phase starts from."""
    stated = {"model": model, "rope_theta": adopted.rope_theta, "sequence_length": adopted.sequence_length}
    stated |= form_identity(form, model)
    identity = Identity("adopted_export", STEP_VERSIONS["adopted_export"], stated, {"checkpoint": checkpoint})

    def produce(folder: Path) -> dict[str, float]:
        from k2model.training import open_model_state

        source = store.fetch(checkpoint, lambda path: path.startswith(f"{WITH_IT}/")) / WITH_IT
        config = read_json_file(dict[str, Any], source, CONFIG)
        for path in sorted(source.iterdir()):
            if path.name not in (CONFIG, README):
                (folder / path.name).write_bytes(path.read_bytes())
        ids = {name: config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
        state = open_model_state(store, checkpoint)
        write_model(folder, state, model, adopted.rope_theta, adopted.sequence_length, ids, form)
        return {"parameters": float(count_parameters(model))}

    return Step(identity, produce)
