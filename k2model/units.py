"""Numbers as a person writes and reads them: whole ones, durations and sizes. What figures need of it (axis labels) is
theirs."""

import re


def whole_number(text: str) -> int | None:
    """'-12' -> -12; None for what is no whole number of at most 18 digits."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def readable_seconds(seconds: float) -> str:
    """0.043 -> 43 ms, 4.21 -> 4.2 s, 75 -> 1 min 15 s, 3900 -> 1 h 05 min, 190800 -> 2 d 05 h."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def readable_size(size: float) -> str:
    """1536 -> 1.5 KB."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def readable_count(count: float) -> str:
    """Tokens or documents: 950 -> 950, 12345 -> 12.3K, 8.59e12 -> 8.590T."""
    if round(count) < 1000:
        return f"{count:.0f}"
    for unit, digits in (("K", 1), ("M", 2), ("B", 2)):
        count /= 1000
        if round(count, digits) < 1000:
            return f"{count:.{digits}f}{unit}"
    return f"{count / 1000:.3f}T"
