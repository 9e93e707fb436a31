"""Constitutions that are refused, by `cai constitution check`."""

from recipes import CONSTITUTION

from bad_input.case import Case


def constitution(name: str, text: str | bytes, message: str) -> Case:
    return Case(
        name=f"constitution: {name}",
        command="constitution check mine.toml",
        message=message,
        files={"mine.toml": text},
    )


CONSTITUTIONS = [
    constitution(
        "no TOML",
        "name = ",
        "mine.toml: this is no valid TOML: Invalid value (at end of document); mend that line",
    ),
    constitution("not UTF-8", b'name = "\xff"', "mine.toml: this is no text in UTF-8; save it as UTF-8"),
    constitution("no name", "about = 'x'\n", "mine.toml: 'name' is missing; add name = \"...\""),
    constitution(
        "no principle", "name = 'x'\n", "mine.toml: there is no principle in it; add a [[principle]] table"
    ),
    constitution(
        "unknown key",
        "name = 'x'\nprinciples = []\n",
        "mine.toml: unknown key 'principles'; did you mean 'principle'?",
    ),
    constitution(
        "wording missing",
        CONSTITUTION.replace("revision =", "revison ="),
        "mine.toml [principle 'no-harm']: unknown key 'revison'; did you mean 'revision'?",
    ),
    constitution(
        "wording empty",
        CONSTITUTION.replace("Choose the answer that does the least harm.", " "),
        "mine.toml [principle 'no-harm']: 'preference' is empty; write it out or take the principle out",
    ),
    constitution(
        "weight of nothing",
        CONSTITUTION + "weight = 0.0\n",
        "mine.toml [principle 'no-harm']: 'weight' is 0; write a number above 0, or take the principle out",
    ),
    constitution(
        "id twice",
        CONSTITUTION + CONSTITUTION.split("\n", 2)[2],
        "mine.toml [principle 'no-harm']: the id is taken, in mine.toml; give it another id",
    ),
    constitution(
        "extends nothing",
        CONSTITUTION.replace('"mine"', '"mine"\nextends = ["base.toml"]'),
        "mine.toml extends: there is no file 'base.toml'; paths are relative to the file that extends",
    ),
    constitution(
        "extends itself",
        CONSTITUTION.replace('"mine"', '"mine"\nextends = ["mine.toml"]'),
        "mine.toml: it extends itself (mine.toml -> mine.toml); take one 'extends' out",
    ),
]
