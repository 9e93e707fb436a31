"""Endpoints that misbehave, one or some of several: what is survived, what is reported, what stops a run."""

import logging
import threading
import time
from collections import deque

import pytest
from http_stub import (
    CLOSED,
    EMPTY,
    GARBAGE,
    HALF,
    MODEL,
    SILENT,
    Fault,
    Stub,
    choices,
    instead,
    serving,
    status,
)
from server_asking import answers, ask, engine, expected, many

from cai.engines import Reply
from cai.engines.server import Server
from cai.errors import CaiError

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cai.engines._server_pool.FIRST_PAUSE", 0.02)
    monkeypatch.setattr("cai.engines._server_pool.LONGEST_PAUSE", 0.1)


def without(*keys: str) -> Fault:
    return instead(lambda answer: {key: value for key, value in answer.items() if key not in keys})


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
