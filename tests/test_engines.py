"""The scripted engine, sampling by inversion, requests in token ids, model names."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.engines import Options, Reply, Request, Sampling, Score
from cai.engines._requests import Unanswerable, Writing, cut_at_stop, prepare, text_of
from cai.engines._sampling import choose
from cai.engines.scripted import Rule, Scripted, ScriptedSession
from cai.errors import CaiError
from cai.model_folder import resolve
from tests import tiny


def ask(text: str, want=None, **others) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


def all_replies(session) -> dict[int, Reply]:
    replies = {}
    while finished := session.poll():
        replies.update(finished)
    return replies


class TestScripted:
    def test_the_first_rule_that_fits_answers(self):
        rules = (Rule(contains="b", text="one"), Rule(matches="^a.c$", text="two {draw}"), Rule(contains="a"))
        engine = Scripted(rules=rules, text="none", model="m")
        assert engine.answer(ask("abc")).text == "one"
        assert re.fullmatch("two [0-9a-f]{8}", engine.answer(ask("axc")).text)
        assert engine.answer(ask("a")).text == "none"
        assert engine.answer(ask("z")) == Reply(text="none", model="m", prompt_tokens=1, new_tokens=1)

    def test_the_seed_and_every_message_change_the_drawn_text(self):
        engine = Scripted()
        both = ({"role": "user", "content": "x"}, {"role": "user", "content": "a"})
        requests = [ask("a"), ask("a", seed=1), ask("b"), Request(messages=both, want=Sampling())]
        assert len({engine.answer(request).text for request in requests}) == 4
        assert engine.answer(ask("a")) == engine.answer(ask("a"))

    def test_the_preferred_option_gets_its_share(self):
        engine = Scripted(rules=(Rule(contains="x", prefers="B", share=0.7),))
        logps = engine.answer(ask("x", Options(options=("A", "B", "C")))).logps
        assert [math.exp(logp) for logp in logps] == pytest.approx([0.15, 0.7, 0.15])

    def test_options_without_a_rule_are_drawn(self):
        logps = Scripted().answer(ask("x", Options(options=("A", "B")))).logps
        assert math.fsum(map(math.exp, logps)) == pytest.approx(0.9)
        assert Scripted().answer(ask("x", Options(options=("A", "B")), seed=7)).logps != logps

    def test_a_completion_has_a_log_probability(self):
        [logp] = Scripted().answer(ask("x", Score(completion="yes"))).logps
        assert logp < 0

    def test_max_tokens_and_stop_strings_hold(self):
        engine = Scripted(text="one two three four")
        assert engine.answer(ask("x", Sampling(max_tokens=2))).finish == "length"
        assert engine.answer(ask("x", Sampling(max_tokens=2))).text == "one two"
        assert engine.answer(ask("x", Sampling(stop=(" th",)))) == Reply(
            text="one two", model="scripted", prompt_tokens=1, new_tokens=2
        )

    def test_replies_come_out_of_order_and_all_once(self):
        session = ScriptedSession(lambda request: Reply(text=request.messages[0]["content"]))
        for ticket in range(40):
            session.submit(ticket, ask(str(ticket)))
        first = session.poll()
        assert len(first) == 20 and sorted(first) != first
        replies = dict(first) | all_replies(session)
        assert {ticket: reply.text for ticket, reply in replies.items()} == {at: str(at) for at in range(40)}
        assert session.poll() == []

    def test_a_closed_session_refuses(self):
        session = Scripted().open()
        session.submit(0, ask("x"))
        session.close()
        assert session.poll() == []
        with pytest.raises(CaiError) as error:
            session.submit(1, ask("x"))
        assert str(error.value) == "this engine is closed; open it again"

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Rule(), "a rule needs 'contains' or 'matches', and not both"),
            (lambda: Rule(contains="a", matches="b"), "a rule needs 'contains' or 'matches', and not both"),
            (lambda: Rule(contains="a", share=1.0), "share = 1.0, it must be above 0 and below 1"),
            (
                lambda: Rule(matches="("),
                "matches = '(' is no regular expression (missing ), unterminated subpattern at position 0)",
            ),
            (lambda: Scripted(capacity=0), "capacity = 0, it must be at least 1"),
        ],
    )
    def test_bad_values_are_refused(self, make, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            make()


LOGITS = st.lists(st.integers(-64, 64).map(lambda eighths: eighths / 8), min_size=2, max_size=30)
UNIFORM = st.floats(0, 1, exclude_max=True)


def by_hand(logits: list[float], sampling: Sampling, uniform: float) -> int:
    """The token that inversion gives, one loop in plain floats."""
    heat = sampling.temperature
    weights = [math.exp((logit - max(logits)) / heat) for logit in logits]
    order = list(range(len(logits)))
    if sampling.top_k or sampling.top_p < 1:
        order.sort(key=lambda token: -weights[token])
        order = order[: sampling.top_k or None]
        total, held, kept = sum(weights[token] for token in order), 0.0, []
        for token in order:
            if held >= sampling.top_p * total:
                break
            kept.append(token)
            held += weights[token]
        order = kept
    total, running = sum(weights[token] for token in order), 0.0
    for token in order:
        running += weights[token]
        if running > uniform * total:
            return token
    return order[-1]


class TestSampling:
    @given(LOGITS, st.floats(0.1, 2), st.floats(0.05, 1), st.integers(0, 5), UNIFORM)
    def test_it_is_inversion_of_the_cut_distribution(self, logits, temperature, top_p, top_k, uniform):
        sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
        nudged = {by_hand(logits, sampling, min(max(uniform + off, 0), 1)) for off in (-1e-5, 0, 1e-5)}
        near_top_p = [
            by_hand(logits, Sampling(temperature=temperature, top_p=p, top_k=top_k), uniform)
            for p in (top_p * (1 - 1e-5), min(1.0, top_p * (1 + 1e-5)))
        ]
        [(token, logp)] = choose(torch.tensor([logits]), [sampling], [uniform])
        assert token in nudged | set(near_top_p)
        assert logp <= 0

    @given(
        st.lists(
            st.tuples(st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([0.5, 1.0]), UNIFORM), min_size=1
        )
    )
    def test_a_row_does_not_see_its_neighbours(self, rows):
        torch.manual_seed(0)
        logits = torch.randn(len(rows), 50)
        samplings = [Sampling(temperature=heat, top_p=top_p) for heat, top_p, _ in rows]
        uniforms = [uniform for *_, uniform in rows]
        alone = [choose(logits[at : at + 1], [samplings[at]], [uniforms[at]])[0] for at in range(len(rows))]
        assert choose(logits, samplings, uniforms) == alone

    def test_the_ends_of_the_uniform_range_give_tokens_of_some_weight(self):
        logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
        just_below_one = math.nextafter(1, 0)
        chances = torch.tensor([0.0, 1.0]).log_softmax(-1).tolist()
        assert choose(logits, [Sampling()], [0.0]) == [(1, pytest.approx(chances[0]))]
        assert choose(logits, [Sampling()], [just_below_one]) == [(2, pytest.approx(chances[1]))]
        # Of one token that is left, the probability is 1.
        assert choose(logits, [Sampling(top_k=1)], [just_below_one]) == [(2, 0.0)]

    def test_shares_are_the_probabilities(self):
        logits = torch.tensor([[math.log(0.2), math.log(0.5), math.log(0.3)]]).expand(1000, -1)
        found = choose(logits, [Sampling()] * 1000, [(at + 0.5) / 1000 for at in range(1000)])
        tokens = [token for token, _ in found]
        assert [tokens.count(token) for token in range(3)] == [200, 500, 300]
        for token, logp in set(found):
            assert logp == pytest.approx(math.log((0.2, 0.5, 0.3)[token]), abs=1e-6)

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_output_that_is_no_number_is_an_error(self, temperature):
        with pytest.raises(CaiError, match="the model's output is not a number; its weights are damaged"):
            choose(torch.tensor([[0.0, torch.nan]]), [Sampling(temperature=temperature)], [0.5])


class TestRequests:
    def test_a_prompt_leaves_room_for_what_it_may(self):
        tokenizer = tiny.tokenizer()
        prompt = prepare(tokenizer, ask("hello", Sampling(max_tokens=5)), 1000)
        assert isinstance(prompt, Writing) and prompt.limit == 5
        length = len(prompt.prompt)
        clipped = prepare(tokenizer, ask("hello", Sampling(max_tokens=5)), length + 2)
        assert isinstance(clipped, Writing) and clipped.limit == 2
        with pytest.raises(Unanswerable) as refusal:
            prepare(tokenizer, ask("hello"), length)
        assert str(refusal.value) == f"prompt has {length} tokens, the model's window is {length}"

    def test_an_option_that_merges_with_the_prefix_follows_it_all_the_same(self):
        tokenizer = tiny.tokenizer(merges=(("a", "b"),))
        reading = prepare(tokenizer, ask("x", Options(options=("b", "c")), prefix="a"), 1000)
        assert [tokenizer.decode(list(answer)) for answer in reading.answers] == ["b", "c"]
        assert tokenizer.decode(list(reading.prompt)).endswith("assistant\na")

    def test_a_completion_ends_with_its_end_of_turn(self):
        tokenizer = tiny.tokenizer()
        plain = prepare(tokenizer, ask("x", Score(completion="yes")), 1000)
        assert tokenizer.decode(list(plain.answers[0])) == "yes<|im_end|>"
        within = prepare(tokenizer, ask("x", Score(completion="es"), prefix="y"), 1000)
        assert tokenizer.decode(list(within.answers[0])) == "es<|im_end|>"
        assert plain.prompt + plain.answers[0] == within.prompt + within.answers[0]

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (ask("x", Sampling(max_tokens=0)), "max_tokens is 0, it must be at least 1"),
            (ask("x", Sampling(temperature=-1)), "temperature is -1, it must not be negative"),
            (ask("x", Sampling(temperature=math.nan)), "temperature is nan, it must not be negative"),
            (ask("x", Sampling(top_p=0.0)), "top_p is 0.0, it must be above 0 and at most 1"),
            (ask("x", Sampling(top_k=-1)), "top_k is -1, it must not be negative"),
            (ask("x", Sampling(stop=("a", ""))), "a stop string is empty"),
            (ask("x", Options(options=())), "there are no options"),
            (ask("x", Options(options=("A", ""))), "option '' has no tokens"),
            (ask("x" * 200), "prompt has 219 tokens, the model's window is 128"),
            (
                ask("x", Score(completion="y" * 120)),
                "prompt and answer have 141 tokens, the model's window is 128",
            ),
            (
                Request(messages=(), want=Sampling()),
                "the conversation is empty; give it at least one message",
            ),
        ],
    )
    def test_what_cannot_be_answered_says_why(self, request_, message):
        with pytest.raises(Unanswerable) as refusal:
            prepare(tiny.tokenizer(), request_, 128)
        assert str(refusal.value) == message

    @given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=3), max_size=3))
    def test_a_cut_holds_no_stop_string(self, text, stop):
        cut = cut_at_stop(text, tuple(stop))
        if cut is None:
            assert not any(word in text for word in stop)
        else:
            assert text.startswith(cut) and any(text[len(cut) :].startswith(word) for word in stop)
            assert not any(word in cut for word in stop)

    @settings(max_examples=30)
    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1))
    def test_text_comes_back_from_ids_after_a_prefix(self, text):
        tokenizer = tiny.tokenizer()
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        assert text_of(tokenizer, ids, context=(70, 71)) == text_of(tokenizer, ids) == text


class TestModelFolder:
    def test_a_whole_folder_is_found(self, tmp_path):
        assert resolve(str(tiny.folder(tmp_path / "m"))) == tmp_path / "m"

    @pytest.mark.parametrize(
        ("lacks", "message"),
        [
            ("config.json", "model '{}' has no config.json; a model folder is what save_pretrained() writes"),
            ("model.safetensors", "model '{}' has no safetensors; its weights must be *.safetensors files"),
            (
                "tokenizer.json",
                "model '{}' has no tokenizer; its folder needs tokenizer.json and tokenizer_config.json",
            ),
        ],
    )
    def test_what_a_folder_lacks_is_named(self, tmp_path, lacks, message):
        folder = tiny.folder(tmp_path / "m")
        (folder / lacks).unlink()
        with pytest.raises(CaiError) as error:
            resolve(str(folder), where="recipe.toml [engines.x]")
        assert str(error.value) == f"recipe.toml [engines.x]: {message.format(folder)}"

    def test_a_file_is_no_model(self, tmp_path):
        path = tmp_path / "model.safetensors"
        path.touch()
        with pytest.raises(CaiError) as error:
            resolve(str(path))
        assert str(error.value) == f"model '{path}' is a file; give the folder that holds config.json"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "organsim",
                "there is no model 'organsim'; give a folder or a hub id (did you mean 'organism'?)",
            ),
            (
                "runs/sl-cai",
                "there is no folder 'runs/sl-cai', and the hub cannot be reached for a model of that name; "
                "check the path, or go online and unset HF_HUB_OFFLINE",
            ),
            ("a/b/c", "there is no model 'a/b/c'; give a folder or a hub id (known: organism)"),
            ("../x", "there is no model '../x'; give a folder or a hub id (known: organism)"),
            ("", "there is no model ''; give a folder or a hub id (known: organism)"),
        ],
    )
    def test_what_is_not_there(self, name, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CaiError) as error:
            resolve(name)
        assert str(error.value) == message

    def test_bundled_models_are_found_by_their_function(self, tmp_path, monkeypatch):
        tiny.folder(tmp_path / "m")
        module = tmp_path / "bundle_for_test.py"
        Path(module).write_text(f"def path():\n    return {str(tmp_path / 'm')!r}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr("cai.model_folder.BUNDLED", {"mine": "bundle_for_test:path"})
        assert resolve("mine") == tmp_path / "m"
