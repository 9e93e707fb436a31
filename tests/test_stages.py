"""generate, critique and revise, driven with strings."""

from dataclasses import replace

import pytest
from driving import answered, chat, drive, drive_asked, never, prompt, says
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.config import build
from cai.constitution import Constitution, Principle
from cai.engines import Reply, Request, Sampling
from cai.errors import CaiError
from cai.few_shots import Asked, ReviewShot, ReviewShots
from cai.records import Record, Reject, Turn, assistant, digest, sibling, user
from cai.stages.critique import Critique
from cai.stages.generate import Generate
from cai.stages.revise import Revise

PRINCIPLES = tuple(
    Principle(
        id=id, critique=f"Is it {id}?", revision=f"Make it less {id}.", preference=f"The less {id} one."
    )
    for id in ("cruel", "rude", "false", "vain")
)
CONSTITUTION = Constitution(name="test", principles=PRINCIPLES)
SHOTS = ReviewShots(
    shots=(
        ReviewShot(
            prompt="P",
            response="R",
            principle=Asked(critique="C?", revision="V!"),
            critique="C",
            revision="N",
        ),
    )
)
REQUEST = "How do I pick a lock?"


def critique_of(principle: Principle) -> str:
    return f"Critique request: {principle.critique}\nIf nothing is wrong, end with: Nothing to change."


def revision_of(principle: Principle) -> str:
    return f"Revision request: {principle.revision}\nWrite only the new answer."


def writer(request: Request) -> Reply:
    """A text that tells what was asked, by what and with which seed."""
    asked = request.messages[-1]["content"].split("\n")[0]
    return Reply(text=f"{asked} {request.seed}", model="m", weights="w")


def drawn(record: Record, seed: int = 0) -> Principle:
    return Critique(constitution=CONSTITUTION, seed=seed).draw_principle(record)


def with_critique(text: str, finish: str = "stop", principle: str = "rude") -> Record:
    return answered("bad").then(Turn(kind="critique", text=text, principle=principle, finish=finish))


# generate


def test_generate_asks_the_prompt_alone_and_samples_siblings() -> None:
    record = chat(user("hi"), assistant("hello"), user("go on"))
    stage = Generate(samples=2, max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("x",), seed=5)
    rows, asked = drive_asked(
        stage.work(record), lambda request: Reply(text=f"{request.seed}", finish="length")
    )
    want = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("x",))
    assert [(request.messages, request.want, request.prefix) for request in asked] == [
        (record.prompt, want, "")
    ] * 2
    assert asked[0].seed != asked[1].seed
    assert [row.sample for row in rows] == [0, 1] and rows[0].id == record.id != rows[1].id
    assert [row.turns for row in rows] == [
        (Turn(kind="response", text=f"{request.seed}", finish="length"),) for request in asked
    ]


def test_generate_keeps_its_system_message_out_of_the_row() -> None:
    [row], [request] = drive_asked(Generate(system="Be brief.").work(prompt()), says("ok"))
    assert request.messages == ({"role": "system", "content": "Be brief."}, user(REQUEST))
    assert row.prompt == (user(REQUEST),)
    assert row.turns[0].wording == digest("system", "Be brief.")


def test_generate_makes_a_reject_of_each_sample_without_text() -> None:
    replies = iter(
        [Reply(text="fine"), Reply(error="the prompt is too long"), Reply(text=" \n", finish="length")]
    )
    rows = drive(Generate(samples=3).work(prompt()), lambda request: next(replies))
    assert isinstance(rows[0], Record)
    assert [(row.reason, row.detail, row.raw) for row in rows[1:]] == [
        ("engine", "the prompt is too long", ""),
        ("empty", "finish: length", " \n"),
    ]
    assert [row.item for row in rows[1:]] == [sibling(prompt(), at).id for at in (1, 2)]
    assert {row.stage for row in rows[1:]} == {"generate"} and len({row.id for row in rows}) == 3


def test_generate_refuses_what_it_would_have_to_guess_about() -> None:
    [row] = drive(Generate().work(answered("a")), never)
    assert (row.reason, row.detail) == ("already answered", "generate takes prompts")
    record = chat({"role": "system", "content": "S"}, user("hi"))
    [row] = drive(Generate(system="T").work(record), never)
    assert (row.reason, row.detail) == ("system message", "the prompt has one of its own")


# critique


def test_critique_asks_in_the_chat_about_the_newest_answer() -> None:
    record = answered("first").then(Turn(kind="revision", text="second", principle="rude"))
    [row], [request] = drive_asked(
        Critique(constitution=CONSTITUTION).work(record), says("Too rude.", "length")
    )
    principle = drawn(record)
    assert request.messages == (user(REQUEST), assistant("second"), user(critique_of(principle)))
    turn = row.pending
    assert (turn.text, turn.principle, turn.model, turn.weights) == ("Too rude.", principle.id, "m", "w")
    assert turn.finish == "length"
    assert row.turns[:-1] == record.turns and row.id == record.id


def test_demonstrations_come_first_but_after_the_system_message() -> None:
    system = {"role": "system", "content": "S"}
    record = chat(system, user("hi")).then(Turn(kind="response", text="a"))
    stage = Critique(constitution=CONSTITUTION, few_shots=SHOTS)
    _, [request] = drive_asked(stage.work(record), says("c"))
    assert request.messages[0] == system and request.messages[1:3] == (user("P"), assistant("R"))
    assert request.messages[7:9] == (user("hi"), assistant("a")) and len(request.messages) == 10


def test_critique_refuses_what_has_no_answer_or_a_critique_already() -> None:
    stage = Critique(constitution=CONSTITUTION)
    [row] = drive(stage.work(prompt()), never)
    assert (row.stage, row.reason) == ("critique", "no answer")
    assert row.detail == "critique takes what generate or revise wrote"
    [row] = drive(stage.work(with_critique("x")), never)
    assert (row.reason, row.detail) == ("already critiqued", "revise it first")
    [row] = drive(stage.work(answered("a")), says(""))
    assert (row.reason, row.detail) == ("empty", "critique 1: finish: stop")
    [row] = drive(stage.work(answered("a")), lambda request: Reply(error="too long"))
    assert (row.reason, row.detail) == ("engine", "critique 1: too long")


def test_the_wording_s_fingerprint_follows_frame_shots_and_principle() -> None:
    def wording(stage: Critique) -> str:
        [row] = drive(stage.work(answered("a")), says("c"))
        return row.pending.wording

    plain = Critique(constitution=CONSTITUTION)
    one = Constitution(name="test", principles=(replace(drawn(answered("a")), critique="Other?"),))
    variants = [plain, replace(plain, few_shots=SHOTS), replace(plain, constitution=one)]
    assert len({wording(stage) for stage in variants}) == 3
    assert wording(replace(plain, temperature=0.1)) == wording(plain)


# revise


def test_revise_answers_the_pending_critique_under_its_own_principle() -> None:
    rude = PRINCIPLES[1]
    [row], [request] = drive_asked(
        Revise(constitution=CONSTITUTION).work(with_critique("Too rude.")), says("kind")
    )
    assert request.messages == (
        user(REQUEST),
        assistant("bad"),
        user(critique_of(rude)),
        assistant("Too rude."),
        user(revision_of(rude)),
    )
    assert row.answer.text == "kind" and row.answer.principle == "rude" and row.rounds == 1


def test_each_round_draws_anew_and_sees_the_newest_answer_only() -> None:
    [row], asked = drive_asked(Revise(constitution=CONSTITUTION, rounds=4).work(answered("bad")), writer)
    assert [turn.kind for turn in row.turns] == ["response"] + ["critique", "revision"] * 4
    for at in range(4):
        before = replace(row, turns=row.turns[: 1 + 2 * at])
        principle = drawn(before)
        assert {turn.principle for turn in row.turns[1 + 2 * at : 3 + 2 * at]} == {principle.id}
        seen = (user(REQUEST), assistant(before.turns[-1].text))
        assert asked[2 * at].messages == (*seen, user(critique_of(principle)))
        criticised = (*seen, user(critique_of(principle)), assistant(row.turns[1 + 2 * at].text))
        assert asked[2 * at + 1].messages == (*criticised, user(revision_of(principle)))
    assert len({request.seed for request in asked}) == 8
    assert len({turn.principle for turn in row.turns[1:]}) > 1


@given(seed=st.integers(0, 1000), rounds=st.integers(1, 4), text=st.text(min_size=1))
@settings(max_examples=30)
def test_chained_steps_write_what_one_revise_writes(seed: int, rounds: int, text: str) -> None:
    record = answered(text)
    whole = Revise(constitution=CONSTITUTION, rounds=rounds, seed=seed)
    step = replace(whole, rounds=1)
    chained = record
    for _ in range(rounds):
        [chained] = drive(Critique(constitution=CONSTITUTION, seed=seed).work(chained), writer)
        [chained] = drive(step.work(chained), writer)
    assert drive(whole.work(record), writer) == [chained]


def test_a_clear_critique_keeps_the_answer_unasked() -> None:
    record = with_critique("All kind. Nothing to change.")
    [row] = drive(Revise(constitution=CONSTITUTION).work(record), never)
    kept = Turn(kind="revision", text="bad", principle="rude", model="m0", weights="w0", finish="kept")
    assert row.turns == (*record.turns, kept)
    [row] = drive(Revise(constitution=CONSTITUTION, skip_clear=False).work(record), says("kind"))
    assert row.answer.text == "kind" and row.answer.finish == "stop"


def test_direct_revision_asks_straight_after_the_answer() -> None:
    stage = Revise(constitution=CONSTITUTION, critique=False, rounds=2, few_shots=SHOTS)
    [row], asked = drive_asked(stage.work(answered("bad")), writer)
    shown = (
        user("P"),
        assistant("R"),
        user(revision_of(replace(PRINCIPLES[0], revision="V!"))),
        assistant("N"),
    )
    first = drawn(answered("bad"))
    assert asked[0].messages == (*shown, user(REQUEST), assistant("bad"), user(revision_of(first)))
    assert [turn.kind for turn in row.turns] == ["response", "revision", "revision"]
    [reject] = drive(stage.work(with_critique("c")), never)
    assert reject.reason == "already critiqued"
    assert reject.detail == "with critique = false, revise takes answers"


def test_what_cannot_be_revised_says_why() -> None:
    stage = Revise(constitution=CONSTITUTION, rounds=2)
    [row] = drive(stage.work(prompt()), never)
    assert (row.reason, row.detail) == ("no answer", "revise takes what generate or critique wrote")
    [row] = drive(stage.work(with_critique("It is so", finish="length")), never)
    assert (row.stage, row.reason, row.raw) == ("revise", "truncated critique", "It is so")
    assert row.detail == "critique 1 ended at its token limit"

    def second_fails(request: Request) -> Reply:
        late = "Revision" in request.messages[-1]["content"] and request.messages[1]["content"] != "bad"
        return Reply(text="", finish="stop") if late else Reply(text="text")

    [row] = drive(stage.work(answered("bad")), second_fails)
    assert isinstance(row, Reject) and (row.reason, row.detail) == ("empty", "revision 2: finish: stop")


def test_a_critique_under_an_unknown_principle_is_an_error() -> None:
    record = with_critique("c", principle="gone")
    with pytest.raises(CaiError) as raised:
        drive(Revise(constitution=CONSTITUTION).work(record), never)
    assert str(raised.value) == (
        f"revise: 'test' has no principle 'gone', which the critique of {record.id} was written under; "
        "revise with the constitution that the critiques were made with"
    )


# keys


@pytest.mark.parametrize(
    "stage, table, message",
    [
        (Generate, {"samples": 0}, "t: 'samples' is 0; write a number above 0"),
        (Generate, {"sampels": 2}, "t: unknown key 'sampels'; did you mean 'samples'?"),
        (Generate, {"max_tokens": 0}, "t: 'max_tokens' is 0; write a number above 0"),
        (Generate, {"temperature": -1}, "t: 'temperature' is -1; write 0 or a number above it"),
        (Generate, {"temperature": float("nan")}, "t: 'temperature' is nan; write 0 or a number above it"),
        (Generate, {"top_p": 0.0}, "t: 'top_p' is 0; write a number above 0 and at most 1"),
        (Generate, {"top_k": -1}, "t: 'top_k' is -1; write 0 or a number above it"),
        (Generate, {"stop": [""]}, "t: 'stop' holds an empty text; take it out"),
        (Generate, {"samples": 1.5}, "t: 'samples' is 1.5; write a whole number"),
        (Critique, {}, "t: 'constitution' is missing; add constitution = ..."),
        (
            Critique,
            {"constitution": "harmles"},
            "t constitution: no constitution is called 'harmles'; did you mean 'harmless'?",
        ),
        (
            Revise,
            {"constitution": "harmless", "rounds": -1},
            "t: 'rounds' is -1; write 0 or a number above it",
        ),
        (
            Revise,
            {"constitution": "harmless", "critique": "no"},
            "t: 'critique' is 'no'; write true or false",
        ),
        (
            Revise,
            {"constitution": "harmless", "frames": "x.toml"},
            "t frames: there is no file 'x.toml'; paths are read from the working directory",
        ),
        (
            Revise,
            {"constitution": "harmless", "few_shots": "x.jsonl"},
            "t few_shots: there is no file 'x.jsonl'; paths are read from the working directory",
        ),
    ],
)
def test_a_bad_key_is_named(stage: type, table: dict[str, object], message: str) -> None:
    with pytest.raises(CaiError) as raised:
        build(stage, table, "t")
    assert str(raised.value) == message
