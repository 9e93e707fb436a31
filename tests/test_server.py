"""The server engine: what it asks and reads, its settings and secrets, as a user types it."""

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
    MODEL,
    Stub,
    choices,
    instead,
    serving,
    status,
)
from server_asking import answers, ask, engine

from cai.chat import load_tokenizer
from cai.cli import run
from cai.config import build
from cai.engines import Options, Sampling, Score
from cai.engines.server import Server
from cai.errors import CaiError
from cai.model_folder import tokenizer_folder

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.engines._server_pool.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("cai.engines._server_pool.LONGEST_PAUSE", 0.1)


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
    def test_without_log_probs_there_is_a_way_on(self, fault, words):
        with serving(Stub(always=fault)) as stub, pytest.raises(CaiError) as raised:
            answers(engine(stub), [ask("x", Options(options=(" A", " B")))])
        assert str(raised.value) == (
            f"{stub.url}: this endpoint gives no log-probs{words}; every judge that asks a language model "
            "reads them; use an endpoint that gives them (vllm serve), or a judge of your own that reads its "
            "verdict in the text ('package.module:Class')"
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
