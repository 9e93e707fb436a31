"""One file outside the package adds a stage, an engine, a judge, an objective or an eval."""

import json
from pathlib import Path

import pytest
import tiny

from cai.cli import run
from cai.errors import CaiError
from cai.plugins import find, names

STAGE = """
from dataclasses import dataclass
from typing import ClassVar

from cai.records import Record, Turn


@dataclass(frozen=True, kw_only=True)
class Shout:
    mark: str = "!"

    takes: ClassVar[type] = Record
    makes: ClassVar[type] = Record
    groups: ClassVar[bool] = False

    def work(self, record):
        return [record.then(Turn(kind="revision", text=record.answer.text.upper() + self.mark))]
"""
ENGINE = """
from dataclasses import dataclass

from cai.engines import Reply


class Session:
    capacity = 4

    def __init__(self, word):
        self.word, self.waiting = word, []

    def submit(self, ticket, request):
        self.waiting.append((ticket, Reply(text=self.word * (1 + request.seed % 5), model="parrot")))

    def poll(self):
        answered, self.waiting = self.waiting[::-1], []
        return answered

    def close(self):
        self.waiting = []


@dataclass(frozen=True, kw_only=True)
class Parrot:
    word: str

    def open(self):
        return Session(self.word)

    def identity(self):
        return {"engine": "parrot", "word": self.word}
"""
JUDGE = """
from dataclasses import dataclass

from cai.judges import Verdict


@dataclass(frozen=True, kw_only=True)
class Longer:
    sure: float = 0.9

    def judge(self, prompt, first, second, principle, seed):
        yield []
        p = 0.5 if len(first) == len(second) else self.sure if len(first) > len(second) else 1 - self.sure
        return Verdict(p_first=p, orders=(p, p), note="by length")
"""
OBJECTIVE = """
from dataclasses import dataclass, replace

from cai.objectives.sft import Sft


@dataclass(frozen=True, kw_only=True)
class Faint(Sft):
    factor: float = 0.5

    def loss(self, model, batch):
        whole = super().loss(model, batch)
        return replace(whole, total=whole.total * self.factor)
"""
EVAL = """
from dataclasses import dataclass
from typing import ClassVar

from cai.evals import Number
from cai.records import Record


@dataclass(frozen=True, kw_only=True)
class Length:
    at_least: int = 1

    takes: ClassVar[type] = Record
    headline: ClassVar = ("long enough",)

    def work(self, record):
        return [{"record": record.id, "long": len(record.answer.text) >= self.at_least}]

    def numbers(self, verdicts):
        found = [row["long"] for row in verdicts]
        value = sum(found) / len(found)
        return [Number(name="long enough", of="all", value=value, low=0, high=1, n=len(found))]
"""
RECIPE = """
constitution = "organism"
[engines.parrot]
type = "parts/engine.py:Parrot"
word = "polly"
[engines.tiny]
type = "local"
model = "tiny"
[[steps]]
name = "responses"
stage = "generate"
engine = "parrot"
from = "prompts.jsonl"
samples = 3
[[steps]]
name = "shouted"
stage = "parts/stage.py:Shout"
mark = "?"
[[steps]]
name = "comparisons"
stage = "compare"
engine = "parrot"
from = "responses"
judge = { type = "parts/judge.py:Longer", sure = 0.8 }
[[steps]]
name = "faint"
train = "parts/objective.py:Faint"
model = "tiny"
from = "shouted"
factor = 0.25
epochs = 1
batch_size = 4
[[steps]]
name = "lengths"
eval = "parts/eval.py:Length"
models = ["parrot", "faint"]
from = "prompts.jsonl"
at_least = 6
max_tokens = 8
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    parts = {"stage": STAGE, "engine": ENGINE, "judge": JUDGE, "objective": OBJECTIVE, "eval": EVAL}
    (tmp_path / "parts").mkdir()
    for name, text in parts.items():
        (tmp_path / "parts" / f"{name}.py").write_text(text)
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "request {n}"}}\n' for n in range(4)))
    run_folder = tmp_path / "runs" / "x"
    run_folder.mkdir(parents=True)
    (run_folder / "recipe.toml").write_text(RECIPE)
    tiny.folder(tmp_path / "tiny")
    return run_folder


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_kind_of_part_from_one_file_of_its_own(folder: Path) -> None:
    assert run(["run", "runs/x/recipe.toml", "--quiet"]) == 0
    shouted = rows(folder / "shouted.jsonl")
    assert len(shouted) == 12
    assert all(set(row["turns"][-1]["text"]) == set("POLY?") for row in shouted)
    judged = [row["annotations"][0] for row in rows(folder / "comparisons.jsonl")]
    assert {note["note"] for note in judged} == {"by length"}
    assert {max(note["probabilities"]) for note in judged} == {0.8}
    assert (folder / "faint" / "model.safetensors").is_file()
    made_by = json.loads((folder / "faint" / "cai.json").read_text())["identity"]["objective"]
    assert made_by["kind"] == "parts/objective.py:Faint"
    assert made_by["factor"] == 0.25
    [number] = json.loads((folder / "lengths.json").read_text())["numbers"]
    assert number["n"] == len(rows(folder / "lengths.jsonl")) == 8


def test_a_part_of_one_s_own_serves_a_single_command_too(folder: Path) -> None:
    command = ["generate", "prompts.jsonl", "--engine", "parts/engine.py:Parrot", "--engine-set", "word=hi"]
    assert run([*command, "-o", "runs/y/responses.jsonl", "--quiet"]) == 0
    made = rows(Path("runs/y/responses.jsonl"))
    assert {row["turns"][0]["text"].replace("hi", "") for row in made} == {""}


def test_what_is_built_in_is_found_by_its_file_s_name() -> None:
    assert {"generate", "critique", "revise", "screen", "compare", "pairs"} <= set(names("stages"))
    assert find("stages", "critique").__name__ == "Critique"
    assert find("evals", "organism_judge").__name__ == "OrganismJudge"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "generat",
            "no stage is called 'generat'; did you mean 'generate'? "
            "(a stage of your own: 'package.module:Class')",
        ),
        ("nowhere.py:Stage", "there is no file 'nowhere.py'; give the path of a Python file"),
        ("nowhere.parts:Stage", "there is no module 'nowhere.parts'; is it installed or on PYTHONPATH?"),
        ("parts/stage.py:Shuot", "'parts/stage.py:Shuot' has no class 'Shuot'; did you mean 'Shout'?"),
    ],
)
def test_a_part_that_is_not_there(folder: Path, name: str, message: str) -> None:
    with pytest.raises(CaiError) as caught:
        find("stages", name)
    assert str(caught.value) == message


def test_an_error_inside_a_plugin_is_not_taken_for_a_missing_one(folder: Path) -> None:
    (Path("parts") / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        find("stages", "parts/broken.py:Stage")
