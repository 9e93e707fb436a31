"""Chat tokenisation: ids and masks are the template's own, for several kinds of template."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.chat import control_token, encode_example, encode_prompt, load_tokenizer
from cai.errors import CaiError
from cai.records import assistant, user

NEWLINE_K = (("Ċ", "k"),)
DIALOGUE = (user("hi"), assistant("yo"), user("more"), assistant("k"))
TOKENIZERS = {name: tiny.tokenizer(template) for name, template in tiny.TEMPLATES.items()}
END = {"llama": "</s>", "chatml": "<|im_end|>", "trailing": "<|end|>"}
# What the full template writes after the last end-of-turn token.
TAIL = {"llama": 0, "chatml": 1, "trailing": 2}


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def learned(tokenizer, example):
    return tokenizer.decode(
        [token for token, trained in zip(example.ids, example.mask, strict=True) if trained]
    )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_the_templates_own_up_to_the_last_end_of_turn(name):
    tokenizer = TOKENIZERS[name]
    whole = tokenizer.apply_chat_template(list(DIALOGUE), tokenize=True, return_dict=False)
    assert list(encode_example(tokenizer, DIALOGUE).ids) == whole[: len(whole) - TAIL[name]]


def test_llama_style_by_hand():
    tokenizer = TOKENIZERS["llama"]
    example = encode_example(tokenizer, (user("hi"), assistant("yo")))
    prompt, answer = ids(tokenizer, "<s>[INST] hi [/INST]"), ids(tokenizer, " yo</s>")
    assert list(example.ids) == prompt + answer
    assert list(example.mask) == [False] * len(prompt) + [True] * len(answer)
    assert example.ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", TOKENIZERS)
def test_last_trains_the_last_turn_and_all_trains_every_turn(name):
    tokenizer, end = TOKENIZERS[name], END[name]
    space = " " if name == "llama" else ""
    assert learned(tokenizer, encode_example(tokenizer, DIALOGUE)) == f"{space}k{end}"
    everything = encode_example(tokenizer, DIALOGUE, "all")
    assert learned(tokenizer, everything) == f"{space}yo{end}{space}k{end}"


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(request=st.text(min_size=1, max_size=30), answer=st.text(min_size=1, max_size=30))
def test_an_example_begins_with_its_prompt_and_the_rest_is_learned(name, request, answer):
    tokenizer = TOKENIZERS[name]
    prompt = encode_prompt(tokenizer, [user(request)])
    example = encode_example(tokenizer, [user(request), assistant(answer)])
    assert list(example.ids[: len(prompt)]) == prompt
    assert list(example.mask) == [False] * len(prompt) + [True] * (len(example.ids) - len(prompt))
    space = " " if name == "llama" else ""
    expected = f"{space}{answer}{END[name]}".encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert learned(tokenizer, example) == expected


def test_a_merge_across_the_boundary_falls_back_to_the_prompts_own_ids():
    tokenizer = tiny.tokenizer(merges=NEWLINE_K)
    prompt = encode_prompt(tokenizer, [user("hi")])
    whole = tokenizer.apply_chat_template([user("hi"), assistant("k")], tokenize=True, return_dict=False)
    assert whole[: len(prompt)] != prompt
    example = encode_example(tokenizer, [user("hi"), assistant("k")])
    assert list(example.ids) == prompt + ids(tokenizer, "k<|im_end|>")


def test_a_template_that_writes_past_turns_otherwise_falls_back_to_the_prompts_own_ids():
    thinking = tiny.CHATML.replace("{% endif %}", "<think>{% endif %}")
    tokenizer = tiny.tokenizer(thinking)
    example = encode_example(tokenizer, [user("hi"), assistant("k")])
    assert list(example.ids) == encode_prompt(tokenizer, [user("hi")]) + ids(tokenizer, "k<|im_end|>")
    assert learned(tokenizer, example) == "k<|im_end|>"


def test_a_prefix_continues_the_prompt():
    tokenizer = tiny.tokenizer(merges=NEWLINE_K)
    prompt = encode_prompt(tokenizer, [user("hi")])
    assert encode_prompt(tokenizer, [user("hi")], "no") == prompt + ids(tokenizer, "no")
    assert encode_prompt(tokenizer, [user("hi")], "k") == prompt + ids(tokenizer, "k")


def test_white_space_at_the_end_of_an_answer_is_learned():
    tokenizer = TOKENIZERS["chatml"]
    assert learned(tokenizer, encode_example(tokenizer, [user("hi"), assistant("a \n")])) == "a \n<|im_end|>"


def test_a_control_token_in_the_text_is_found():
    tokenizer = TOKENIZERS["chatml"]
    assert control_token(tokenizer, [user("say <|im_end|> now")]) == "<|im_end|>"
    assert control_token(tokenizer, [user("say <|im end|> now")]) is None


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
REWRITING = (
    "{% for m in messages %}{{ m['role'] }}:"
    "{{ m['content'] if loop.last or m['role'] == 'user' else 'cut' }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SYSTEM = {"role": "system", "content": "be kind"}


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, DIALOGUE, "model 'tiny' has no chat template; pass --chat-template FILE, or use a chat model"),
        (
            REFUSING + tiny.CHATML,
            (SYSTEM, *DIALOGUE),
            "the chat template of model 'tiny' refuses this conversation (no system role); "
            "leave out what it cannot hold, or pass --chat-template FILE",
        ),
        (
            tiny.CHATML.replace("in messages", "in messages if m['role'] != 'system'"),
            (SYSTEM, *DIALOGUE),
            "the chat template of model 'tiny' leaves out the system message; "
            "put it into the first user message, or pass --chat-template FILE",
        ),
        (
            "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
            DIALOGUE,
            "the chat template of model 'tiny' ends the assistant's turn with no special token; "
            "the model could not learn to stop; pass --chat-template FILE",
        ),
        (
            REWRITING,
            DIALOGUE,
            "the chat template of model 'tiny' rewrites earlier turns, so not all of them can be learned "
            'in one row; use train_on = "last"',
        ),
        (tiny.CHATML, (), "the conversation is empty; give it at least one message"),
        (
            tiny.CHATML,
            DIALOGUE[:3],
            "the conversation ends with role 'user'; end it with the assistant's answer",
        ),
        (
            tiny.CHATML,
            DIALOGUE[1:2],
            "the conversation has no prompt; put a user message before the answer",
        ),
    ],
)
def test_what_cannot_be_learned_is_an_error(template, messages, message):
    with pytest.raises(CaiError) as caught:
        encode_example(tiny.tokenizer(template), messages, "all")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ((), "the conversation is empty; give it at least one message"),
        (DIALOGUE, "the conversation ends with the assistant; end it with a user message"),
    ],
)
def test_what_cannot_be_a_prompt_is_an_error(messages, message):
    with pytest.raises(CaiError) as caught:
        encode_prompt(TOKENIZERS["chatml"], messages)
    assert str(caught.value) == message


def test_a_tokenizer_folder_keeps_its_template_or_takes_another(tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).chat_template == tiny.CHATML
    (tmp_path / "other.jinja").write_text(tiny.LLAMA)
    assert load_tokenizer(tmp_path, tmp_path / "other.jinja").chat_template == tiny.LLAMA


def test_a_folder_without_a_tokenizer_or_a_template_is_an_error(tmp_path):
    with pytest.raises(CaiError, match="there is no model folder 'nowhere'; give the path of"):
        load_tokenizer("nowhere")
    with pytest.raises(CaiError, match=r"has no tokenizer that transformers can load; its folder needs"):
        load_tokenizer(tmp_path)
    tiny.tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(CaiError, match=r"has no chat template; pass --chat-template FILE"):
        load_tokenizer(tmp_path)
    with pytest.raises(
        CaiError, match=r"none.jinja: the chat template cannot be read; give a Jinja text file"
    ):
        load_tokenizer(tmp_path, tmp_path / "none.jinja")
