"""The images: what their Dockerfiles say, what they install, and, where the tools are, one that is built and run."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from images import lock, selftest

ROOT = Path(__file__).parents[2]
IMAGES = ("data", "train", "eval", "mlflow")
HADOLINT = Path(sys.executable).with_name("hadolint")


def dockerfile(image: str) -> str:
    return (ROOT / "images" / image / "Dockerfile").read_text()


def instructions(image: str) -> list[tuple[str, str]]:
    """(instruction, argument) line by line, continuations joined."""
    joined = re.sub(r"\\\n\s*", " ", dockerfile(image))
    rows = [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, rest in rows]


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(image: str) -> None:
    done = subprocess.run(
        [HADOLINT, "--no-color", f"images/{image}/Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("image", IMAGES)
def test_both_stages_are_of_a_base_that_has_to_be_named(image: str) -> None:
    """No default: a digest that nobody here has pulled would be an invention, a tag is another image tomorrow."""
    said = instructions(image)
    assert said[0] == ("ARG", "BASE")
    assert [rest for name, rest in said if name == "FROM"] == ["${BASE} AS build", "${BASE}"]


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_nobody_in_particular_and_holds_no_secret(image: str) -> None:
    said = instructions(image)
    last = len(said) - 1 - [name for name, _ in said][::-1].index("FROM")
    assert [rest for name, rest in said[last:] if name == "USER"] == ["10001:10001"]
    assert said[-1][0] == "CMD"
    set_here = " ".join(rest for name, rest in said if name in ("ARG", "ENV"))
    names = re.findall(r"(\w+)=", set_here)
    assert not [name for name in names if re.search(r"PASS|SECRET|_KEY\b|CREDENTIAL|ACCESS", name)]


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_exists_and_is_let_into_the_context(image: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        path
        for name, rest in instructions(image)
        if name == "COPY" and "--from" not in rest
        for path in rest.split()[:-1]
    ]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in allowed, path


def test_what_the_code_imports_is_in_an_image() -> None:
    """Not in what only those who work on the project install: a pod would find that out."""
    files = [path for room in ("k2model", "tasks", "workflows") for path in (ROOT / room).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    named = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    modules = {name.partition(".")[0] for name in named} - sys.stdlib_module_names - {"k2model", "tasks", "workflows"}
    held = lock.closure([*lock.roots("train"), *lock.roots("eval")]) | lock.APART
    of = packages_distributions()
    assert len(modules) > 30
    modules -= {"mistral_common"}  # of `k2 tokenizer`, which says what to install where it is missing
    assert not [one for one in sorted(modules) if not held & {canonicalize_name(dist) for dist in of.get(one, ())}]


@pytest.mark.parametrize("image", IMAGES)
def test_requirements_are_complete_locked_and_hashed(image: str) -> None:
    """`python images/lock.py` writes them anew; this needs no network."""
    lines = (ROOT / "images" / image / "requirements.txt").read_text().splitlines()
    rows = [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines[1:]]
    assert all(rows), [line for line, row in zip(lines[1:], rows, strict=True) if not row]
    versions = {row[1]: row[2] for row in rows if row}
    assert versions.keys() == lock.closure(lock.roots(image)), "run `python images/lock.py`"
    assert versions == {name: lock.locked()[name] for name in versions}, "run `python images/lock.py`"
    torch = next(text for text in lock.project()["dependencies"] if text.startswith("torch=="))
    assert lines[0].startswith(f"# apart: {torch if image in ('train', 'eval') else 'nothing'};")


def test_what_an_image_leaves_out_is_what_its_check_expects_to_be_absent() -> None:
    assert lock.WITHOUT | {"mlflow": set()} == selftest.ABSENT


@pytest.mark.parametrize("image", ["data", "eval"])
def test_the_code_of_an_images_tasks_imports_without_what_it_leaves_out(image: str) -> None:
    script = (
        "import sys\n"
        f"absent = {sorted(name.replace('-', '_') for name in lock.WITHOUT[image])}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in absent: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import workflows.data, workflows.lifecycle\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("image", ["train", "eval"])
def test_the_work_of_a_self_test_passes_here(image: str) -> None:
    """In a process of its own, as in the image: a world of workers is joined in it."""
    imports = "selftest.imports('train');" if image == "train" else ""  # what the others are without is here
    script = f"from images import selftest; {imports} print(selftest.WORK[{image!r}]())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_base_without_digest_and_a_mistyped_image_are_refused() -> None:
    def told(*arguments: str) -> str:
        command = [sys.executable, "images/build.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr

    assert "is not by digest" in told("--base", "python:3.11-slim")
    assert "no image trian; there are data, train, eval, mlflow" in told("--base", "localhost/x", "trian")


def tools() -> str | None:
    """Why no image can be built here; None where one can."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: apt install buildah debootstrap)"
    if not os.environ.get("K2_TEST_IMAGES"):
        return "minutes and gigabytes: K2_TEST_IMAGES=mlflow (or all) builds images and runs their self-tests"
    return "needs root" if os.getuid() else None


@pytest.mark.skipif(tools() is not None, reason=f"no image is built: {tools()}")
@pytest.mark.timeout(3600)
def test_images_are_built_and_check_themselves() -> None:
    asked = os.environ["K2_TEST_IMAGES"]
    wanted = list(IMAGES) if asked == "all" else asked.split(",")
    torch = os.environ.get("TORCH_ARGS", "")
    command = [sys.executable, "images/build.py", "--engine", "buildah", "--debootstrap", "--tag", "test"]
    command += ["--lifecycle"] if "train" in wanted else []
    done = subprocess.run(
        [*command, f"--torch-args={torch}", *wanted], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for image in wanted:
        told = subprocess.run(
            ["buildah", "inspect", "--type", "image", f"localhost/k2-{image}:test"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        config = json.loads(told)["OCIv1"]["config"]
        assert config["User"] == "10001:10001"
        assert config["Labels"]["org.opencontainers.image.title"] == f"k2-{image}"
