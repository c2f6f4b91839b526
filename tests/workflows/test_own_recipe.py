"""A recipe of a user's own, outside of the project: other phases than K2's, a branch, own text and chats."""

import json
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.smoke import ROOT, command, environment, made

RECIPE = """
from dataclasses import replace
from pathlib import Path

from k2model.recipe import Recipe
from k2model.recipe.laptop import smoke
from k2model.recipe.schema import CorpusConfig, FieldMapping, MixtureEntry, PhaseKind, SourceConfig

HERE = Path(__file__).parent


def garden() -> Recipe:
    base = smoke()
    text = SourceConfig("notes", location=str(HERE / "notes.jsonl"), domain="prose", licence="CC0-1.0", heldout=0.1)
    chats = SourceConfig("talks", location=str(HERE / "talks.jsonl"), domain="chat", licence="CC0-1.0", heldout=0.1,
                         fields=FieldMapping(text="", messages="messages"))
    first = replace(base.phase("pretrain"), name="roots", steps=4, mixture=(MixtureEntry("notes", 1.0),))
    tuned = replace(base.phase("sft"), parent="roots", steps=3, mixture=(MixtureEntry("talks", 1.0),))
    return replace(
        base,
        name="garden",
        corpus=CorpusConfig(sources=(text, chats), heldout_items=8),
        validation=replace(base.validation, min_documents_per_source=5, max_epochs=500.0),
        phases=(first, replace(tuned, name="flower"), replace(tuned, name="fruit", seed=3)),
        evaluation=replace(base.evaluation, families=()),
        gates=(),
        notes=(),
    )
"""


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("garden")
    rng = Random(0)
    words = [f"w{n}" for n in range(400)]
    notes = [" ".join(rng.choice(words) + " of the" for _ in range(40)) for _ in range(60)]
    talks = [[{"role": "user", "content": f"Where grows {rng.choice(words)} {n}?"},
              {"role": "assistant", "content": f"Behind the {rng.choice(words)}."}] for n in range(60)]  # fmt: skip
    (home / "notes.jsonl").write_text("".join(json.dumps({"text": note}) + "\n" for note in notes))
    (home / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    (home / "garden.py").write_text(RECIPE)
    run = {"cwd": ROOT, "env": environment(home) | {"K2_RECIPE": str(home / "garden.py")}}
    result = subprocess.run(command(), **run, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return home, result


def test_every_phase_is_trained_scored_and_registered_by_its_own_name(garden):
    home, result = garden
    trained = [r["config"]["phase"] for r in made(home).values() if r["step"] == "checkpoint"]
    assert sorted((phase["name"], phase["parent"]) for phase in trained) == [
        ("flower", "roots"), ("fruit", "roots"), ("roots", ""),
    ]  # fmt: skip
    assert "flower" in result.stdout and "promotion none" in result.stdout
    from mlflow import MlflowClient

    versions = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").search_model_versions("name='k2-garden'")
    assert sorted(version.tags["k2.phase"] for version in versions) == ["flower", "fruit", "roots"]


def test_report_and_release_tell_of_the_phases_there_are(garden):
    home, _ = garden
    (page,) = (home / "store/report").glob("*/attachments/index.html")
    html = page.read_text()
    assert "fruit" in html and "mid_1" not in html and "notes" in html
    (release,) = (home / "store/release").glob("*/MODEL_CARD.md")
    assert "flower" in release.read_text() and "pretrain" not in release.read_text().replace("from_pretrained", "")
