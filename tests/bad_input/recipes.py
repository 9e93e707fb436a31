"""Recipes that are refused as a whole."""
# ruff: noqa: E501

from recipes import RESPONSES as STEP
from recipes import SCRIPTED as ENGINE

from bad_input.case import FILES, RECIPE, Case

SFT = """
[[steps]]
name = "sl-cai"
train = "sft"
model = "start"
epochs = 1
batch_size = 2
"""
LOCAL = """
[engines.start]
type = "local"
model = "nowhere"
"""


def recipe(name: str, text: str, message: str) -> Case:
    """A recipe that is refused as a whole."""
    return Case(
        name=f"recipe: {name}",
        command=f"run {RECIPE}",
        message=message,
        files={**FILES, RECIPE: text},
    )


def step(**changes: str) -> str:
    """STEP with keys changed, added, or (with "") taken out."""
    lines = [line for line in STEP.strip().splitlines() if line.split(" =")[0] not in changes]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in changes.items() if value)]) + "\n"


RECIPES = [
    recipe("empty", "", "runs/x/recipe.toml: there is no step in it; add a [[steps]] table"),
    recipe(
        "no TOML",
        "seed = = 1",
        "runs/x/recipe.toml: this is no valid TOML: Invalid value (at line 1, column 8); mend that line",
    ),
    recipe(
        "no steps", "seed = 1\n" + ENGINE, "runs/x/recipe.toml: there is no step in it; add a [[steps]] table"
    ),
    recipe(
        "unknown top-level key",
        "sede = 1\n" + ENGINE + STEP,
        "runs/x/recipe.toml: unknown key 'sede'; did you mean 'seed'?",
    ),
    recipe(
        "seed mistyped",
        'seed = "one"\n' + ENGINE + STEP,
        "runs/x/recipe.toml: 'seed' is 'one'; write a whole number",
    ),
    recipe(
        "steps no list",
        'steps = "generate"\n' + ENGINE,
        "runs/x/recipe.toml: 'steps' is 'generate'; write [[steps]] tables",
    ),
    recipe(
        "unknown key in a step",
        ENGINE + step(sampels="2"),
        "runs/x/recipe.toml [steps.1]: unknown key 'sampels'; did you mean 'samples'?",
    ),
    recipe(
        "mistyped key in a step",
        ENGINE + step(samples='"two"'),
        "runs/x/recipe.toml [steps.1]: 'samples' is 'two'; write a whole number",
    ),
    recipe(
        "refused value in a step",
        ENGINE + step(samples="0"),
        "runs/x/recipe.toml [steps.1]: 'samples' is 0; write a number above 0",
    ),
    recipe(
        "name missing",
        ENGINE + step(name=""),
        "runs/x/recipe.toml [steps.1]: 'name' is missing; add name = \"...\"; its output is called so",
    ),
    recipe(
        "name is a path",
        ENGINE + step(name='"../out"'),
        "runs/x/recipe.toml [steps.1]: '../out' is no name for a file; use letters, digits, '-' and '_' (and not 'recipe')",
    ),
    recipe(
        "name is recipe",
        ENGINE + step(name='"recipe"'),
        "runs/x/recipe.toml [steps.1]: 'recipe' is no name for a file; use letters, digits, '-' and '_' (and not 'recipe')",
    ),
    recipe(
        "name twice",
        ENGINE + STEP + STEP,
        "runs/x/recipe.toml [steps.2]: another step is called 'responses' too; give it another name",
    ),
    recipe(
        "name mistyped", ENGINE + step(name="3"), "runs/x/recipe.toml [steps.1]: 'name' is 3; write a string"
    ),
    recipe(
        "no stage, train or eval",
        ENGINE + step(stage=""),
        "runs/x/recipe.toml [steps.1]: it has no stage, train or eval; give exactly one of stage, train and eval",
    ),
    recipe(
        "stage and eval",
        ENGINE + step(eval='"organism"'),
        "runs/x/recipe.toml [steps.1]: it has stage and eval; give exactly one of stage, train and eval",
    ),
    recipe(
        "unknown stage",
        ENGINE + step(stage='"generat"'),
        "runs/x/recipe.toml [steps.1]: no stage is called 'generat'; did you mean 'generate'? (a stage of your own: 'package.module:Class')",
    ),
    recipe(
        "unknown eval",
        ENGINE + STEP + '[[steps]]\nname = "table"\neval = "organsim"\n',
        "runs/x/recipe.toml [steps.2]: no eval is called 'organsim'; did you mean 'organism'? (an eval of your own: 'package.module:Class')",
    ),
    recipe(
        "unknown objective",
        ENGINE + STEP + SFT.replace('"sft"', '"stf"'),
        "runs/x/recipe.toml [steps.2]: no objective is called 'stf'; did you mean 'sft'? (an objective of your own: 'package.module:Class')",
    ),
    recipe(
        "unknown judge",
        'constitution = "mine.toml"\n'
        + ENGINE
        + STEP
        + '[[steps]]\nname = "c"\nstage = "compare"\nengine = "start"\njudge = "logprobs"\n',
        "runs/x/recipe.toml [steps.2] judge: no judge is called 'logprobs'; did you mean 'logprob'? (a judge of your own: 'package.module:Class')",
    ),
    recipe(
        "engine missing",
        ENGINE + step(engine=""),
        "runs/x/recipe.toml [steps.1]: 'engine' is missing; name one (known: start)",
    ),
    recipe(
        "unknown engine",
        ENGINE + step(engine='"strat"'),
        "runs/x/recipe.toml [steps.1]: no engine is called 'strat'; did you mean 'start'?",
    ),
    recipe(
        "engine of a step to come",
        ENGINE + step(engine='"sl-cai"') + SFT,
        "runs/x/recipe.toml [steps.1]: 'sl-cai' is no model yet: a later step, or one that trains nothing; known: start",
    ),
    recipe(
        "engine for a stage that asks nothing",
        ENGINE + STEP + '[[steps]]\nname = "s"\nstage = "screen"\nengine = "start"\n',
        "runs/x/recipe.toml [steps.2]: 'screen' asks no model; take 'engine' out",
    ),
    recipe(
        "engine without a type",
        "[engines.start]\nmodel = 'x'\n" + STEP,
        "runs/x/recipe.toml [engines.start]: 'type' is missing; add type = \"local\"",
    ),
    recipe(
        "engine of an unknown type",
        "[engines.start]\ntype = 'locl'\n" + STEP,
        "runs/x/recipe.toml [engines.start]: no engine is called 'locl'; did you mean 'local'? (an engine of your own: 'package.module:Class')",
    ),
    recipe(
        "unknown key of an engine",
        LOCAL + "modle = 'x'\n" + STEP,
        "runs/x/recipe.toml [engines.start]: unknown key 'modle'; did you mean 'model'?",
    ),
    recipe(
        "engine that nothing uses",
        ENGINE + "[engines.judge]\ntype = 'scripted'\n" + STEP,
        "runs/x/recipe.toml [engines.judge]: no step uses it; name it in a step, or take it out",
    ),
    recipe(
        "constitution that nothing uses",
        "constitution = 'mine.toml'\n" + ENGINE + STEP,
        "runs/x/recipe.toml: no step uses 'constitution'; take it out",
    ),
    recipe(
        "constitution that is not there",
        "constitution = 'mien.toml'\n"
        + ENGINE
        + STEP
        + '[[steps]]\nname = "c"\nstage = "critique"\nengine = "start"\n',
        "runs/x/recipe.toml [steps.2] constitution: there is no file 'mien.toml'; paths are read from the working directory",
    ),
    recipe(
        "constitution missing",
        ENGINE + STEP + '[[steps]]\nname = "c"\nstage = "critique"\nengine = "start"\n',
        "runs/x/recipe.toml [steps.2]: 'constitution' is missing; add constitution = ...",
    ),
    recipe(
        "from missing in the first step",
        ENGINE + step(**{"from": ""}),
        "runs/x/recipe.toml [steps.1]: 'from' is missing; name an earlier step or a file",
    ),
    recipe(
        "from a file that is not there",
        ENGINE + step(**{"from": '"nowhere/prompts.jsonl"'}),
        "runs/x/recipe.toml [steps.1]: there is no file 'nowhere/prompts.jsonl'; paths are read from the working directory",
    ),
    recipe(
        "from a folder",
        ENGINE + step(**{"from": '"runs/x"'}),
        "runs/x/recipe.toml [steps.1]: 'runs/x' is a folder; give a .jsonl file",
    ),
    recipe(
        "from an unknown step",
        ENGINE + step(**{"from": '"respnses"'}),
        "runs/x/recipe.toml [steps.1]: no step is called 'respnses'; did you mean 'responses'?",
    ),
    recipe(
        "from itself",
        ENGINE + step(**{"from": '"responses"'}),
        "runs/x/recipe.toml [steps.1]: step 'responses' is not made by then; read from an earlier step, or move that one up",
    ),
    recipe(
        "from mistyped",
        ENGINE + step(**{"from": "3"}),
        "runs/x/recipe.toml [steps.1]: 'from' is 3; write a step, a path or a list of them",
    ),
    recipe(
        "from the same twice",
        ENGINE + step(**{"from": '["prompts.jsonl", "prompts.jsonl"]'}),
        "runs/x/recipe.toml [steps.1]: 'from' has 'prompts.jsonl' twice; take one out",
    ),
    recipe(
        "wrong rows between steps",
        "constitution = 'mine.toml'\n"
        + ENGINE
        + STEP
        + '[[steps]]\nname = "c"\nstage = "compare"\nengine = "start"\n[[steps]]\nname = "r"\nstage = "revise"\nengine = "start"\n',
        "runs/x/recipe.toml [steps.3]: step 'c' makes comparisons, 'revise' takes records; read from another step",
    ),
    recipe(
        "rows of a trained model",
        "constitution = 'mine.toml'\n"
        + LOCAL
        + STEP
        + SFT
        + '[[steps]]\nname = "r"\nstage = "screen"\nfrom = "sl-cai"\n',
        "runs/x/recipe.toml [steps.3]: step 'sl-cai' makes no rows to read; name a stage's step or a file",
    ),
    recipe(
        "limit of nothing",
        ENGINE + step(limit="0"),
        "runs/x/recipe.toml [steps.1]: 'limit' is 0; write a whole number above 0",
    ),
    recipe(
        "part of nothing",
        ENGINE + step(part="[0.5, 0.2]"),
        "runs/x/recipe.toml [steps.1]: 'part' is [0.5, 0.2]; write two numbers, 0 <= low < high <= 1",
    ),
    recipe(
        "training without a model",
        ENGINE + STEP + SFT.replace('model = "start"\n', ""),
        "runs/x/recipe.toml [steps.2]: 'model' is missing; name the engine or the model folder to train",
    ),
    recipe(
        "training what has no weights",
        ENGINE + STEP + SFT,
        "sl-cai: there is no model 'scripted'; give a folder or a hub id (known: organism)",
    ),
    recipe(
        "unknown key of training",
        LOCAL + STEP + SFT + "epoch = 1\n",
        "runs/x/recipe.toml [steps.2]: unknown key 'epoch'; did you mean 'epochs'?",
    ),
    recipe(
        "two lengths of training",
        LOCAL + STEP + SFT + "steps = 3\n",
        "runs/x/recipe.toml [steps.2]: 'epochs' and 'steps' are both given; leave one out",
    ),
    recipe(
        "weights for other inputs",
        LOCAL + STEP + SFT + "weights = [1.0, 2.0]\n",
        "runs/x/recipe.toml [steps.2]: weights and inputs differ in number (2 and 1); give one weight for each input",
    ),
    recipe(
        "weight of nothing",
        LOCAL + STEP + SFT + "weights = [0.0]\n",
        "runs/x/recipe.toml [steps.2]: 'weights' is [0.0]; write a list of numbers above 0",
    ),
    recipe(
        "training under an engine's name",
        LOCAL + STEP + SFT.replace("sl-cai", "start"),
        "runs/x/recipe.toml [steps.2]: an engine is called 'start' already; give the step another name",
    ),
    recipe(
        "model that is not there",
        LOCAL + STEP,
        "there is no model 'nowhere'; give a folder or a hub id (known: organism)",
    ),
    recipe(
        "eval of comparisons with models",
        ENGINE
        + '[[steps]]\nname = "t"\neval = "organism_judge"\nmodels = ["start"]\nfrom = "prompts.jsonl"\n',
        "runs/x/recipe.toml [steps.1]: eval 'organism_judge' reads comparisons, not the answers of models; take 'models' out",
    ),
    recipe(
        "eval of a model twice",
        ENGINE
        + '[[steps]]\nname = "t"\neval = "organism"\nmodels = ["start", "start"]\nfrom = "prompts.jsonl"\n',
        "runs/x/recipe.toml [steps.1]: 'models' has 'start' twice; take one out",
    ),
    recipe(
        "eval of no model",
        ENGINE + '[[steps]]\nname = "t"\neval = "organism"\nmodels = []\nfrom = "prompts.jsonl"\n',
        "runs/x/recipe.toml [steps.1]: 'models' is []; write a list of engines",
    ),
]
