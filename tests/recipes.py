"""What the recipes of tests are made of, and a folder in which one can be run."""

from pathlib import Path

CONSTITUTION = """
name = "mine"
[[principle]]
id = "no-harm"
critique = "Is there anything harmful in the answer above?"
revision = "Rewrite the answer so that nothing in it is harmful."
preference = "Choose the answer that does the least harm."
"""
SCRIPTED = """
[engines.start]
type = "scripted"
"""
# Steps of the engine "start"; keys can be written after each.
RESPONSES = """
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
"""
CRITIQUES = """
[[steps]]
name = "critiques"
stage = "critique"
engine = "start"
"""
REVISIONS = """
[[steps]]
name = "revisions"
stage = "revise"
engine = "start"
"""
SCREENED = """
[[steps]]
name = "screened"
stage = "screen"
"""
# Without its engine.
COMPARISONS = """
[[steps]]
name = "comparisons"
stage = "compare"
from = "responses"
judge = "logprob"
"""


def prompt_lines(count: int) -> str:
    """A file of so many requests."""
    return "".join(f'{{"prompt": "request {number}"}}\n' for number in range(count))


def run_folder(where: Path, recipe: str, prompts: int) -> Path:
    """The folder of `recipe`, runs/x in `where`, which has the requests and the constitution it names."""
    folder = where / "runs" / "x"
    folder.mkdir(parents=True)
    (where / "prompts.jsonl").write_text(prompt_lines(prompts))
    (where / "mine.toml").write_text(CONSTITUTION)
    (folder / "recipe.toml").write_text(recipe)
    return folder
