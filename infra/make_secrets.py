"""The Secrets that infra/ names, as manifests on stdout.

    python infra/make_secrets.py local --file k2-secrets.json | kubectl apply --server-side -f -

Values come from the file, which is made with new ones where it does not exist (mode 0600: keep it, it is the only
copy outside of the cluster). To change one, remove its line and run this again. `cloud` takes the keys of the object
store and the database's passwords from the file, or from the environment under the same names, and makes only what is
the cluster's own. Nothing is written to a terminal, where it would stay in sight.
"""

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

USERS = {"jobs": ("k2-store", "k2-flyte"), "mlflow": ("k2-mlflow",), "flyte": ("k2-flyte",), "backup": ("k2-backup",)}
RIGHTS = ("Read", "Write", "List", "Tagging")

#: Names of what is generated, and of what a cloud's own services have given out.
OWN = (
    "MLFLOW_ADMIN_PASSWORD", "MLFLOW_JOBS_PASSWORD", "MLFLOW_SESSION_KEY", "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_KEY", "S3_ADMIN_SECRET_KEY",
)  # fmt: skip
OUTSIDE = (
    *(f"S3_{user.upper()}_{part}_KEY" for user in USERS for part in ("ACCESS", "SECRET")),
    *(f"POSTGRES_{user}_PASSWORD" for user in ("ADMIN", "MLFLOW", "FLYTE", "BACKUP")),
)
NAMED = {f"S3_{user.upper()}_ACCESS_KEY": f"k2-{user}" for user in USERS}  # access keys of our own S3 are names


def values(overlay: str, file: Path) -> dict[str, str]:
    """All values by name, the file completed. Raises SystemExit when a cloud's are missing, naming them."""
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    known |= {name: value for name in OUTSIDE if name not in known and (value := os.environ.get(name))}
    if overlay == "cloud":
        # What only our own PostgreSQL has need of is not asked for.
        missing = [name for name in OUTSIDE if not known.get(name) and name != "POSTGRES_ADMIN_PASSWORD"]
        if missing:
            sys.exit(
                f"{file} and the environment lack {', '.join(missing)}: the object store and the database give them"
            )
    else:
        known = {name: NAMED.get(name) or secrets.token_urlsafe(32) for name in OUTSIDE} | known
    known = {name: secrets.token_urlsafe(32) for name in OWN} | known
    if not file.exists():
        file.touch(mode=0o600)
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known


def identities(known: dict[str, str]) -> str:
    """Who may do what with our own S3: each user with its own buckets, none of which it can make or remove."""

    def identity(name: str, access: str, secret: str, actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}

    made = [identity("admin", "k2-admin", known["S3_ADMIN_SECRET_KEY"], ["Admin", *RIGHTS])]
    for user, buckets in USERS.items():
        access, secret = (known[f"S3_{user.upper()}_{part}_KEY"] for part in ("ACCESS", "SECRET"))
        made.append(identity(user, access, secret, [f"{right}:{bucket}" for bucket in buckets for right in RIGHTS]))
    return json.dumps({"identities": made}, indent=1)


def contents(overlay: str, known: dict[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """What each Secret holds, by namespace and name."""

    def s3(user: str) -> dict[str, str]:
        return {f"AWS_{name}": known[f"S3_{user}_{part}_KEY"]
                for name, part in (("ACCESS_KEY_ID", "ACCESS"), ("SECRET_ACCESS_KEY", "SECRET"))}  # fmt: skip

    login = {"MLFLOW_TRACKING_USERNAME": "k2", "MLFLOW_TRACKING_PASSWORD": known["MLFLOW_JOBS_PASSWORD"]}
    flyte = {
        "database": {"postgres": {"password": known["POSTGRES_FLYTE_PASSWORD"]}},
        "storage": {"stow": {"config": {
            "auth_type": "accesskey",
            "access_key_id": known["S3_FLYTE_ACCESS_KEY"],
            "secret_key": known["S3_FLYTE_SECRET_KEY"],
        }}},
    }  # fmt: skip
    made = {
        ("k2", "k2-secrets"): s3("JOBS") | login,
        ("k2-services", "mlflow-jobs"): login,
        ("k2-services", "mlflow"): s3("MLFLOW") | {
            "PGPASSWORD": known["POSTGRES_MLFLOW_PASSWORD"],
            "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
            "MLFLOW_AUTH_ADMIN_PASSWORD": known["MLFLOW_ADMIN_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": known["MLFLOW_SESSION_KEY"],
        },
        ("k2-services", "backup"): s3("BACKUP") | {"PGPASSWORD": known["POSTGRES_BACKUP_PASSWORD"]},
        ("flyte", "flyte-config"): {"900-secrets.yaml": json.dumps(flyte)},
    }  # fmt: skip
    if overlay == "local":
        made["k2-services", "postgres"] = {
            "POSTGRES_PASSWORD": known["POSTGRES_ADMIN_PASSWORD"],
            **{f"{user}_PASSWORD": known[f"POSTGRES_{user}_PASSWORD"] for user in ("MLFLOW", "FLYTE", "BACKUP")},
        }
        made["k2-services", "seaweedfs"] = {
            "s3.json": identities(known),
            **{name: known[name] for name in ("WEED_JWT_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_KEY")},
        }
    return made


def main() -> None:
    options = argparse.ArgumentParser(description="Print the Secrets that infra/ names, for kubectl apply.")
    options.add_argument("overlay", choices=("local", "cloud"))
    options.add_argument("--file", type=Path, required=True, help="where the values are kept, 0600")
    given = options.parse_args()
    if sys.stdout.isatty():
        sys.exit("secrets are not shown on a terminal: pipe them into `kubectl apply -f -`")
    items = [
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
         "metadata": {"namespace": namespace, "name": name}, "stringData": data}
        for (namespace, name), data in contents(given.overlay, values(given.overlay, given.file)).items()
    ]  # fmt: skip
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout)


if __name__ == "__main__":
    main()
