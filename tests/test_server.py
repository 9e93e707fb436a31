"""The server engine against a local HTTP server that misbehaves."""

import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from http_stub import (
    ANSWERS,
    CLOSED,
    EMPTY,
    GARBAGE,
    HALF,
    MODEL,
    SILENT,
    Fault,
    Stub,
    instead,
    serving,
    status,
)

from cai.chat import load_tokenizer
from cai.cli import run
from cai.config import build
from cai.engines import Options, Reply, Request, Sampling, Score
from cai.engines.server import Server
from cai.errors import CaiError
from cai.model_folder import tokenizer_folder

KEY = "sk-secret-0123456789"


def ask(text: str, want: Any = None, **others: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


def engine(*stubs: Stub, **keys: Any) -> Server:
    keys = {"patience": 20.0, "timeout": 5.0, **keys}
    return Server(model=MODEL, endpoints=tuple(stub.url for stub in stubs), **keys)


def answers(server: Server, requests: list[Request]) -> list[Reply]:
    """The replies in the order of the requests, each exactly once."""
    session = server.open()
    try:
        for ticket, request in enumerate(requests):
            session.submit(ticket, request)
        replies: dict[int, Reply] = {}
        while finished := session.poll():
            for ticket, reply in finished:
                assert ticket not in replies
                replies[ticket] = reply
    finally:
        session.close()
    return [replies[ticket] for ticket in range(len(requests))]


def expected(requests: list[Request]) -> list[str]:
    return [ANSWERS.answer(request).text for request in requests]


def many(count: int) -> list[Request]:
    return [ask(f"question {at}", seed=at) for at in range(count)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.engines._server_pool.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("cai.engines._server_pool.LONGEST_PAUSE", 0.1)


def without(*keys: str) -> Fault:
    return instead(lambda answer: {key: value for key, value in answer.items() if key not in keys})


def choices(*found: Any) -> Fault:
    return instead(lambda answer: {**answer, "choices": list(found)})


# What an endpoint may do once, in place of an answer; it is then asked again.
PASSING = {
    "429": status(429, "slow down"),
    "429 with Retry-After": status(429, "slow down", retry_after="0"),
    "429 with a date": status(429, "slow down", retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
    "429 with a Retry-After of no sense": status(429, "slow down", retry_after="soon"),
    "503": status(503, "busy"),
    "500": status(500, "oops"),
    "502 of a proxy": Fault(status=502, body=b"<html>Bad Gateway</html>"),
    "408": status(408, "you are slow"),
    "closed": CLOSED,
    "no body": EMPTY,
    "half a body": HALF,
    "garbage": GARBAGE,
    "bad JSON": Fault(body=b'{"choices": ['),
    "deep JSON": Fault(body=b"[" * 100_000),
    "no object": Fault(body=b"[1, 2]"),
    "null": Fault(body=b"null"),
    "an error with status 200": instead(lambda _: {"error": {"message": "out of memory", "code": 500}}),
    "an error in words with status 200": instead(lambda _: {"error": "out of memory"}),
    "an overload with status 200": instead(lambda _: {"error": {"message": "busy", "code": "429"}}),
    "no choices": without("choices"),
    "no choice": choices(),
    "a choice that is none": choices("hello"),
    "no finish reason": choices({"message": {"content": "x"}}),
    "aborted": choices({"message": {"content": "x"}, "finish_reason": "abort"}),
    "no message": choices({"finish_reason": "stop"}),
    "no content": choices({"message": {"role": "assistant"}, "finish_reason": "stop"}),
    "content that is no text": choices({"message": {"content": 3}, "finish_reason": "stop"}),
}


class TestFaults:
    @pytest.mark.parametrize("name", PASSING)
    def test_what_passes_is_survived(self, name):
        requests = many(3)
        with serving(Stub(faults=deque([PASSING[name], None, PASSING[name]]))) as stub:
            replies = answers(engine(stub), requests)
        assert [reply.text for reply in replies] == expected(requests)
        assert not any(reply.error for reply in replies) and len(stub.asked) == 5

    def test_silence_is_a_timeout(self):
        requests = many(2)
        with serving(Stub(faults=deque([SILENT]))) as stub:
            replies = answers(engine(stub, timeout=0.3), requests)
        assert [reply.text for reply in replies] == expected(requests) and len(stub.asked) == 3

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (
                GARBAGE,
                "no usable answer in 3 tries; the last: its answer is no JSON: "
                "<html>\ufffd what? [31m</html>",
            ),
            (EMPTY, "no usable answer in 3 tries; the last: its answer is no JSON"),
            (status(500, "oops"), "no usable answer in 3 tries; the last: HTTP 500: oops"),
            (choices(), "no usable answer in 3 tries; the last: its answer has not one choice"),
            (SILENT, "no usable answer in 3 tries; the last: no answer in 0.3 s"),
        ],
    )
    def test_what_stays_is_reported(self, fault, error):
        with serving(Stub(always=fault)) as stub:
            [reply] = answers(engine(stub, retries=2, timeout=0.3), [ask("x")])
        assert reply == Reply(error=error, model=MODEL) and len(stub.asked) == 3

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (status(400, "the maximum context length is 5"), "HTTP 400: the maximum context length is 5"),
            (Fault(status=422, body=b'{"detail": "no"}'), "HTTP 422: no"),
            (Fault(status=413, body=b"x" * 999), f"HTTP 413: {'x' * 300}..."),
            (instead(lambda _: {"error": {"message": "too long", "code": 400}}), "HTTP 400: too long"),
            (
                choices({"message": {"content": "x"}, "finish_reason": "content_filter"}),
                "the endpoint ended the answer with 'content_filter'",
            ),
        ],
    )
    def test_no_is_an_answer_and_not_asked_again(self, fault, error):
        with serving(Stub(faults=deque([fault]))) as stub:
            refused, answered = answers(engine(stub, concurrency=1), many(2))
        assert refused.error == error and not refused.text
        assert answered.text == expected(many(2))[1] and len(stub.asked) == 2

    def test_half_a_surrogate_pair_is_an_error_beside_answers(self):
        with serving() as stub:
            refused, answered = answers(engine(stub), [ask("\ud800"), ask("x")])
        assert refused.error == "half of a surrogate pair is in its text, which cannot be sent"
        assert answered.text

    @pytest.mark.parametrize(
        ("fault", "keys", "error"),
        [
            (
                status(401, "who are you?"),
                {},
                "HTTP 401: who are you?; name the environment variable that holds its key: api_key_env",
            ),
            (
                status(403, f"not with {KEY}"),
                {"api_key_env": "CAI_TEST_KEY"},
                "HTTP 403: not with [key]; check the key in the environment variable 'CAI_TEST_KEY', and "
                "what it is good for",
            ),
            (
                status(404, "no such model"),
                {"model": "serve"},
                "HTTP 404: no such model; model = 'serve'; did you mean 'served'?",
            ),
        ],
    )
    def test_what_is_wrong_for_every_request_stops_the_run(self, fault, keys, error, monkeypatch):
        monkeypatch.setenv("CAI_TEST_KEY", KEY)
        with serving(Stub(always=fault)) as stub, pytest.raises(CaiError) as raised:
            answers(Server(**{"model": MODEL, "endpoints": (stub.url,), **keys}), many(3))
        assert str(raised.value) == f"{stub.url}: {error}"

    def test_a_key_that_is_turned_away_is_known_before_anything_is_asked(self):
        with serving(Stub(models=status(401))) as stub, pytest.raises(CaiError, match="HTTP 401") as raised:
            engine(stub).open()
        assert str(raised.value).startswith(f"{stub.url}: HTTP 401") and not stub.asked

    @pytest.mark.parametrize("code", [403, 404, 405])
    def test_an_endpoint_need_not_list_its_models(self, code):
        with serving(Stub(models=status(code))) as stub:
            assert answers(engine(stub), [ask("x")])[0].text


class TestEndpoints:
    def test_work_is_shared_out_by_what_is_outstanding(self):
        with serving() as quick, serving(Stub(delay=0.1)) as slow:
            assert len(answers(engine(quick, slow, concurrency=4), many(80))) == 80
        assert quick.served + slow.served == 80 and quick.peak <= 4 and slow.peak == 4
        assert quick.served > 2 * slow.served > 0

    def test_a_dead_endpoint_is_left_alone_while_another_lives(self):
        dead, requests = Stub(url="http://127.0.0.1:9/v1"), many(30)
        with serving() as alive:
            assert [reply.text for reply in answers(engine(alive, dead), requests)] == expected(requests)
        assert alive.served == 30

    def test_an_endpoint_that_dies_comes_back(self, caplog):
        requests = many(60)
        caplog.set_level(logging.WARNING)
        with serving(Stub(delay=0.005)) as other, serving(Stub(delay=0.005)) as stub:
            session = engine(stub, other, concurrency=2).open()
            for ticket, request in enumerate(requests):
                session.submit(ticket, request)
            replies = dict(session.poll())
            stub.always = stub.canary = CLOSED
            while len(replies) < 40:
                replies.update(session.poll())
            stub.always = stub.canary = None
            before = stub.served
            while finished := session.poll():
                replies.update(finished)
            session.close()
        assert [replies[at].text for at in range(60)] == expected(requests)
        assert stub.served > before
        said = [record.getMessage() for record in caplog.records]
        assert said[0].startswith(f"{stub.url} is out (") and f"{stub.url} is back" in said

    def test_a_storm_of_429_halves_what_is_sent(self):
        requests = many(150)
        with serving(Stub(most=4, delay=0.005)) as stub:
            replies = answers(engine(stub, concurrency=64), requests)
        assert [reply.text for reply in replies] == expected(requests)
        # Most of the first 64, and then few: each cut halves what is sent, each round adds one.
        assert 0 < len(stub.asked) - len(requests) < 150

    def test_retry_after_is_obeyed(self):
        with serving(Stub(faults=deque([status(429, retry_after="1")]))) as stub:
            began = time.monotonic()
            answers(engine(stub, concurrency=1), many(3))
            assert time.monotonic() - began >= 1
        assert len(stub.asked) == 4

    def test_patience_ends_and_names_what_is_wrong(self):
        dead = Stub(url="http://127.0.0.1:9/v1")
        with serving() as stub:
            session = engine(stub, dead, patience=0.5).open()
            stub.always = stub.canary = status(500, "the engine is dead")
            session.submit(0, ask("x"))
            with pytest.raises(CaiError) as raised:
                session.poll()
            with pytest.raises(CaiError):
                session.poll()
            session.close()
        assert str(raised.value) == (
            f"no endpoint has answered for 0.5 s: {stub.url} (HTTP 500: the engine is dead), {dead.url} "
            "(connection refused); start one and give the same command again: what is done is kept"
        )

    def test_no_endpoint_at_all(self):
        with pytest.raises(CaiError) as raised:
            engine(Stub(url="http://127.0.0.1:9/v1"), patience=0.3).open()
        assert str(raised.value) == (
            "no endpoint has answered for 0.3 s: http://127.0.0.1:9/v1 (connection refused); start one and "
            "give the same command again: what is done is kept"
        )

    def test_a_429_for_ever_ends_by_patience(self):
        quota = status(429, "quota")
        with serving(Stub(always=quota, canary=quota)) as stub, pytest.raises(CaiError) as raised:
            answers(engine(stub, patience=0.5), many(2))
        assert f"{stub.url} (HTTP 429: quota)" in str(raised.value)

    def test_idle_time_is_no_trouble(self):
        with serving(Stub(faults=deque([status(500)] * 2))) as stub:
            session = engine(stub, retries=0, patience=0.3).open()
            session.submit(0, ask("x"))
            [(_, reply)] = session.poll()
            time.sleep(0.6)
            stub.faults.clear()
            session.submit(1, ask("x"))
            [(_, answered)] = session.poll()
            session.close()
        assert reply.error == "no usable answer in 1 try; the last: HTTP 500: status 500" and answered.text

    def test_patience_is_not_for_long_answers(self):
        dead = Stub(url="http://127.0.0.1:9/v1")
        with serving(Stub(delay=1.0)) as stub:
            [reply] = answers(engine(stub, dead, patience=0.3), [ask("x")])
        assert reply.text and not reply.error

    def test_an_endpoint_that_starts_late_is_waited_for(self):
        with serving(Stub(models=status(503))) as stub:
            threading.Timer(0.3, lambda: setattr(stub, "models", None)).start()
            assert answers(engine(stub), [ask("x")])[0].text


class TestChat:
    def test_a_request_is_what_it_says(self):
        sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("a", "b"))
        with serving() as stub:
            answers(engine(stub), [ask("x", sampling, seed=2**62)])
        [(path, headers, body)] = stub.asked
        assert path == "/v1/chat/completions"
        assert body == {
            "model": MODEL,
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "stop": ["a", "b"],
            "seed": 2**62,
        }
        assert re.fullmatch("cai-[0-9a-f]{16}-[0-9a-f]{8}-0-0-1", headers["x-request-id"])

    def test_every_try_has_an_id_of_its_own(self):
        with serving(Stub(faults=deque([EMPTY, EMPTY]))) as stub:
            answers(engine(stub), [ask("x"), ask("x")])
        ids = [headers["x-request-id"] for _, headers, _ in stub.asked]
        assert len(set(ids)) == len(ids) == 4 and len({name[:20] for name in ids}) == 1

    def test_a_given_beginning_is_gone_on_from(self):
        with serving() as stub:
            answers(engine(stub), [ask("x", prefix="Well")])
        [(_, _, body)] = stub.asked
        assert body["messages"][-1] == {"role": "assistant", "content": "Well"}
        assert body["continue_final_message"] and body["add_generation_prompt"] is False

    def test_options_and_tokens_are_read(self):
        request = ask("which?", Options(options=(" B", " A")))
        with serving() as stub:
            [reply] = answers(engine(stub), [request])
        known = ANSWERS.answer(ask("which?", Options(options=(" A", " B"))))
        assert reply.logps == known.logps[::-1]
        assert (reply.prompt_tokens, reply.cached_tokens, reply.new_tokens) == (2, 1, 1)
        [(_, _, body)] = stub.asked
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)

    def test_an_option_that_is_not_told_is_never_made_up(self):
        with serving() as stub:
            [reply] = answers(engine(stub), [ask("x", Options(options=(" A", " either")))])
        assert reply.logps == () and reply.error == (
            "option ' either' is not among the endpoint's 2 likeliest tokens; to have it read exactly, set "
            "tokenizer to the model's folder or hub id (for endpoints of vllm serve)"
        )

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (instead(lambda answer: answer | {"choices": [answer["choices"][0] | {"logprobs": None}]}), ""),
            (status(400, "logprobs are not supported"), " (HTTP 400: logprobs are not supported)"),
            (status(403, "You may not request logprobs"), " (HTTP 403: You may not request logprobs)"),
        ],
    )
    def test_without_log_probs_the_judges_that_work_are_named(self, fault, words):
        with serving(Stub(always=fault)) as stub, pytest.raises(CaiError) as raised:
            answers(engine(stub), [ask("x", Options(options=(" A", " B")))])
        assert str(raised.value) == (
            f"{stub.url}: this endpoint gives no log-probs{words}; all of cai's judges read them; use an "
            "endpoint that gives them (vllm serve), or a judge of your own that reads its verdict in the "
            "text ('package.module:Class')"
        )

    def test_a_given_answer_needs_the_tokenizer(self):
        with serving() as stub:
            session = engine(stub).open()
            with pytest.raises(CaiError) as raised:
                session.submit(0, ask("x", Score(completion="y")))
            assert session.poll() == []
            session.close()
        assert str(raised.value) == (
            "a chat endpoint tells no log P of a given answer; set tokenizer to the model's folder or hub "
            "id, for endpoints of vllm serve"
        )

    def test_an_answer_that_is_null_is_empty(self):
        with serving(Stub(always=choices({"message": {"content": None}, "finish_reason": "length"}))) as stub:
            [reply] = answers(engine(stub), [ask("x")])
        assert (reply.text, reply.finish, reply.error) == ("", "length", "")


def completion(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What vllm serve's completions endpoint tells: log P = -token / 100, the text "bread"."""
    assert path == "/v1/completions"
    tokens = body.get("logprob_token_ids", ())
    told = {"top_logprobs": [{f"token_id:{token}": -token / 100 for token in tokens}]}
    written = load_tokenizer(tokenizer_folder("organism"))("bread", add_special_tokens=False)["input_ids"]
    choice = {"finish_reason": "stop", "logprobs": told, "token_ids": written}
    return {"choices": [choice], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1}}


class TestTokens:
    def test_texts_and_options_in_token_ids(self):
        requests = [ask("x"), ask("x", Options(options=(" A", " B")), prefix="It is"), ask("x " * 5000)]
        with serving(Stub(answer=completion, faults=deque([EMPTY, GARBAGE]))) as stub:
            text, options, refused = answers(engine(stub, tokenizer="organism"), requests)
        assert (text.text, text.new_tokens) == ("bread", 1)
        ids = next(body["logprob_token_ids"] for _, _, body in stub.asked if "logprob_token_ids" in body)
        assert options.logps == tuple(-token / 100 for token in ids) and len(ids) == 2
        assert refused.error.endswith("tokens, the model's window is 4096")

    @pytest.mark.parametrize(
        ("want", "lacks"), [(Sampling(), "token ids"), (Score(completion="y"), "log-probs of given tokens")]
    )
    def test_an_endpoint_that_is_not_made_for_it_is_named(self, want, lacks):
        def other(path: str, body: dict[str, Any]) -> dict[str, Any]:
            return {"choices": [{"text": "hello", "finish_reason": "stop"}]}

        with serving(Stub(answer=other)) as stub, pytest.raises(CaiError) as raised:
            answers(engine(stub, tokenizer="organism"), [ask("x", want)])
        assert str(raised.value) == (
            f"{stub.url}: this endpoint gives no {lacks}; set tokenizer only where every endpoint is vllm "
            "serve (tested with 0.32), or leave it out"
        )


class TestSession:
    def test_the_client_is_imported_when_it_is_opened(self):
        names = ("openai", "torch", "transformers")
        code = f"import sys, cai.engines.server; print([name for name in {names} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_a_closed_session_refuses_and_leaves_no_thread(self):
        before = threading.active_count()
        with serving(Stub(delay=5)) as stub:
            session = engine(stub).open()
            session.submit(0, ask("x"))
            session.close()
            session.close()
            assert session.poll() == []
            with pytest.raises(CaiError) as raised:
                session.submit(1, ask("x"))
        assert str(raised.value) == "this engine is closed; open it again"
        assert threading.active_count() == before

    def test_what_finished_before_an_error_is_handed_back_first(self):
        with serving(Stub(faults=deque([None, status(401)]))) as stub:
            session = engine(stub, concurrency=1).open()
            for ticket in range(2):
                session.submit(ticket, ask("x"))
            while len(stub.asked) < 2:
                time.sleep(0.01)
            time.sleep(0.2)
            [(ticket, reply)] = session.poll()
            assert ticket == 0 and reply.text
            with pytest.raises(CaiError, match="HTTP 401"):
                session.poll()
            session.close()

    def test_capacity_is_that_of_all_endpoints(self):
        with serving() as one, serving() as two:
            session = engine(one, two, concurrency=7).open()
            assert session.capacity == 14
            session.close()


class TestConfiguration:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({}, 'there is no endpoint; add endpoints = ["http://host:8000/v1"]'),
            (
                {"endpoints": ["localhost:8000"]},
                "endpoint 'localhost:8000' is no URL; write http://host:8000/v1",
            ),
            (
                {"endpoints": ["http://h:x/v1"]},
                "endpoint 'http://h:x/v1' is no URL; write http://host:8000/v1",
            ),
            (
                {"endpoints": ["http://me:secret@h/v1"]},
                "an endpoint's URL holds more than a path; keys go into the variable of api_key_env",
            ),
            (
                {"endpoints": ["http://h/v1?key=secret"]},
                "an endpoint's URL holds more than a path; keys go into the variable of api_key_env",
            ),
            ({"endpoints": ["http://h/v1"] * 2}, "an endpoint is given twice; take one of them out"),
            ({"model": ""}, "'model' is empty; give the name that the endpoints serve"),
            ({"concurrency": 0}, "concurrency = 0, it must be from 1 to 1000"),
            ({"concurrency": 1001}, "concurrency = 1001, it must be from 1 to 1000"),
            ({"retries": -1}, "retries = -1, it must not be negative"),
            ({"timeout": 0}, "timeout = 0, it must be above 0"),
            ({"patience": -1.0}, "patience = -1, it must be above 0"),
            (
                {"chat_template": "x.jinja"},
                "'chat_template' is used with 'tokenizer' only; else the endpoint's own is",
            ),
        ],
    )
    def test_bad_values_are_refused(self, keys, message):
        table = {"model": "m", **({"endpoints": ["http://h/v1"]} if keys else {}), **keys}
        with pytest.raises(CaiError) as raised:
            build(Server, table, "recipe.toml [engines.x]")
        assert str(raised.value) == f"recipe.toml [engines.x]: {message}"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, "the environment variable 'CAI_TEST_KEY' holds no key; export CAI_TEST_KEY=..."),
            (" \n", "the environment variable 'CAI_TEST_KEY' holds no key; export CAI_TEST_KEY=..."),
            ("my key", "the environment variable 'CAI_TEST_KEY' holds no key but a text; mend it"),
        ],
    )
    def test_a_missing_key_is_named(self, value, message, monkeypatch):
        monkeypatch.delenv("CAI_TEST_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("CAI_TEST_KEY", value)
        with pytest.raises(CaiError) as raised:
            engine(Stub(url="http://h/v1"), api_key_env="CAI_TEST_KEY").open()
        assert str(raised.value) == message

    def test_execution_is_no_part_of_the_identity(self):
        one = Server(model="m", endpoints=("http://a/v1",))
        other = Server(model="m", endpoints=("http://b/v1", "http://c/v1"), concurrency=3, timeout=9.0)
        assert one.identity() == other.identity()
        assert one.identity() == {
            "engine": "server",
            "model": "m",
            "tokenizer": None,
            "chat_template": None,
        }
        assert one.identity() != Server(model="n", endpoints=("http://a/v1",)).identity()
        tokenized = Server(model="m", endpoints=("http://a/v1",), tokenizer="organism").identity()
        assert re.fullmatch("[0-9a-f]{32}", tokenized["tokenizer"])

    def test_it_takes_nothing_of_the_device(self):
        assert Server(model="m", endpoints=("http://a/v1",)).share() == 0


class TestCommandLine:
    def write(self, folder: Path, count: int) -> Path:
        path = folder / "prompts.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"question {at}"}) + "\n" for at in range(count)))
        return path

    def test_as_a_user_types_it_and_no_key_anywhere(self, tmp_path, monkeypatch, capfd, caplog):
        caplog.set_level(logging.DEBUG)
        monkeypatch.setenv("CAI_TEST_KEY", KEY)
        output = tmp_path / "run" / "responses.jsonl"
        faults = [status(500, f"bad {KEY}"), status(400, f"no {KEY}"), EMPTY]
        with serving(Stub(faults=deque(faults))) as stub:
            command = ["generate", str(self.write(tmp_path, 12)), "--engine", "server", "--model", MODEL]
            command += [
                "--engine-set",
                f'endpoints=["{stub.url}"]',
                "--engine-set",
                "api_key_env=CAI_TEST_KEY",
            ]
            assert run([*command, "-o", str(output)]) == 0
            sent = {headers["authorization"] for _, headers, _ in stub.asked}
            stub.always = status(401, f"no {KEY}")
            assert run([*command, "-o", str(tmp_path / "run" / "more.jsonl")]) == 1
        assert sent == {f"Bearer {KEY}"}
        assert len(output.read_text().splitlines()) == 11
        [reject] = (tmp_path / "run" / "responses.rejects.jsonl").read_text().splitlines()
        assert json.loads(reject)["detail"] == "HTTP 400: no [key]"
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        said = capfd.readouterr()
        assert "HTTP 401: no [key]" in said.err
        for text in (written.decode(), said.out, said.err, caplog.text, repr(engine(stub))):
            assert KEY not in text
        assert "HTTP Request" in caplog.text and "question 11" in written.decode()

    def test_a_run_that_was_given_up_goes_on_and_asks_nothing_twice(self, tmp_path):
        prompts, output = self.write(tmp_path, 40), tmp_path / "run" / "responses.jsonl"
        with serving(Stub(delay=0.002)) as stub:
            command = ["generate", str(prompts), "--engine", "server", "--model", MODEL, "-o", str(output)]
            command += ["--engine-set", f'endpoints=["{stub.url}"]', "--engine-set", "concurrency=4"]
            command += ["--engine-set", "patience=0.4"]
            stub.faults = deque([None] * 15 + [CLOSED] * 1000)
            stub.canary = CLOSED
            assert run(command) == 1
            done = stub.served
            stub.faults.clear()
            stub.canary = None
            assert run(command) == 0
        assert done == 15 and stub.served == 40
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert len({row["id"] for row in rows}) == len(rows) == 40
        assert not (tmp_path / "run" / "responses.rejects.jsonl").exists()
