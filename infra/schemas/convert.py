"""Turn a CustomResourceDefinition into a strict JSON Schema.

    python infra/schemas/convert.py kueue.x-k8s.io_clusterqueues.yaml v1beta2 \\
        "Kueue 0.19.2, https://github.com/kubernetes-sigs/kueue" infra/schemas/clusterqueue.json

An API server drops fields it does not know from a custom resource without a word, so a typing error in a manifest has
no effect at all. The schemas here refuse what the CRD does not name. Only structure and bounds are kept: no
descriptions, no defaults, no status, and none of Kubernetes' extensions (`x-kubernetes-*`), which JSON Schema does not
have. The second argument is the API version of the resource, the third what is written into the file as its origin.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = {
    "type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
    "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "required", "multipleOf",
}  # fmt: skip


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The structure of an OpenAPI v3 schema of a CRD, refusing unknown fields of every object that names some."""
    made: dict[str, Any] = {name: value for name, value in schema.items() if name in KEPT}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema and not schema.get("x-kubernetes-int-or-string"):
            made[name] = [{k: v for k, v in one.items() if k in KEPT} for one in schema[name]]
    if "items" in schema:
        made["items"] = strict(schema["items"])
    if "properties" in schema:
        made["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    return made


def convert(crd: dict[str, Any], version: str, source: str) -> dict[str, Any]:
    """The schema of a resource of one API version. Raises ValueError when the CRD has not that version."""
    spec = crd["spec"]
    versions = {one["name"]: one for one in spec["versions"]}
    if version not in versions:
        raise ValueError(f"{crd['metadata']['name']} has no version {version}, only {', '.join(versions)}")
    whole = versions[version]["schema"]["openAPIV3Schema"]
    made = strict({**whole, "properties": {k: v for k, v in whole["properties"].items() if k != "status"}})
    kind, group = spec["names"]["kind"], spec["group"]
    made["properties"] |= {
        "apiVersion": {"const": f"{group}/{version}"},
        "kind": {"const": kind},
        "metadata": {"type": "object"},
    }
    made["required"] = sorted({"apiVersion", "kind", "metadata", *made.get("required", ())})
    return {"$comment": f"{kind} {group}/{version}: structure of the CRD of {source} (Apache-2.0)", **made}


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    crd, version, source, out = sys.argv[1:]
    made = convert(yaml.safe_load(Path(crd).read_text()), version, source)
    Path(out).write_text(json.dumps(made, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
