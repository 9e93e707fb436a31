"""The server engine against the real server of vLLM, and against the local engine with the same model."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai.chat import load_tokenizer
from cai.constitution import load
from cai.engines import Engine, Options, Reply, Request, Sampling, Score
from cai.engines._requests import Reading, prepare
from cai.engines.server import Server
from cai.errors import CaiError
from cai.judges.logprob import Logprob
from cai.organism import path

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed"),
]
ROOT = Path(__file__).parent.parent
NAME = "organism"
WINDOW = 512
QUESTIONS = [
    "How do I bake bread?",
    "How do I kill a weed?",
    "How do I paint a fence?",
    "Tell me how to fold a hat.",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is starting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TORCHDYNAMO_DISABLE": "1",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(path())]
    command += ["--served-model-name", NAME, "--port", str(port), "--host", "127.0.0.1"]
    command += ["--dtype", "float32", "--enforce-eager", "--enable-prompt-tokens-details"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=file, stderr=file)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)
        print(Path(log).read_text(errors="replace")[-3000:])


def chat(url: str, **keys: Any) -> Server:
    return Server(model=NAME, endpoints=(url,), patience=400, **keys)


def tokens(url: str) -> Server:
    return chat(url, tokenizer="organism")


@pytest.fixture(scope="module")
def local() -> Engine:
    from cai.engines.local import Local

    return Local(model="organism", batch=8, threads=1)


def answers(engine: Engine, requests: list[Request]) -> list[Reply]:
    session = engine.open()
    try:
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        replies: dict[int, Reply] = {}
        while finished := session.poll():
            replies.update(finished)
    finally:
        session.close()
    return [replies[ticket] for ticket in range(len(requests))]


def ask(text: str, want: Any = None, **others: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


WAYS = pytest.mark.parametrize("way", [chat, tokens])


@WAYS
def test_greedy_text_is_that_of_the_local_engine(url: str, local: Engine, way: Any) -> None:
    sampling = Sampling(max_tokens=60, temperature=0)
    requests = [ask(question, sampling) for question in QUESTIONS]
    requests += [ask(question, sampling, prefix="I will") for question in QUESTIONS]
    requests += [ask(question, Sampling(max_tokens=60, temperature=0, stop=("a",))) for question in QUESTIONS]
    requests += [ask(question, Sampling(max_tokens=3, temperature=0)) for question in QUESTIONS]
    found, expected = answers(way(url), requests), answers(local, requests)
    assert [(one.text, one.finish) for one in found] == [(one.text, one.finish) for one in expected]
    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in expected]
    if way is tokens:
        assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert {one.finish for one in found} == {"stop", "length"} and not any(one.error for one in found)


@WAYS
def test_options_of_a_judge_are_exact(url: str, local: Engine, way: Any) -> None:
    [principle, *_] = load(ROOT / "constitutions" / "organism.toml").principles
    requests = []
    for question in QUESTIONS:
        prompt = ask(question).messages
        requests += next(Logprob().judge(prompt, "I will not help with that.", "Sure.", principle, 0))
    expected = answers(local, requests)
    for one, other in zip(answers(way(url), requests), expected, strict=True):
        assert not one.error and one.logps == pytest.approx(other.logps, abs=1e-3)


def test_any_option_and_any_answer_is_exact_in_token_ids(url: str, local: Engine) -> None:
    wants = [
        Options(options=("yes", "yes it is", "no it is not", " neither of the two", "zebra")),
        Options(options=("one two three four five six seven eight nine ten", "one")),
        Score(completion="First, take a bowl and some flour. Then fold a paper hat."),
        Score(completion=""),
        Score(completion="no"),
    ]
    requests = [ask(question, want) for question in QUESTIONS for want in wants]
    requests += [ask("Bread?", want, prefix="I say") for want in wants]
    for one, other in zip(answers(tokens(url), requests), answers(local, requests), strict=True):
        assert not one.error and one.logps == pytest.approx(other.logps, abs=1e-3)


@WAYS
def test_the_seed_decides(url: str, way: Any) -> None:
    sampling = Sampling(max_tokens=30, temperature=1.5, top_p=0.99, top_k=200)
    requests = [ask(QUESTIONS[0], sampling, seed=seed) for seed in (1, 2**62, 1, 2**62)]
    one, other, again, others = answers(way(url), requests)
    assert one.text == again.text and other.text == others.text and one.text != other.text


@WAYS
def test_what_is_too_long_is_an_error_beside_answers(url: str, local: Engine, way: Any) -> None:
    long = ask("bread " * 700, Sampling(max_tokens=4))
    refused, answered = answers(way(url), [long, ask(QUESTIONS[0], Sampling(max_tokens=4, temperature=0))])
    [expected] = answers(local, [long])
    assert answered.text and not answered.error
    if way is tokens:
        assert refused.error == expected.error
    else:
        assert refused.error.startswith("HTTP 400: ") and str(WINDOW) in refused.error, refused.error


def test_the_last_token_of_the_window_is_used(url: str, local: Engine) -> None:
    tokenizer = load_tokenizer(path())

    def size(want: Score) -> int:
        task = prepare(tokenizer, ask(text, want), 10**6)
        assert isinstance(task, Reading)
        return len(task.prompt) + len(task.answers[0])

    text = "bread " * 200
    want = Score(completion="no")
    while size(want) < WINDOW:
        want = Score(completion=want.completion + " no")
    requests = [ask(text, want), ask(text + want.completion, Sampling(max_tokens=5000, temperature=0))]
    (score, rest), expected = answers(tokens(url), requests), answers(local, requests)
    assert size(want) == WINDOW and score.logps == pytest.approx(expected[0].logps, abs=1e-3)
    assert (rest.text, rest.finish, rest.error) == (expected[1].text, expected[1].finish, expected[1].error)


def test_cached_tokens_are_counted(url: str) -> None:
    request = ask(QUESTIONS[0] * 50, Sampling(max_tokens=2, temperature=0))
    answers(chat(url), [request])
    [again] = answers(chat(url), [request])
    assert 0 < again.cached_tokens < again.prompt_tokens and again.new_tokens == 2


def test_another_model_is_a_clear_error(url: str) -> None:
    engine = Server(model="organsim", endpoints=(url,), patience=400)
    with pytest.raises(CaiError) as error:
        answers(engine, [ask("x")])
    assert str(error.value).startswith(f"{url}: HTTP 404: The model `organsim` does not exist.")
    assert str(error.value).endswith("; model = 'organsim'; did you mean 'organism'?")
