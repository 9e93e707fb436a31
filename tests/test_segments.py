"""`ids_of` against the tokenizer on the whole text, for tokenizers of every make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai.segments import Segments, ids_of

TEXTS = [
    "a",
    "b",
    " ",
    "  ",
    "\n",
    "Ab",
    "é",
    "<|a|>",
    "<|end|>",
    "<|",
    "|>",
    "▁",
    "x<|end|>y",
    "<s>",
    "the",
    "!",
]


def bytes_of() -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {char: at for at, char in enumerate(sorted(alphabet))}
    size = len(vocabulary)
    merges = [("t", "h"), ("a", "b"), ("Ġ", "a")]
    for at, (one, other) in enumerate(merges):
        vocabulary[one + other] = size + at
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def pieces(scheme: str) -> Tokenizer:
    pieces = ["<unk>", "▁", "a", "b", "t", "h", "e", "A", "!", "▁a", "▁the", "the", "é", "|", "<", ">", "\n"]
    made = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return made


def prepended() -> Tokenizer:
    made = pieces("never")
    made.pre_tokenizer = None
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return made


def lowered() -> Tokenizer:
    made = bytes_of()
    made.normalizer = normalizers.Lowercase()
    return made


MADE = {
    "byte level": (bytes_of, {}),
    "metaspace, first": (lambda: pieces("first"), {}),
    "metaspace, always": (lambda: pieces("always"), {}),
    "prepended": (prepended, {}),
    "lowered": (lowered, {}),
    "takes blanks after it": (bytes_of, {"rstrip": True}),
    "takes blanks before it": (bytes_of, {"lstrip": True}),
    "normalised": (lowered, {"normalized": True}),
    "whole words": (bytes_of, {"single_word": True}),
}


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    make, flags = MADE[name]
    made = make()
    plain = {"special": True, "normalized": False}
    made.add_special_tokens([AddedToken("<s>", **plain), AddedToken("<|end|>", **{**plain, **flags})])
    made.add_special_tokens([AddedToken("<|a|>", **{**plain, **flags})])
    made.add_tokens([AddedToken("Ab", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=made)


TOKENIZERS = {name: tokenizer(name) for name in MADE}


@pytest.mark.parametrize("name", MADE)
@given(parts=st.lists(st.sampled_from(TEXTS) | st.text(max_size=4), max_size=12))
def test_ids_are_those_of_the_whole_text(name, parts):
    text = "".join(parts)
    made = TOKENIZERS[name]
    expected = made(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert ids_of(made, text) == expected
    assert ids_of(made, text) == expected, "the second time, from memory"


def test_a_frame_that_recurs_is_tokenised_once():
    made = tokenizer("byte level")
    segments = Segments(made.backend_tokenizer)
    for question in ("the", "a b", "Ab"):
        segments.ids(f"<s>a frame<|end|>a demonstration<|end|>{question}<|a|>")
    found = segments._segment.cache_info()
    assert (found.misses, found.hits) == (2 + 3 + 1, 2 * 2 + 2)


def test_a_token_that_holds_another_parts_nothing():
    made = bytes_of()
    made.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    made.add_tokens([AddedToken("x<|end|>", special=False, normalized=False)])
    whole = PreTrainedTokenizerFast(tokenizer_object=made)
    assert ids_of(whole, "ax<|end|>b") == whole("ax<|end|>b", add_special_tokens=False)["input_ids"]
    assert Segments(whole.backend_tokenizer)._parting is None
