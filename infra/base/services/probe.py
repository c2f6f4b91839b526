"""Whether MLflow answers as its clients ask: by its API, with a login, under the name of its service.

`/health` answers while every client is refused, by its Host header or because the database is gone.
"""

import base64
import os
import sys
import urllib.request

address, host = sys.argv[1:]  # http://127.0.0.1:5000 and the name under which clients know it
login = ":".join(os.environ["MLFLOW_AUTH_ADMIN_" + part] for part in ("USERNAME", "PASSWORD")).encode()
headers = {
    "Host": host,
    "Authorization": "Basic " + base64.b64encode(login).decode(),
    "Content-Type": "application/json",
}
asked = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/search", b'{"max_results": 1}', headers)
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=8).read()
