"""When a call is made again, and after how long."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from k2model.corpus.synthesis.config import EndpointConfig

#: Worth another attempt: timeouts, conflicts, too many requests, and the server's own errors.
RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
#: No request will fare better: the address, the key or the model is wrong.
FATAL_STATUSES = frozenset({*range(300, 400), 401, 402, 403, 404, 405})


def wait_seconds(config: EndpointConfig, attempt: int, rng: Random) -> float:
    """Before attempt `attempt` + 1 (the first is 1): exponential, with full jitter."""
    longest = min(config.backoff_limit_seconds, config.backoff_seconds * 2.0 ** (attempt - 1))
    return rng.uniform(0.0, longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that a response asks to wait (`Retry-After`, as a number or a date); 0 when it does not."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
