"""Put the dumps of a folder into the bucket for backups, read them back, and remove what is older than KEEP_DAYS.

    python upload.py /backup            # BUCKET, KEEP_DAYS; AWS_* as usual

Each run has a folder of its own, named by its time in UTC: postgres/2026-11-29T02-00-00Z/mlflow.dump, beside a file of
sha256 sums, which is written last: a folder without it is not whole. The newest whole one is never removed.
"""

import hashlib
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

PREFIX, SUMS, TIME = "postgres", "SHA256SUMS", "%Y-%m-%dT%H-%M-%SZ"


def sha256(body: Any) -> str:
    digest = hashlib.sha256()
    while block := body.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def upload(client: Any, bucket: str, folder: Path, now: datetime) -> str:
    """Returns the backup's prefix. Raises OSError when there is no dump, or the bucket gives back another."""
    dumps = sorted(folder.glob("*.dump"))
    if not dumps:
        raise OSError(f"no *.dump in {folder}: the dump before has failed")
    prefix, lines = f"{PREFIX}/{now.strftime(TIME)}", []
    for path in dumps:
        with path.open("rb") as file:
            digest = sha256(file)
        client.upload_file(str(path), bucket, f"{prefix}/{path.name}")
        found = sha256(client.get_object(Bucket=bucket, Key=f"{prefix}/{path.name}")["Body"])
        if found != digest:
            raise OSError(f"s3://{bucket}/{prefix}/{path.name} has sha256 {found}, expected {digest}")
        lines.append(f"{digest}  {path.name}\n")
    client.put_object(Bucket=bucket, Key=f"{prefix}/{SUMS}", Body="".join(lines).encode())
    return prefix


def prune(client: Any, bucket: str, before: datetime) -> list[str]:
    """Remove the backups made before a time, but the newest that is whole. Returns their prefixes."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{PREFIX}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    whole = sorted(key.rpartition("/")[0] for key in keys if key.endswith(f"/{SUMS}"))
    old = {
        prefix for prefix in {key.rpartition("/")[0] for key in keys}
        if prefix.rpartition("/")[2] < before.strftime(TIME) and prefix not in whole[-1:]
    }  # fmt: skip
    for key in sorted(keys):
        if key.rpartition("/")[0] in old:
            client.delete_object(Bucket=bucket, Key=key)
    return sorted(old)


def main() -> None:
    bucket, now = os.environ["BUCKET"], datetime.now(UTC)
    client = boto3.client("s3")
    prefix = upload(client, bucket, Path(sys.argv[1]), now)
    gone = prune(client, bucket, now - timedelta(days=float(os.environ["KEEP_DAYS"])))
    print(f"s3://{bucket}/{prefix} is whole; {len(gone)} older backups removed")


if __name__ == "__main__":
    main()
