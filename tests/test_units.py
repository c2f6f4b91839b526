"""Whole numbers are those that people write; durations round before they are cut into units, so that no line says 60 s
or 60 min."""

import pytest

from k2model.units import readable_count, readable_seconds, readable_size, whole_number


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0432, "43 ms"), (0.0996, "0.1 s"), (4.21, "4.2 s"), (9.97, "10 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"),
        (119.7, "2 min 00 s"), (3599.7, "1 h 00 min"), (3900, "1 h 05 min"), (86_399, "1 d 00 h"),
        (2 * 86_400 + 5 * 3600, "2 d 05 h"),
    ],
)  # fmt: skip
def test_seconds(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("-12", -12),
        ("0007", 7),
        ("\u00b2", None),
        ("\u0666", None),
        ("--5", None),
        ("9" * 5000, None),
        ("", None),
        ("1\n", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(("size", "text"), [(12, "12 B"), (1536, "1.5 KB"), (2.5e12, "2500.0 GB")])
def test_sizes(size: float, text: str) -> None:
    assert readable_size(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (999.4, "999"), (999.6, "1.0K"), (12_345, "12.3K"), (999_960, "1.00M"), (254_726_532_992, "254.73B"),
        (8_589_943_056_143, "8.590T"),
    ],
)  # fmt: skip
def test_counts(count: float, text: str) -> None:
    assert readable_count(count) == text
