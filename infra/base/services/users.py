"""Make the login of the jobs on the MLflow server, or give it its password anew: `python users.py http://mlflow:5000`.

Jobs are no administrators: by auth.ini they read everything and may change what they made themselves. Waits for the
server, which takes minutes on a fresh database.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request

ADDRESS = sys.argv[1]
SECONDS = 600.0


def ask(method: str, path: str, body: dict | None = None) -> dict:
    """The answer of the API as the administrator. Raises HTTPError for a refusal, OSError for no answer."""
    login = ":".join(os.environ["MLFLOW_AUTH_ADMIN_" + part] for part in ("USERNAME", "PASSWORD")).encode()
    headers = {"Authorization": "Basic " + base64.b64encode(login).decode(), "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    asked = urllib.request.Request(f"{ADDRESS}/api/2.0/mlflow/{path}", data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")


def wait() -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            ask("POST", "experiments/search", {"max_results": 1})
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 or time.monotonic() > deadline:
                raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(2)


def main() -> None:
    name, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    wait()
    try:
        ask("GET", f"users/get?username={name}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        ask("POST", "users/create", {"username": name, "password": password})
        print(f"login '{name}' made")
        return
    ask("PATCH", "users/update-password", {"username": name, "password": password})
    print(f"login '{name}' was there; it has the password of the Secret")


if __name__ == "__main__":
    main()
