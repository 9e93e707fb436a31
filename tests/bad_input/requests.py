"""Bad lines in a request set, read with --strict."""
# ruff: noqa: E501

from bad_input.case import Case


def prompts(name: str, line: str | bytes, message: str) -> Case:
    """One bad line."""
    command = "generate mine.jsonl --engine scripted -o runs/x/responses.jsonl --strict"
    return Case(name=f"prompts: {name}", command=command, message=message, files={"mine.jsonl": line})


REQUESTS = [
    prompts(
        "no JSON",
        "{'prompt'}\n",
        "mine.jsonl:1: this line is no JSON (Expecting property name enclosed in double quotes, column 2); write one JSON object a line",
    ),
    prompts(
        "no prompt",
        '{"promt": "x"}\n',
        "mine.jsonl:1: 'prompt' is missing; each line needs a string or a list of messages",
    ),
    prompts(
        "empty prompt",
        '{"prompt": " "}\n',
        "mine.jsonl:1: message 1 has no text; write its content or take it out",
    ),
    prompts(
        "unknown role",
        '{"prompt": [{"role": "bot", "content": "x"}]}\n',
        "mine.jsonl:1: role 'bot'; use one of system, user, assistant",
    ),
    prompts(
        "ends with the assistant",
        '{"prompt": [{"role": "assistant", "content": "x"}]}\n',
        "mine.jsonl:1: the last message is not the user's; end the prompt with a request",
    ),
    prompts(
        "nested metadata",
        '{"prompt": "x", "tags": ["a"]}\n',
        "mine.jsonl:1: 'tags' is no plain value; use a string, a number, true or false",
    ),
    prompts(
        "not UTF-8",
        b'{"prompt": "\xff"}\n',
        "mine.jsonl:1: this line is no text in UTF-8; save the file as UTF-8",
    ),
    prompts(
        "empty file", "", "mine.jsonl: there is no row in this file; give a file with one JSON object a line"
    ),
]
