"""What --dry-run says that a run would ask."""

from pathlib import Path

import pytest
import tiny
from recipes import COMPARISONS, CONSTITUTION, CRITIQUES, RESPONSES, REVISIONS, SCREENED, SCRIPTED

from cai.chat import encode_prompt, load_tokenizer
from cai.cli import run
from cai.estimate import SAMPLE, Rehearsal, Rehearsals
from cai.recipe import load
from cai.shards import Shard
from cai.steps import TrainStep

RECIPE = f"""
constitution = "mine.toml"
{SCRIPTED}{RESPONSES}samples = 2
max_tokens = 7
{CRITIQUES}max_tokens = 11
{REVISIONS}max_tokens = 13
{SCREENED}{COMPARISONS}engine = "start"
"""
# "This is scripted answer 01234567."
ANSWER = 33


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(CONSTITUTION)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def requests(count: int) -> None:
    """Requests of 40 characters each, 10 tokens by characters."""
    lines = [f'{{"prompt": "{number:040}"}}\n' for number in range(count)]
    Path("prompts.jsonl").write_text("".join([*lines, "no JSON\n"]))


def tried(shard: Shard | None = None) -> dict[str, Rehearsal]:
    rehearsals, found = Rehearsals(), {}
    for step in load(Path("recipe.toml"), shard=shard).steps:
        if isinstance(step, TrainStep):
            rehearsals.train(step)
        else:
            found[step.name] = rehearsals.try_out(step)
    return found


@pytest.mark.parametrize("count", [3, SAMPLE, 10 * SAMPLE])
def test_requests_and_tokens_come_from_a_sample(count: int) -> None:
    requests(count)
    found = tried()
    assert {name: one.sampled for name, one in found.items()} == {
        "responses": min(count, SAMPLE),
        "critiques": 2 * min(count, SAMPLE),
        "revisions": 2 * min(count, SAMPLE),
        "screened": 2 * min(count, SAMPLE),
        "comparisons": min(count, SAMPLE),
    }
    responses, critiques = found["responses"].estimate, found["critiques"].estimate
    assert (responses.items, responses.requests, responses.generated) == (count, 2 * count, 14 * count)
    assert (responses.prompt, responses.more) == (20 * count, 0)
    # The request, the answer that is not there yet and the critique request.
    [first, *_] = found["critiques"].requests
    assert len(first.messages[1]["content"]) == ANSWER
    size = sum(len(message["content"]) for message in first.messages)
    assert critiques.prompt == -(-size // 4) * 2 * count
    assert (critiques.more, critiques.generated) == (2 * count * 7, 2 * count * 11)
    revisions = found["revisions"].estimate
    assert (revisions.requests, revisions.more) == (2 * count, 2 * count * (7 + 11))
    assert found["screened"].estimate.requests == 0
    # One pair a prompt, in both orders; each shows both answers.
    comparisons = found["comparisons"].estimate
    assert (comparisons.items, comparisons.requests) == (count, 2 * count)
    assert (comparisons.more, comparisons.generated) == (2 * count * 2 * 7, 0)


def test_a_sample_stands_for_files_of_any_order() -> None:
    """Half of the requests, all at the end, are ten times as long."""
    lines = [f'{{"prompt": "{number:040}"}}\n' for number in range(400)]
    lines += [f'{{"prompt": "{number:0400}"}}\n' for number in range(400)]
    Path("prompts.jsonl").write_text("".join(lines))
    whole = 2 * (400 * 10 + 400 * 100)
    assert 0.7 * whole < tried()["responses"].estimate.prompt < 1.3 * whole


def test_the_model_s_own_tokenizer_counts_where_there_is_one(folder: Path) -> None:
    requests(3)
    tiny.folder(folder / "tiny")
    training = '[[steps]]\nname = "sl"\ntrain = "sft"\nmodel = "start"\nfrom = "responses"\nepochs = 1\n'
    rivals = '[[steps]]\nname = "rivals"\nstage = "generate"\nengine = "sl"\nfrom = "prompts.jsonl"\n'
    start = 'type = "local"\nmodel = "tiny"'
    steps = RECIPE.split('[[steps]]\nname = "critiques"')[0].replace('type = "scripted"', start)
    steps = steps.replace('constitution = "mine.toml"\n', "")
    (folder / "recipe.toml").write_text(steps + training + rivals)
    found = tried()
    tokenizer = load_tokenizer(folder / "tiny")
    expected = 3 * len(encode_prompt(tokenizer, [{"role": "user", "content": "0" * 40}]))
    assert found["responses"].estimate.prompt == 2 * expected
    # The model that is not there yet counts as the one that it will be made from.
    assert found["rivals"].estimate.prompt == expected
    assert found["responses"].by == found["rivals"].by == "the tokenizer of tiny"


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    requests(2345)
    command = ["generate", "prompts.jsonl", "--engine", "scripted", "--max-tokens", "9", "-o", "r/a.jsonl"]
    assert run([*command, "--dry-run"]) == 0
    counted = "2,340 requests, 23,400 prompt tokens, at most 21,100 generated tokens"
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"  estimate: {counted}",
        "  from 32 of 2,340 items, by 4 characters a token, as there is no tokenizer at hand",
        f"left to do, an estimate: {counted}",
        "dry run: nothing was written",
    ]
    assert not Path("r").exists()
    assert run([*command, "--quiet"]) == 0
    assert run([*command, "--dry-run"]) == 0
    assert "left to do" not in capsys.readouterr().out


def test_a_shard_is_estimated_as_a_shard() -> None:
    requests(640)
    parts = [tried(shard=Shard(number, 2))["critiques"].estimate for number in (1, 2)]
    assert parts[0].items + parts[1].items == 1280
    assert abs(parts[0].items - 640) < 128
