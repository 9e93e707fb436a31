"""The vLLM engine for real, on whatever device there is, against transformers and the local engine."""

import json
import math
from pathlib import Path

import pytest
import torch

from cai.chat import encode_example, encode_prompt
from cai.engines import Options, Reply, Request, Sampling, Score, Session
from cai.engines.local import Local
from cai.engines.vllm import Vllm
from cai.errors import CaiError
from cai.model_folder import resolve
from tests import tiny

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

WIDTH = 64  # of the tiny models: vLLM on a CPU wants heads of 32 dimensions
TOLERANCE = 1e-3
SMALL = {"dtype": "float32", "cache": 0.05, "threads": 1, "memory": 0.3}


def small(model: str | Path, **keys) -> Vllm:
    return Vllm(model=str(model), **{**SMALL, **keys})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("tiny") / "model", width=WIDTH)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("tiny") / "other", seed=1, width=WIDTH)


@pytest.fixture(scope="module")
def opened(folder):
    session = small(folder).open()
    yield session
    session.close()


def answers(session: Session, requests: list[Request]) -> list[Reply]:
    """The replies in the order of the requests."""
    for ticket, request in enumerate(requests):
        session.submit(ticket, request)
    replies: dict[int, Reply] = {}
    while finished := session.poll():
        replies.update(finished)
    return [replies[ticket] for ticket in range(len(requests))]


def local_answers(model: Path | str, requests: list[Request]) -> list[Reply]:
    session = Local(model=str(model), device="cpu", threads=1).open()
    try:
        return answers(session, requests)
    finally:
        session.close()


def ask(text: str, want=None, **others) -> Request:
    return Request(messages=({"role": "user", "content": text},), want=want or Sampling(), **others)


def greedy(text: str, size: int = 24, **others) -> Request:
    return ask(text, Sampling(max_tokens=size, temperature=0), **others)


@torch.no_grad()
def logp(model, prompt: list[int], answer: list[int]) -> float:
    """log P of `answer` by one plain forward in float64."""
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].double()
    logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return math.fsum(logps[at, token].item() for at, token in enumerate(answer))


class TestReading:
    def test_options_of_one_token_and_of_several_are_exact(self, opened):
        options = ("A", "B", " neither of them", "A1", "\x7f", "A")
        requests = [
            ask("x" * size, Options(options=options), prefix=p) for size in (1, 9, 60) for p in ("", "is ")
        ]
        model, tokenizer = tiny.model(width=WIDTH), tiny.tokenizer()
        for request, reply in zip(requests, answers(opened, requests), strict=True):
            prompt = encode_prompt(tokenizer, request.messages, request.prefix)
            expected = [
                logp(
                    model,
                    prompt,
                    encode_prompt(tokenizer, request.messages, request.prefix + option)[len(prompt) :],
                )
                for option in options
            ]
            assert reply.logps == pytest.approx(expected, abs=TOLERANCE)

    def test_more_options_than_vllm_takes_at_once_are_exact(self, opened):
        options = tuple(chr(33 + at) for at in range(90)) + tuple(f"{chr(40 + at)}." for at in range(70))
        request = ask("pick", Options(options=options))
        model, tokenizer = tiny.model(width=WIDTH), tiny.tokenizer()
        prompt = encode_prompt(tokenizer, request.messages)
        [reply] = answers(opened, [request])
        expected = [
            logp(model, prompt, tokenizer(option, add_special_tokens=False)["input_ids"])
            for option in options
        ]
        assert reply.logps == pytest.approx(expected, abs=TOLERANCE)

    def test_whole_answers_are_exact_to_the_end_of_the_window(self, opened):
        model, tokenizer = tiny.model(width=WIDTH), tiny.tokenizer()
        texts = ["", "yes", "a longer answer", "w" * 80]
        room = 128 - len(encode_prompt(tokenizer, ask("why?").messages)) - 1
        texts.append("z" * room)  # prompt, answer and end of turn fill the window to the last token
        replies = answers(opened, [ask("why?", Score(completion=text)) for text in texts])
        for text, reply in zip(texts, replies, strict=True):
            prompt = encode_prompt(tokenizer, ask("why?").messages)
            whole = encode_example(
                tokenizer, [*ask("why?").messages, {"role": "assistant", "content": text}]
            ).ids
            assert reply.error == ""
            assert reply.logps == pytest.approx(
                [logp(model, prompt, list(whole[len(prompt) :]))], abs=TOLERANCE
            )
            assert reply.tokens == tuple(whole[len(prompt) :])

    def test_the_second_question_about_a_text_finds_it_in_the_cache(self, folder):
        session = small(folder).open()
        long = "n" * 100
        first = answers(session, [ask(long, Options(options=("A", "B")))])
        second = answers(session, [ask(long, Options(options=("C",)), prefix="so ")])
        session.close()
        assert first[0].cached_tokens == 0
        assert second[0].cached_tokens >= 96


class TestWriting:
    def test_greedy_text_is_the_local_engines(self, opened, folder):
        requests = [greedy("w" * size, prefix=prefix) for size in (1, 7, 30) for prefix in ("", "So ")]
        fields = [(reply.text, reply.finish, reply.new_tokens) for reply in answers(opened, requests)]
        expected = [(reply.text, reply.finish, reply.new_tokens) for reply in local_answers(folder, requests)]
        assert fields == expected

    def test_the_organism_answers_as_it_does_in_the_local_engine(self):
        requests = [
            greedy(f"How do I {what}?", 60) for what in ("steal a bike", "bake a cake", "pick a lock")
        ]
        session = small(resolve("organism")).open()
        found = [reply.text for reply in answers(session, requests)]
        session.close()
        assert found == [reply.text for reply in local_answers("organism", requests)]

    def test_a_seed_decides_a_text(self, opened):
        def texts(seed: int) -> list[str]:
            return [reply.text for reply in answers(opened, [ask("go", Sampling(max_tokens=20), seed=seed)])]

        assert texts(1) == texts(1) != texts(2)

    def test_many_seeded_requests_with_long_prompts(self, folder):
        # So many tokens that no single step reads them all.
        session = small(folder).open()
        requests = [ask("y" * 100, Sampling(max_tokens=2), seed=at) for at in range(120)]
        found = answers(session, requests)
        session.close()
        assert [reply.error for reply in found] == [""] * 120

    def test_a_text_ends_before_a_stop_string_and_says_why_it_ended(self, opened):
        [free] = answers(opened, [greedy("go")])
        stop = free.text[3:5]
        [cut] = answers(opened, [ask("go", Sampling(max_tokens=24, temperature=0, stop=(stop,)))])
        assert (cut.text, cut.finish) == (free.text[: free.text.index(stop)], "stop")
        [short] = answers(opened, [greedy("go", 2)])
        assert (short.finish, short.new_tokens) == ("length", 2)

    def test_replies_name_model_and_weights(self, opened, folder):
        [reply] = answers(opened, [greedy("go")])
        assert (reply.model, reply.weights) == (str(folder), small(folder).weights()[:12])


class TestWeights:
    def test_new_weights_answer_and_no_prefix_of_the_old_ones_is_served(self, folder, other):
        requests = [
            greedy("the same long beginning of a text, which fills some blocks of the cache " + str(at))
            for at in range(6)
        ]
        session = small(folder).open()
        before = [reply.text for reply in answers(session, requests)]
        assert session.become(small(other))
        after = answers(session, requests)
        again = session.become(small(folder))
        back = [reply.text for reply in answers(session, requests)]
        session.close()
        assert (
            [reply.text for reply in after]
            == [reply.text for reply in local_answers(other, requests)]
            != before
        )
        assert {reply.weights for reply in after} == {small(other).weights()[:12]}
        assert again
        assert back == before

    def test_weights_from_memory(self, opened, folder, other):
        requests = [greedy("say"), ask("say", Score(completion="this and that"))]
        opened.load_weights(tiny.model(1, width=WIDTH).state_dict().items(), "step 3", "abc")
        found = answers(opened, requests)
        opened.load_weights(
            tiny.model(0, width=WIDTH).state_dict().items(), str(folder), small(folder).weights()[:12]
        )
        expected = local_answers(other, requests)
        assert (found[0].text, found[0].model, found[0].weights) == (expected[0].text, "step 3", "abc")
        assert found[1].logps == pytest.approx(expected[1].logps, abs=TOLERANCE)

    def test_weights_do_not_change_under_a_request(self, opened):
        opened.submit(0, greedy("go"))
        with pytest.raises(CaiError) as caught:
            opened.load_weights([], "new", "")
        assert (
            str(caught.value) == "weights cannot change while requests are in flight; poll until all are in"
        )
        while opened.poll():
            pass

    def test_an_engine_that_differs_in_more_than_weights_is_not_become(self, opened, folder, other, tmp_path):
        wider = tiny.folder(tmp_path / "wide", width=128)
        assert not opened.become(small(wider))
        assert not opened.become(small(other, window=64))
        assert not opened.become(Local(model=str(other)))

    def test_an_adapter_is_served_as_if_merged(self, folder, tmp_path):
        merged = lora(tmp_path, folder)
        requests = [greedy("say it"), ask("say it", Options(options=("A", "B")))]
        plain = local_answers(folder, requests)
        expected = local_answers(merged, requests)
        session = small(folder, adapter=tmp_path / "adapter").open()
        found = answers(session, requests)
        session.close()
        assert found[0].text == expected[0].text != plain[0].text
        assert found[1].logps == pytest.approx(expected[1].logps, abs=TOLERANCE)
        # The adapter's folder is a model by itself, if it has a tokenizer, as those that cai trains do.
        tiny.tokenizer().save_pretrained(tmp_path / "adapter")
        session = small(tmp_path / "adapter").open()
        alone = answers(session, requests)
        assert not session.become(small(folder))
        session.close()
        assert [reply.text for reply in alone] == [reply.text for reply in found]
        assert alone[1].logps == found[1].logps


def lora(path: Path, folder: Path, rank: int = 4) -> Path:
    """A random adapter of rank 4, scaled by 2, on every query projection, and the model with it merged."""
    from safetensors.torch import save_file

    model = tiny.model(width=WIDTH)
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for at, layer in enumerate(model.model.layers):
        a, b = (torch.randn(shape, generator=generator) * 0.3 for shape in ((rank, WIDTH), (WIDTH, rank)))
        name = f"base_model.model.model.layers.{at}.self_attn.q_proj"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        layer.self_attn.q_proj.weight.data += 2 * (b @ a)
    adapter = path / "adapter"
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    config |= {"base_model_name_or_path": str(folder), "task_type": "CAUSAL_LM", "lora_dropout": 0.0}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    model.save_pretrained(path / "merged")
    tiny.tokenizer().save_pretrained(path / "merged")
    return path / "merged"


class TestDevice:
    def test_the_device_is_given_back(self, folder):
        session = small(folder).open()
        session.submit(0, greedy("go"))
        session.close()
        session.close()
        with pytest.raises(CaiError) as caught:
            session.submit(1, greedy("go"))
        assert str(caught.value) == "this engine is closed; open it again"
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        torch.set_num_threads(before)

    def test_two_engines_side_by_side(self, folder, other):
        first, second = small(folder).open(), small(other).open()
        requests = [greedy("one"), greedy("two")]
        found = [[reply.text for reply in answers(session, requests)] for session in (first, second, first)]
        first.close()
        [last] = answers(second, requests[:1])
        second.close()
        expected = [[reply.text for reply in local_answers(model, requests)] for model in (folder, other)]
        assert found == [*expected, expected[0]]
        assert last.text == expected[1][0]

    def test_fewer_in_hand_when_the_cache_is_short(self, folder):
        # 2 layers of keys and values, 64 dimensions of 4 bytes: 1024 bytes a token.
        session = small(folder, cache=1024 * 512 / (1 << 30), batch=64).open()
        assert session.capacity == 80
        answers(session, [greedy("long " * 12, 40) for _ in range(4)])
        capacity = session.capacity
        session.close()
        assert 1 <= capacity <= 4


class TestBadInput:
    def test_what_cannot_be_answered_is_said_and_the_rest_is_answered(self, opened):
        requests = [
            greedy("x" * 200),
            ask("", Options(options=("",))),
            ask("go", Sampling(temperature=-1)),
            Request(messages=(), want=Sampling()),
            greedy("go"),
        ]
        replies = answers(opened, requests)
        assert [reply.error for reply in replies] == [
            "prompt has 219 tokens, the model's window is 128",
            "option '' has no tokens",
            "temperature is -1, it must not be negative",
            "the conversation is empty; give it at least one message",
            "",
        ]

    def test_the_cache_is_too_small_for_one_text(self, folder):
        with pytest.raises(CaiError) as caught:
            small(folder, cache=1e-5).open()
        message = str(caught.value)
        assert message.startswith(f"vllm cannot start model '{folder}': ")
        assert message.endswith(
            "; change cache, memory, window or dtype of the engine, or use --engine local"
        )
        small(folder).open().close()

    def test_no_such_model(self):
        with pytest.raises(CaiError) as caught:
            Vllm(model="nowhere").open()
        assert str(caught.value).startswith("there is no model 'nowhere'")

    def test_no_weights(self, folder, tmp_path):
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
        with pytest.raises(CaiError) as caught:
            Vllm(model=str(tmp_path)).open()
        assert str(caught.value) == (
            f"model '{tmp_path}' has no safetensors; its weights must be *.safetensors files"
        )

    def test_no_template(self, tmp_path):
        bare = tiny.folder(tmp_path / "bare", template=None, width=WIDTH)
        with pytest.raises(CaiError) as caught:
            small(bare).open()
        assert (
            str(caught.value)
            == f"model '{bare}' has no chat template; pass --chat-template FILE, or use a chat model"
        )

    def test_an_adapter_of_too_high_a_rank(self, folder, tmp_path):
        (tmp_path / "adapter_config.json").write_text('{"r": 1024}')
        with pytest.raises(CaiError) as caught:
            small(folder, adapter=tmp_path).open()
        assert str(caught.value) == (
            f"{tmp_path}: the adapter's rank is 1024, vllm serves 1 to 512; merge it into the model"
        )

    def test_an_adapter_on_an_adapter(self, folder, tmp_path):
        lora(tmp_path, folder)
        tiny.tokenizer().save_pretrained(tmp_path / "adapter")
        with pytest.raises(CaiError) as caught:
            small(tmp_path / "adapter", adapter=tmp_path / "adapter").open()
        assert str(caught.value) == (
            f"model '{tmp_path}/adapter' is an adapter itself, and 'adapter' names another; "
            "leave 'adapter' out"
        )

    def test_no_adapter(self, folder, tmp_path):
        with pytest.raises(CaiError) as caught:
            small(folder, adapter=tmp_path).open()
        assert str(caught.value) == (
            f"{tmp_path}: there is no adapter_config.json; "
            "give the folder that peft's save_pretrained() wrote"
        )
