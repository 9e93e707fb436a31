"""The server engine's parts by hand: load, back-off, parts of a reading, bodies in token ids."""

import math
from typing import Any

import pytest
import tiny
from http_stub import chat_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.engines import Options, Reply, Request, Sampling, Score
from cai.engines._reading import NODES, parts, sums
from cai.engines._requests import Reading, Unanswerable
from cai.engines._server_chat import ChatWay
from cai.engines._server_load import Load
from cai.engines._server_plan import Lacking, Malformed
from cai.engines._server_pool import FIRST_PAUSE, LONGEST_PAUSE, backoff
from cai.engines._server_tokens import TokenWay
from cai.errors import CaiError
from cai.model_folder import tokenizer_folder


def ask(text: str, want: Any = None, **others: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


class TestLoad:
    def test_a_cut_halves_once_a_round_and_grows_by_one_a_round(self):
        load = Load(most=16)
        load.overloaded(sent=0.0, now=1.0, wait=0.0)
        load.overloaded(sent=0.5, now=1.5, wait=0.0)  # sent before the cut
        assert load.limit == 8
        load.overloaded(sent=2.0, now=3.0, wait=0.0)
        assert load.limit == 4
        for _ in range(4):
            load.answered()
        assert 4.8 < load.limit < 5.01

    def test_one_that_comes_back_begins_with_one_and_doubles_up_to_what_it_took(self):
        load = Load(most=16)
        load.overloaded(sent=0.0, now=1.0, wait=0.0)
        load.restart()
        sizes = []
        for _ in range(10):
            sizes.append(load.limit)
            load.answered()
        assert sizes[:8] == [1, 2, 3, 4, 5, 6, 7, 8] and 8 < sizes[8] < sizes[9] < 9

    def test_it_waits_as_long_as_it_is_told(self):
        load = Load(most=4)
        load.overloaded(sent=0.0, now=1.0, wait=5.0)
        load.overloaded(sent=0.0, now=2.0, wait=1.0)
        assert not load.has_room(5.9) and load.has_room(6.0)

    @given(most=st.integers(1, 50), events=st.lists(st.tuples(st.sampled_from("aor"), st.floats(0, 9))))
    def test_the_limit_stays_in_its_bounds(self, most, events):
        load, now = Load(most=most), 0.0
        for what, step in events:
            now += step
            if what == "a":
                load.answered()
            elif what == "o":
                load.overloaded(sent=now, now=now, wait=0.0)
            else:
                load.restart()
            assert 1 <= load.limit <= most and load.has_room(now)


@given(st.text(max_size=5), st.integers(1, 2000))
def test_back_off_doubles_in_its_bounds_and_is_drawn_by_name(name, attempt):
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    assert whole * 0.5 <= backoff(name, attempt) < whole * 1.5
    assert backoff(name, attempt) == backoff(name, attempt)
    assert backoff(name, attempt) != backoff(name + "x", attempt)


ANSWERS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12).map(tuple), min_size=1, max_size=8)


@given(ANSWERS)
def test_parts_tell_every_token_of_every_answer(answers):
    task = Reading(prompt=(9,), answers=tuple(answers))
    asked = parts(task)
    known = {}
    for part in asked:
        assert 0 < len(part.tokens) == len(set(part.tokens)) <= 128
        known |= {(*part.after, token): -1.0 - token for token in part.tokens}
        if part.whole:
            known |= {part.after[: at + 1]: -1.0 - token for at, token in enumerate(part.after)}
    assert sums(task, known) == tuple(math.fsum(-1.0 - token for token in answer) for answer in answers)
    assert len({(part.after, part.tokens) for part in asked}) == len(asked) <= max(NODES, len(answers))


def test_two_single_options_are_one_request_and_many_are_split():
    assert len(parts(Reading(prompt=(9,), answers=((1,), (2,))))) == 1
    runs = parts(Reading(prompt=(9,), answers=tuple((token,) for token in range(300))))
    assert [len(part.tokens) for part in runs] == [128, 128, 44]


def way(window: int = 128) -> TokenWay:
    return TokenWay("m", tiny.tokenizer(), window)


def ids_of(text: str) -> list[int]:
    return list(tiny.tokenizer()(text, add_special_tokens=False)["input_ids"])


PROMPT = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}}


def answer(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": "stop", "text": "", **choice}], "usage": USAGE}


class TestTokenWay:
    def test_a_text_is_asked_for_in_ids_and_read_from_ids(self):
        sampling = Sampling(max_tokens=500, temperature=0.5, top_p=0.9, top_k=3, stop=("s",))
        plan = way().plan(ask("x", sampling, seed=5, prefix="Y"))
        [call] = plan.calls
        prompt = ids_of(PROMPT + "Y")
        assert call.path == "/completions" and call.body == {
            "model": "m",
            "prompt": prompt,
            "add_special_tokens": False,
            "max_tokens": 128 - len(prompt),
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "seed": 5,
            "stop": ["s"],
            "stop_token_ids": [2, 4],
            "return_token_ids": True,
        }
        part = call.read(answer(token_ids=[*ids_of("e it is"), 4]))
        assert plan.join([part]) == Reply(
            text="e it i",
            tokens=(*ids_of("e it is"), 4),
            model="m",
            prompt_tokens=7,
            cached_tokens=5,
            new_tokens=1,
        )

    def test_options_are_summed_over_their_tokens(self):
        plan = way().plan(ask("x", Options(options=("a", "bc", "bd"))))
        a, b, c, d = ids_of("abcd")
        first, second = plan.calls
        assert first.body["prompt"] == ids_of(PROMPT) and first.body["logprob_token_ids"] == [a, b]
        assert second.body["prompt"] == ids_of(PROMPT + "b") and second.body["logprob_token_ids"] == [c, d]
        assert (first.body["logprobs"], first.body["max_tokens"]) == (2, 1)
        told = [{f"token_id:{a}": -1.0, f"token_id:{b}": -2, "token_id:0": -0.1}]
        told += [{f"token_id:{c}": -3.0, f"token_id:{d}": -4.0}]
        read = [
            call.read(answer(logprobs={"top_logprobs": [top]}))
            for call, top in zip(plan.calls, told, strict=True)
        ]
        reply = plan.join(read)
        assert reply.logps == (-1.0, -5.0, -6.0)
        assert (reply.prompt_tokens, reply.cached_tokens, reply.new_tokens) == (14, 10, 2)

    def test_a_long_answer_is_one_request(self):
        plan = way().plan(ask("x", Score(completion="abcdefghij")))
        [call] = plan.calls
        ids, start = ids_of("abcdefghij"), len(ids_of(PROMPT))
        assert call.body["prompt"] == ids_of(PROMPT + "abcdefghij") and call.body["prompt_logprobs"] == 0
        assert call.body["logprob_token_ids"] == [4]
        before = [None] + [{"0": {"logprob": -99.0}}] * (start - 1)
        before += [{str(token): {"logprob": -at}} for at, token in enumerate(ids)]
        read = call.read(answer(logprobs={"top_logprobs": [{"token_id:4": -0.5}]}, prompt_logprobs=before))
        reply = plan.join([read])
        assert reply.logps == (-45.5,)
        assert reply.tokens == (*ids, 4)

    @pytest.mark.parametrize(
        ("choice", "error"),
        [
            ({"logprobs": None}, Lacking),
            ({"logprobs": {"top_logprobs": []}}, Lacking),
            ({"logprobs": {"top_logprobs": [{"a": -1.0}]}}, Lacking),
            ({"finish_reason": None}, Malformed),
            ({"logprobs": {"top_logprobs": [{"token_id:70": None, "token_id:71": -1}]}}, Malformed),
            ({"logprobs": {"top_logprobs": [{"token_id:70": float("nan"), "token_id:71": -1}]}}, Malformed),
            ({"logprobs": {"top_logprobs": [{"token_id:70": 2.0, "token_id:71": -1}]}}, Malformed),
        ],
    )
    def test_a_number_that_is_not_told_is_never_made_up(self, choice, error):
        tokens = tiny.tokenizer().convert_ids_to_tokens([70, 71])
        [call] = way().plan(ask("x", Options(options=tuple(tokens)))).calls
        assert call.body["logprob_token_ids"] == [70, 71]
        with pytest.raises(error):
            call.read(answer(**choice))

    @pytest.mark.parametrize(
        ("ids", "error"),
        [(None, Lacking), ("x", Malformed), ([1.5], Malformed), ([-1], Malformed), ([2**63], Malformed)],
    )
    def test_ids_that_are_none(self, ids, error):
        [call] = way().plan(ask("x")).calls
        with pytest.raises(error):
            call.read(answer(token_ids=ids))

    def test_what_is_too_long_is_never_sent(self):
        with pytest.raises(Unanswerable, match="prompt has 219 tokens, the model's window is 128"):
            way().plan(ask("x" * 200))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, one in inner for place in places(one, (*way, key)))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with another value at a place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(value[place[0]], place[1:], new)
    return copy


CALLS = {
    "chat": (ChatWay("m"), ask("x")),
    "chat options": (ChatWay("m"), ask("x", Options(options=(" A", " B")))),
    "text": (way(), ask("x")),
    "options": (way(), ask("x", Options(options=("A", "B")))),
    "score": (way(), ask("x", Score(completion="abcdefghijk"))),
}


@settings(max_examples=400)
@given(kind=st.sampled_from(sorted(CALLS)), data=st.data())
def test_no_answer_is_read_into_anything_but_a_part_or_an_error(kind, data):
    asking, request = CALLS[kind]
    plan = asking.plan(request)
    [call] = plan.calls
    if kind.startswith("chat"):
        whole = chat_answer(dict(call.body))
    else:
        tokens = call.body.get("logprob_token_ids", ())
        logprobs = {"top_logprobs": [{f"token_id:{token}": -1.0 for token in tokens}]}
        before = [{str(token): {"logprob": -1.0}} for token in call.body["prompt"]]
        whole = answer(token_ids=[70, 71], logprobs=logprobs, prompt_logprobs=before)
    assert plan.join([call.read(whole)])
    broken = put(whole, data.draw(st.sampled_from(places(whole)[1:])), data.draw(JSON))
    try:
        reply = plan.join([call.read(broken)])
    except (Malformed, Lacking):
        return
    assert isinstance(reply.text, str) and all(logp <= 1e-3 for logp in reply.logps)
    assert reply.error or len(reply.logps) == len(plan.join([call.read(whole)]).logps)


class TestTokenizerFolder:
    def test_a_folder_needs_no_weights(self, tmp_path):
        tiny.tokenizer().save_pretrained(tmp_path / "t")
        assert tokenizer_folder(str(tmp_path / "t")) == tmp_path / "t"
        assert tokenizer_folder("organism").name == "weights"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("empty", "'empty' holds no tokenizer; give the model's folder or hub id"),
            (
                "organsim",
                "there is no model 'organsim'; give a folder or a hub id (did you mean 'organism'?)",
            ),
            (
                "no/such",
                "there is no folder 'no/such', and the hub cannot be reached for a model of that name; check "
                "the path, or go online and unset HF_HUB_OFFLINE",
            ),
        ],
    )
    def test_what_is_none(self, name, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(CaiError) as raised:
            tokenizer_folder(name)
        assert str(raised.value) == message
