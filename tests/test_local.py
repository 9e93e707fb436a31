"""The local engine against plain transformers forwards, and against itself in other company."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.chat import encode_example, encode_prompt
from cai.engines import Options, Reply, Request, Sampling, Score
from cai.engines._lane import Done, Lane
from cai.engines._session import LocalSession
from cai.engines.local import Local
from cai.errors import CaiError
from tests import tiny

KINDS = ("packed", "plain")


def session(model=None, *, kind: str = "packed", batch: int = 8, threads: int = 1) -> LocalSession:
    """A session with a tiny model; a model without a packed way is made to look like one that has none."""
    model = model or tiny.model()
    if kind == "plain":
        model._supports_attention_backend = False
    return LocalSession(model, tiny.tokenizer(), label="tiny", weights="w", batch=batch, threads=threads)


def answers(opened: LocalSession, requests: list[Request]) -> list[Reply]:
    """The replies in the order of the requests; the session is closed."""
    try:
        for ticket, request in enumerate(requests):
            opened.submit(ticket, request)
        replies: dict[int, Reply] = {}
        while finished := opened.poll():
            replies.update(finished)
    finally:
        opened.close()
    return [replies[ticket] for ticket in range(len(requests))]


def ask(text: str, want=None, **others) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


def text_request(at: int, max_tokens: int = 12) -> Request:
    """One of many different requests for text."""
    sampling = (
        Sampling(max_tokens=max_tokens),
        Sampling(max_tokens=max_tokens, temperature=0.7, top_p=0.9),
        Sampling(max_tokens=max_tokens, temperature=0),
        Sampling(max_tokens=max_tokens, top_k=20, stop=("a", "e")),
    )[at % 4]
    return ask("word " * (at % 7) + str(at), sampling, seed=at, prefix="So" if at % 3 == 0 else "")


def reading_request(at: int) -> Request:
    want = Options(options=("A", "B", "either")) if at % 2 else Score(completion="yes" * (at % 5))
    return ask("choose " * (at % 6) + str(at), want, prefix="I say " if at % 3 else "")


def logps_by_forward(model, prompt: list[int], answer: list[int]) -> float:
    """log P of `answer` by one plain forward in float64."""
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].double()
    logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return math.fsum(logps[at, token].item() for at, token in enumerate(answer))


def chances(logits, want: Sampling) -> list[float]:
    """The probability of each token as `want` asks to sample."""
    if want.temperature == 0:
        return [float(at == int(logits.argmax())) for at in range(len(logits))]
    whole = (logits / want.temperature).softmax(-1).tolist()
    order = sorted(range(len(whole)), key=lambda at: -whole[at])[: want.top_k or len(whole)]
    held = math.fsum(whole[at] for at in order)
    kept: list[int] = []
    while math.fsum(whole[at] for at in kept) < want.top_p * held and len(kept) < len(order):
        kept.append(order[len(kept)])
    total = math.fsum(whole[at] for at in kept)
    return [whole[at] / total if at in kept else 0.0 for at in range(len(whole))]


class TestExactness:
    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_options_are_exact(self, kind):
        tokenizer, options = tiny.tokenizer(), ("A", "B", " neither", "A1", "A2")
        requests = [
            ask("x" * size, Options(options=options), prefix=prefix)
            for size in (1, 9, 60)
            for prefix in ("", "is ")
        ]
        found = answers(session(kind=kind), requests)
        exact = tiny.model(dtype=torch.float64)
        for request, reply in zip(requests, found, strict=True):
            prompt = encode_prompt(tokenizer, request.messages, request.prefix)
            expected = [
                logps_by_forward(exact, prompt, tokenizer(option, add_special_tokens=False)["input_ids"])
                for option in options
            ]
            assert reply.logps == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_a_score_is_exact_and_counts_the_end_of_turn(self, kind):
        tokenizer = tiny.tokenizer()
        requests = [
            ask("x" * size, Score(completion="yes" * times)) for size in (1, 50) for times in (0, 1, 9)
        ]
        found = answers(session(kind=kind), requests)
        exact = tiny.model(dtype=torch.float64)
        for request, reply in zip(requests, found, strict=True):
            answer = {"role": "assistant", "content": request.want.completion}
            example = encode_example(tokenizer, [*request.messages, answer])
            start = example.mask.index(True)
            assert tokenizer.decode([example.ids[-1]]) == "<|im_end|>"
            expected = logps_by_forward(exact, list(example.ids[:start]), list(example.ids[start:]))
            assert reply.logps == pytest.approx((expected,), abs=1e-4)

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_greedy_text_is_that_of_generate(self, kind):
        tokenizer, model = tiny.tokenizer(), tiny.model()
        requests = [ask("why? " * times, Sampling(max_tokens=30, temperature=0)) for times in range(1, 9)]
        expected = []
        for request in requests:
            prompt = torch.tensor([encode_prompt(tokenizer, request.messages)])
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=30,
                eos_token_id=[2, tokenizer.convert_tokens_to_ids("<|im_end|>")],
                pad_token_id=0,
            )
            expected.append(tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True))
        found = answers(session(kind=kind, batch=3, threads=2), requests)
        assert [reply.text for reply in found] == expected
        assert len(set(expected)) > 4

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "want",
        [
            Sampling(max_tokens=12),
            Sampling(max_tokens=12, temperature=0.6),
            Sampling(max_tokens=12, temperature=1.4, top_k=30, top_p=0.8),
            Sampling(max_tokens=12, temperature=0),
        ],
    )
    @torch.no_grad()
    def test_sampled_tokens_come_with_their_log_probabilities(self, kind, want):
        requests = [ask("x" * size, want, seed=size) for size in (1, 9, 60)]
        found = answers(session(kind=kind, batch=2), requests)
        exact = tiny.model(dtype=torch.float64)
        for request, reply in zip(requests, found, strict=True):
            prompt = encode_prompt(tiny.tokenizer(), request.messages)
            logits = exact(input_ids=torch.tensor([[*prompt, *reply.tokens]]), use_cache=False).logits[0]
            expected = [
                math.log(chances(row, want)[token])
                for row, token in zip(logits[len(prompt) - 1 : -1], reply.tokens, strict=True)
            ]
            assert reply.sampled_logps == pytest.approx(expected, abs=1e-5)

    def test_sampling_follows_the_distribution(self):
        options = tuple("abcdefgh")
        [reply] = answers(session(tiny.model()), [ask("x", Options(options=options))])
        requests = [ask("x", Sampling(max_tokens=1), seed=seed) for seed in range(2000)]
        texts = [reply.text for reply in answers(session(batch=256), requests)]
        for option, logp in zip(options, reply.logps, strict=True):
            share = math.exp(logp)
            assert abs(texts.count(option) - 2000 * share) <= 4.5 * math.sqrt(2000 * share) + 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_both_ways_give_the_same_replies(self, kind):
        requests = [text_request(at) for at in range(24)] + [reading_request(at) for at in range(12)]
        found = answers(session(kind=kind), requests)
        other = answers(session(kind=KINDS[kind == "packed"]), requests)
        assert [reply.text for reply in found] == [reply.text for reply in other]
        for one, two in zip(found, other, strict=True):
            assert one.logps == pytest.approx(two.logps, abs=1e-5)

    def test_bfloat16_is_near(self):
        requests = [ask("x" * size, Options(options=("A", "B"))) for size in (1, 40)]
        rough = answers(session(tiny.model(dtype=torch.bfloat16)), requests)
        exact = answers(session(), requests)
        for one, two in zip(rough, exact, strict=True):
            assert one.logps == pytest.approx(two.logps, abs=0.3)


@cache
def alone() -> list[Reply]:
    """Sixty texts and forty readings, one at a time."""
    requests = [text_request(at) for at in range(60)] + [reading_request(at) for at in range(40)]
    return answers(session(batch=1), requests)


class TestCompany:
    """What a request is computed beside does not change one bit of its reply."""

    @settings(max_examples=10, deadline=None)
    @given(data=st.data())
    def test_replies_are_equal_in_any_batch(self, data):
        order = data.draw(st.lists(st.integers(0, 99), min_size=1, unique=True))
        batch, threads = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 4))
        requests = [text_request(at) if at < 60 else reading_request(at - 60) for at in order]
        assert answers(session(batch=batch, threads=threads), requests) == [alone()[at] for at in order]

    def test_requests_that_come_while_others_run(self):
        opened = session(batch=5, threads=2)
        replies: dict[int, Reply] = {}
        for at in range(60):
            opened.submit(at, text_request(at))
            if at % 3 == 2:
                replies.update(opened.poll())
        while finished := opened.poll():
            replies.update(finished)
        opened.close()
        assert [replies[at] for at in range(60)] == alone()[:60]

    def test_the_seed_decides(self):
        requests = [ask("x", Sampling(max_tokens=20), seed=seed) for seed in (1, 2, 1)]
        one, two, again = answers(session(), requests)
        assert one == again and one.text != two.text


class TestLimits:
    def test_stop_strings_end_the_text_and_are_left_out(self):
        plain = answers(session(), [ask(str(at), Sampling(max_tokens=60), seed=at) for at in range(20)])
        stop = ("e", "Q", "7")
        stopped = answers(
            session(), [ask(str(at), Sampling(max_tokens=60, stop=stop), seed=at) for at in range(20)]
        )
        ended = 0
        for whole, cut in zip(plain, stopped, strict=True):
            first = min((whole.text.index(word) for word in stop if word in whole.text), default=None)
            assert cut.text == whole.text[:first]
            if first is not None:
                ended += 1
                assert cut.finish == "stop" and cut.new_tokens <= whole.new_tokens
        assert 3 < ended < 20

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_text_ends_at_the_window(self, kind, monkeypatch):
        monkeypatch.setattr("cai.engines._session.end_tokens", lambda tokenizer, listed: frozenset())
        [reply] = answers(session(kind=kind), [ask("x" * 80, Sampling(max_tokens=500, temperature=0))])
        assert reply.finish == "length" and reply.prompt_tokens + reply.new_tokens == 128

    def test_what_cannot_be_answered_is_an_error_beside_answers(self):
        requests = [ask("y"), ask("x" * 200), ask("z", Options(options=("A",)))]
        first, refused, last = answers(session(), requests)
        assert refused == Reply(
            error="prompt has 219 tokens, the model's window is 128", model="tiny", weights="w"
        )
        assert first.text and not first.error and len(last.logps) == 1

    def test_tokens_are_counted(self):
        prompt = encode_prompt(tiny.tokenizer(), ask("abc").messages)
        text, options = answers(
            session(), [ask("abc", Sampling(max_tokens=1)), ask("abc", Options(options=("A", "B")))]
        )
        assert (text.prompt_tokens, text.new_tokens, text.finish) == (len(prompt), 1, "length")
        assert (options.prompt_tokens, options.new_tokens) == (len(prompt), 0)


class TestSession:
    def test_closing_forgets_and_refuses(self):
        opened = session()
        opened.submit(0, text_request(0))
        opened.close()
        opened.close()
        assert opened.poll() == []
        with pytest.raises(CaiError) as error:
            opened.submit(1, text_request(1))
        assert str(error.value) == "this engine is closed; open it again"

    def test_threads_of_the_caller_are_left_as_they_were(self):
        before = torch.get_num_threads()
        answers(session(threads=3), [text_request(at) for at in range(6)])
        assert torch.get_num_threads() == before

    def test_what_goes_wrong_in_a_thread_is_raised_where_it_is_polled(self):
        model = tiny.model()
        opened = session(model)
        with torch.no_grad():
            model.lm_head.weight.fill_(torch.nan)
        opened.submit(0, text_request(0))
        for _ in range(2):
            with pytest.raises(CaiError, match="the model's output is not a number"):
                opened.poll()
        opened.close()

    def test_out_of_memory_halves_the_batch_and_changes_no_reply(self, monkeypatch, caplog):
        requests = [text_request(at) for at in range(20)]
        expected = answers(session(batch=8), requests)
        step, failures = Lane.step, iter([True, True])

        def failing(lane: Lane) -> list[Done]:
            if next(failures, False):
                raise torch.OutOfMemoryError("full")
            return step(lane)

        monkeypatch.setattr(Lane, "step", failing)
        assert answers(session(batch=8), requests) == expected
        assert [record.getMessage() for record in caplog.records] == [
            "out of memory on cpu: going on with a batch of 4",
            "out of memory on cpu: going on with a batch of 2",
        ]

    def test_capacity_keeps_the_batch_full(self):
        opened = session(batch=8)
        opened.close()
        assert opened.capacity == 10

    def test_a_model_whose_attention_is_its_own_goes_the_plain_way(self):
        model = tiny.model()
        own = model.config._attn_implementation
        model._supports_attention_backend = False
        opened = session(model)
        opened.close()
        assert model.config._attn_implementation == own


class TestEngine:
    def test_a_folder_opens_and_labels_its_replies(self, tmp_path):
        folder = tiny.folder(tmp_path / "m")
        engine = Local(model=str(folder), device="cpu", threads=1)
        [reply] = answers(engine.open(), [ask("x")])
        [expected] = answers(session(), [ask("x")])
        assert reply.text == expected.text and reply.model == str(folder)
        assert engine.identity() == {
            "engine": "local",
            "model": str(folder),
            "weights": engine.identity()["weights"],
            "dtype": "float32",
            "chat_template": None,
        }
        assert engine.identity()["weights"].startswith(reply.weights) and len(reply.weights) == 12

    def test_weights_and_template_are_identity_and_batch_is_not(self, tmp_path):
        one, two = (str(tiny.folder(tmp_path / name, seed)) for seed, name in enumerate("ab"))
        assert Local(model=one).identity()["weights"] != Local(model=two).identity()["weights"]
        assert Local(model=one, batch=3, threads=2).identity() == Local(model=one).identity()
        template = tmp_path / "t.jinja"
        template.write_text(tiny.LLAMA, encoding="utf-8")
        assert Local(model=one, chat_template=template).identity() != Local(model=one).identity()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"batch": 0}, "batch = 0, it must be at least 1"),
            ({"threads": -1}, "threads = -1, it must not be negative"),
        ],
    )
    def test_bad_values_are_refused(self, values, message):
        with pytest.raises(ValueError) as error:
            Local(model="m", **values)
        assert str(error.value) == message

    @pytest.mark.parametrize(
        ("device", "message"),
        [
            ("gpu", "device 'gpu' is unknown; known: auto, cpu, cuda, cuda:0"),
            ("cuda:99", 'there is no device \'cuda:99\' here; use device = "cpu" or "auto"'),
        ],
    )
    def test_unknown_devices(self, tmp_path, device, message):
        with pytest.raises(CaiError) as error:
            Local(model=str(tiny.folder(tmp_path / "m")), device=device).open()
        assert str(error.value) == message
