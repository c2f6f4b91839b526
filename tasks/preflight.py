"""What would not run in a cluster, told before anything is packaged: the setting, what it is, what is wanted.

Images and store that no pod can reach, secrets where everyone reads them, and pods that Flyte would cut down: it does
so without a word, and what asked for eight GPUs runs on one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from k2model.errors import K2Error, nearest
from k2model.recipe import Recipe
from k2model.recipe.evaluation import AnswerCheck
from k2model.settings import holds_secret, masked, recipe_changes, secret_name
from tasks.pods import pods

IMAGES = ("data", "train", "eval")
MLFLOW = "http://mlflow.k2-services.svc.cluster.local:5000"  # as infra/ names it
VALUES = Path(__file__).parents[1] / "infra" / "flyte"  # of both charts of Flyte
#: The words of Flyte's `task_resources` for Kubernetes' names.
LIMITED = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "ephemeralStorage", "nvidia.com/gpu": "gpu"}


class PackageError(K2Error):
    """A recipe or setting with which pods could not run or would not be the same, or workflows that pyflyte cannot
    take."""


def named_images(given: Iterable[str]) -> dict[str, str]:
    """Of `NAME=ADDRESS`. Raises PackageError for another form or name."""
    found = {}
    for text in given:
        name, equals, address = text.partition("=")
        if not equals or name not in IMAGES:
            raise PackageError(f"--image {text}: expected NAME=ADDRESS; {nearest(name, IMAGES)}")
        found[name] = address
    return found


def chosen_images(recipe: Recipe, given: Mapping[str, str]) -> dict[str, str]:
    """The address of each image: the given one, else the recipe's; "" where there is neither."""
    return {name: given.get(name) or getattr(recipe.cluster, f"{name}_image") for name in IMAGES}


def refuse(recipe: Recipe, images: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Raises PackageError with all that is wrong; `settings` are what pods will have as plain variables."""
    problems = [
        *_image_problems(images),
        *_setting_problems(settings),
        *_overrides_problems(recipe_changes()),
        *_inbox_problems(recipe),
        *_sandbox_problems(recipe),
        *(f"{one} ({file})" for file, limits in flyte_limits().items() for one in cut_down(recipe, limits)),
    ]
    if problems:
        raise PackageError(f"recipe '{recipe.name}' cannot run in a cluster:\n  " + "\n  ".join(problems))


def _image_problems(images: Mapping[str, str]) -> Iterator[str]:
    for name, address in images.items():
        wanted = f"set cluster.{name}_image (or --image {name}=...) to registry/repository@sha256:..."
        repository, _, digest = address.rpartition("@sha256:")
        registry, below, _ = repository.partition("/")
        if not address:
            yield f"there is no {name} image; {wanted}"
        elif address.count("@") > 1:
            yield f"the {name} image's address holds a user or password; {wanted}, and these into an imagePullSecret"
        elif not re.fullmatch("[0-9a-f]{64}", digest) or not repository:
            yield f"the {name} image '{address}' has no digest, so that two pods of a job may get two images; {wanted}"
        elif not below or not re.search(r"[.:]|^localhost$", registry):
            yield f"the {name} image '{address}' names no registry, so that each node asks its own default; {wanted}"


def _setting_problems(settings: Mapping[str, str]) -> Iterator[str]:
    store, tracking = settings.get("K2_STORE", ""), settings.get("MLFLOW_TRACKING_URI", "")
    if not re.match(r"(?!file:)[a-z0-9]+://[^/]", store):
        was = f"K2_STORE='{store}' is a place on one machine" if store else "K2_STORE is not set"
        yield f"{was}; set it to a store that all pods reach, e.g. s3://bucket/prefix"
    if not tracking:
        yield f"MLFLOW_TRACKING_URI is not set; set it to the tracking server, e.g. {MLFLOW}"
    elif tracking.startswith("sqlite:") or "://" not in tracking:
        yield f"MLFLOW_TRACKING_URI='{masked(tracking)}' is a file on one machine; set it to the tracking server"
    for name, value in settings.items():
        if holds_secret(value) or secret_name(name):
            yield (
                f"{name}='{masked(value)}' holds a user or password, which everyone reads who may look at a pod; leave "
                "it out of the address and put it into the Secret that cluster.secret names"
            )


def _overrides_problems(changes: str) -> Iterator[str]:
    """Overrides travel as a plain variable as well."""
    if holds_secret(changes):
        yield "K2_OVERRIDES holds a user or password, which everyone reads who may look at a pod; leave it out"


def _inbox_problems(recipe: Recipe) -> Iterator[str]:
    """Batches are put there by others, and every pod of a line looks there."""
    inbox = recipe.continual.inbox
    if recipe.continual and inbox and not re.match(r"(?!file:)[a-z0-9]+://[^/]", inbox):
        yield (
            f"continual.inbox='{inbox}' is a place on one machine; set it to one that all pods reach, e.g. "
            "s3://bucket/inbox, or leave it out: it is then a folder of the store"
        )


def _sandbox_problems(recipe: Recipe) -> Iterator[str]:
    """Programs of a model run in a sandbox alone, which a container's usual seccomp profile refuses to make."""
    if recipe.cluster.sandbox_profile:
        return
    named = [f"evaluation.benchmarks.{one.name}.check=code" for one in recipe.evaluation.benchmarks
             if one.check is AnswerCheck.CODE]  # fmt: skip
    if "tool_code" in recipe.evaluation.families:
        named.append("tool_code of evaluation.families")
    if named:
        yield (
            f"{', '.join(named)} would run programs of a model, and no pod may make a sandbox for them; put "
            "infra/nodes/k2-sandbox.json onto the nodes that evaluate and set cluster.sandbox_profile to "
            "profiles/k2-sandbox.json (docs/sandbox.md), or leave it out"
        )


def flyte_limits() -> dict[str, dict[str, str]]:
    """`task_resources.limits` of our Helm values, by file. Raises PackageError where they are not there."""
    import yaml

    found = {}
    for file, path in (("flyte-core.yaml", ("configmap", "task_resource_defaults")),
                       ("flyte-binary.yaml", ("configuration", "inline"))):  # fmt: skip
        try:
            values: Any = yaml.safe_load((VALUES / file).read_text(encoding="utf-8"))
            for key in (*path, "task_resources", "limits"):
                values = values[key]
            found[f"infra/flyte/{file}"] = {key: str(value) for key, value in values.items()}
        except (OSError, KeyError, TypeError) as error:
            raise PackageError(
                f"{VALUES / file} has no task_resources.limits ({error!r}), so it cannot be said what Flyte would cut; "
                "package from a checkout of the project"
            ) from error
    return found


def cut_down(recipe: Recipe, limits: Mapping[str, str]) -> Iterator[str]:
    """What pods would get less of than they ask for, once for each setting of the recipe."""
    from kubernetes.utils.quantity import parse_quantity

    told = set()
    for pod in pods(recipe):
        for resource, amount in pod.resources.items():
            limit = limits.get(LIMITED.get(resource, ""), "0")
            if 0 < parse_quantity(limit) < parse_quantity(amount) and (pod.setting, resource) not in told:
                told.add((pod.setting, resource))
                yield (
                    f"a pod for {pod.kind.value} asks for {resource}={amount} ({pod.setting}), which Flyte cuts to "
                    f"{limit} without a word; ask for less, or raise task_resources.limits.{LIMITED[resource]}"
                )
