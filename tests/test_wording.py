"""The wording that cai ships for real models: constitutions, requests and demonstrations."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parent.parent
CONSTITUTIONS = {"harmless": 18, "helpful": 8, "honest": 8}  # name -> least number of principles
REQUESTS = {"red-team": 10, "benign": 10, "borderline": 8}  # name -> least number of categories
SHOTS = ("few-shots/critique", "few-shots/judge", "few-shots/rating")
KIND = {"red-team": "harmful", "benign": "benign", "borderline": "borderline"}
WORDINGS = ("critique", "revision", "preference")
FRAME_WORDS = (
    "critique request",
    "revision request",
    "options:",
    "(a)",
    "(b)",
    "assistant:",
    "human:",
    "user:",
)
AGAINST_PREACHING = {"preachiness", "evasiveness", "over-refusal"}
CLEAR = "Nothing to change."
ALIKE = 0.8


def rows(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def principles(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomli.loads((ROOT / f"constitutions/{name}.toml").read_text())["principle"]
    return found


def said(prompt: str | list[dict[str, str]]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def near_duplicates(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of texts whose sets of words overlap by `ALIKE` or more (Jaccard)."""
    sets = [(text, frozenset(re.findall(r"\w+", text.lower()))) for text in texts]
    return [(a, b) for (a, x), (b, y) in combinations(sets, 2) if len(x & y) >= ALIKE * len(x | y)]


def test_near_duplicates_are_found() -> None:
    assert near_duplicates(["a b c d", "A, b; c d!", "a b c e"]) == [("a b c d", "A, b; c d!")]


@pytest.mark.parametrize("name", CONSTITUTIONS)
def test_constitution_is_wording_only(name: str) -> None:
    table = tomli.loads((ROOT / f"constitutions/{name}.toml").read_text())
    assert table["name"] == name
    assert table["about"]
    assert len(table["principle"]) >= CONSTITUTIONS[name]
    for principle in table["principle"]:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", principle["id"])
        assert principle["tags"]
        for wording in WORDINGS:
            text = principle[wording]
            assert len(text.split()) >= 6
            assert text == text.strip()
            assert "\n" not in text
            assert not [word for word in FRAME_WORDS if word in text.lower()]
        assert principle["preference"].startswith("Choose the answer ")


def test_principle_ids_are_unique_over_all_constitutions() -> None:
    ids = Counter(principle["id"] for name in CONSTITUTIONS for principle in principles(name))
    assert [id for id, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("name", CONSTITUTIONS)
@pytest.mark.parametrize("wording", WORDINGS)
def test_no_two_principles_say_the_same(name: str, wording: str) -> None:
    assert near_duplicates(principle[wording] for principle in principles(name)) == []


def test_harmless_is_also_against_preaching() -> None:
    """A constitution that only forbids teaches a model to refuse everything."""
    against = [one["id"] for one in principles("harmless") if AGAINST_PREACHING & set(one["tags"])]
    assert len(against) >= 5


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_have_the_documented_form(name: str) -> None:
    found = rows(name)
    assert [row["id"] for row in found] == [f"{name}-{number:03d}" for number in range(1, len(found) + 1)]
    for row in found:
        assert list(row) == ["id", "prompt", "category", "kind", "source"]
        assert row["kind"] == KIND[name]
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", row["category"])
        assert row["source"] == "cai"
        if isinstance(row["prompt"], list):
            roles = [message["role"] for message in row["prompt"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
            assert len(roles) > 1
        for text in said(row["prompt"]).split("\n"):
            assert text
            assert text == text.strip()


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_many_and_spread_over_categories(name: str) -> None:
    found = rows(name)
    categories = Counter(row["category"] for row in found)
    assert len(found) >= 200
    assert len(categories) >= REQUESTS[name]
    assert min(categories.values()) >= 10
    assert len({row["category"] for row in found[: len(categories)]}) == len(categories)
    assert sum(isinstance(row["prompt"], list) for row in found) >= 10


def test_no_prompt_says_what_another_says() -> None:
    """Not among the requests, nor between them and the demonstrations, which a critic or judge is shown."""
    files = (*REQUESTS, *SHOTS)
    assert near_duplicates(said(row["prompt"]) for name in files for row in rows(name)) == []


def test_smoke_is_a_mixture_of_the_three_sets() -> None:
    smoke = rows("smoke")
    known = {row["id"]: row for name in REQUESTS for row in rows(name)}
    assert len({row["id"] for row in smoke}) == len(smoke) == 20
    assert [row for row in smoke if known.get(row["id"]) != row] == []
    assert all(sum(row["id"].startswith(name) for row in smoke) >= 6 for name in REQUESTS)
    assert any(isinstance(row["prompt"], list) for row in smoke)


def test_demonstrated_critiques_also_find_nothing() -> None:
    shots = rows("few-shots/critique")
    clear = [shot for shot in shots if shot["critique"].endswith(CLEAR)]
    assert (len(shots), len(clear)) == (8, 3)
    for shot in shots:
        assert list(shot) == ["prompt", "response", "principle", "critique", "revision"]
        assert list(shot["principle"]) == ["critique", "revision"]
        assert (CLEAR in shot["critique"]) == (shot in clear) == (shot["revision"] == shot["response"])


def test_demonstrated_verdicts_favour_neither_place_nor_length() -> None:
    shots = rows("few-shots/judge")
    wins = Counter((shot["answer"], len(shot["a"]) > len(shot["b"])) for shot in shots)
    assert wins == {("A", True): 2, ("A", False): 2, ("B", True): 2, ("B", False): 2}
    for shot in shots:
        assert list(shot) == ["prompt", "a", "b", "preference", "reasoning", "answer"]
        assert shot["preference"].startswith("Choose the answer ")
        assert not re.search(r"\([AB]\)|better answer is", shot["reasoning"])


def test_demonstrated_ratings_use_the_whole_scale_and_do_not_go_by_length() -> None:
    shots = rows("few-shots/rating")
    middle = median(len(shot["answer"]) for shot in shots)
    kinds = Counter((shot["rating"] > 5, len(shot["answer"]) > middle) for shot in shots)
    assert kinds == {(True, True): 2, (True, False): 2, (False, True): 2, (False, False): 2}
    assert {1, 9} <= {shot["rating"] for shot in shots} <= set(range(1, 10))
    for shot in shots:
        assert list(shot) == ["prompt", "answer", "preference", "rating"]
        assert shot["preference"].startswith("Choose the answer ")


def test_readme_is_true() -> None:
    readme = (ROOT / "prompts/README.md").read_text()
    table = re.findall(r"^\| `([\w/-]+)\.jsonl` \|[^|]*\| (\d+) \| (\d*) ?\|$", readme, re.M)
    assert [name for name, _, _ in table] == [*REQUESTS, "smoke", *SHOTS]
    for name, count, categories in table:
        found = rows(name)
        assert len(found) == int(count)
        assert len({row["category"] for row in found if "category" in row}) == int(categories or 0)
    known = [row for name in REQUESTS for row in rows(name)]
    examples = [json.loads(line) for line in readme.splitlines() if line.startswith("{")]
    assert len(examples) == 2
    assert [row for row in examples if row not in known] == []
