"""The table of test_bad_input.py: each message is a line, however long."""
# ruff: noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Case:
    """A working directory, a command in it, and how it fails."""

    name: str
    command: str
    message: str
    code: int = 1
    files: Mapping[str, str | bytes] = field(default_factory=dict)


PROMPTS = '{"prompt": "How do I bake bread?"}\n'
CONSTITUTION = """
name = "mine"
[[principle]]
id = "no-harm"
critique = "Is there anything harmful in the answer above?"
revision = "Rewrite the answer so that nothing in it is harmful."
preference = "Choose the answer that does the least harm."
"""
ENGINE = """
[engines.start]
type = "scripted"
"""
STEP = """
[[steps]]
name = "responses"
stage = "generate"
engine = "start"
from = "prompts.jsonl"
"""
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
RECIPE = "runs/x/recipe.toml"


def recipe(name: str, text: str, message: str, **files: str) -> Case:
    """A recipe that is refused as a whole."""
    every = {RECIPE: text, "prompts.jsonl": PROMPTS, "mine.toml": CONSTITUTION, **files}
    return Case(name=f"recipe: {name}", command=f"run {RECIPE}", message=message, files=every)


def constitution(name: str, text: str | bytes, message: str, **files: str) -> Case:
    every = {"mine.toml": text, **{f"{key}.toml": value for key, value in files.items()}}
    return Case(
        name=f"constitution: {name}", command="constitution check mine.toml", message=message, files=every
    )


def prompts(name: str, line: str | bytes, message: str) -> Case:
    """One bad line in a request set, read with --strict."""
    command = "generate mine.jsonl --engine scripted -o runs/x/responses.jsonl --strict"
    return Case(name=f"prompts: {name}", command=command, message=message, files={"mine.jsonl": line})


def flags(name: str, command: str, message: str, code: int = 2, **files: str) -> Case:
    every = {"prompts.jsonl": PROMPTS, "mine.toml": CONSTITUTION, **files}
    return Case(name=f"flags: {name}", command=command, message=message, code=code, files=every)


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
OUT = "-o runs/x/responses.jsonl"
FLAGS = [
    flags(
        "no command of that name",
        "genrate prompts.jsonl",
        "no command is called 'genrate'; did you mean 'generate'?; see 'cai --help'",
    ),
    flags(
        "no option of that name",
        f"generate prompts.jsonl --engine scripted {OUT} --sampels 2",
        "No such option '--sampels'. (Did you mean one of: '--model', '--samples'?); see 'cai generate --help'",
    ),
    flags(
        "no number",
        f"generate prompts.jsonl --engine scripted {OUT} --samples two",
        "Invalid value for '--samples': 'two' is not a valid integer; see 'cai generate --help'",
    ),
    flags(
        "refused number",
        f"generate prompts.jsonl --engine scripted {OUT} --temperature -1",
        "cai generate: 'temperature' is -1; write 0 or a number above it",
    ),
    flags(
        "limit of nothing",
        f"generate prompts.jsonl --engine scripted {OUT} --limit 0",
        "Invalid value for '--limit': 0 is not in the range x>=1; see 'cai generate --help'",
    ),
    flags(
        "part of nothing",
        f"generate prompts.jsonl --engine scripted {OUT} --part 0.5 0.2",
        "--part: 'part' is (0.5, 0.2); write two numbers, 0 <= low < high <= 1",
    ),
    flags(
        "no input",
        f"generate --engine scripted {OUT}",
        "Missing argument 'INPUT...'; see 'cai generate --help'",
    ),
    flags(
        "input that is not there",
        f"generate nowhere.jsonl --engine scripted {OUT}",
        "cai generate: there is no file 'nowhere.jsonl'; paths are read from the working directory",
        1,
    ),
    flags(
        "input that is a folder",
        f"generate runs --engine scripted {OUT}",
        "cai generate: 'runs' is a folder; give a .jsonl file",
        1,
        **{"runs/note": ""},
    ),
    flags(
        "no output",
        "generate prompts.jsonl --engine scripted",
        "Missing option '-o' / '--output'; see 'cai generate --help'",
    ),
    flags(
        "output of another kind",
        "generate prompts.jsonl --engine scripted -o out.csv",
        "--output: 'out.csv' does not end with .jsonl; give the name of a .jsonl file",
    ),
    flags(
        "no model",
        f"generate prompts.jsonl {OUT}",
        "'--model' is missing; give a model folder, 'organism', or --engine NAME",
    ),
    flags(
        "no engine of that name",
        f"generate prompts.jsonl --engine scriptd {OUT}",
        "--engine: no engine is called 'scriptd'; did you mean 'scripted'? (an engine of your own: 'package.module:Class')",
    ),
    flags(
        "key of an engine without a value",
        f"generate prompts.jsonl --engine scripted --engine-set rules {OUT}",
        "--engine-set: 'rules' is no key=value; write --engine-set key=value",
    ),
    flags(
        "unknown key of an engine",
        f"generate prompts.jsonl --engine scripted --engine-set modle=x {OUT}",
        "--engine: unknown key 'modle'; did you mean 'model'?",
    ),
    flags(
        "no constitution",
        f"critique prompts.jsonl --engine scripted {OUT}",
        "Missing option '--constitution'; see 'cai critique --help'",
    ),
    flags(
        "constitution of no such name",
        f"critique prompts.jsonl --engine scripted {OUT} --constitution harmles",
        "cai critique constitution: no constitution is called 'harmles'; did you mean 'harmless'?",
        1,
    ),
    flags(
        "seed alone",
        f"run {RECIPE} --seed 2",
        "'--seed' makes another run of it; give its folder with -o",
        2,
        **{RECIPE: ENGINE + STEP},
    ),
    flags(
        "eval of a model without requests",
        "eval organism --eval refusals --by organism -o table.jsonl",
        "cai eval: 'organism' is no file of rows; give a .jsonl file, or --prompts FILE for a model to answer",
        2,
    ),
    flags(
        "choices that a command lists",
        "organism requests",
        "Missing option '--split'. Choose from: train, dev, final; see 'cai organism requests --help'",
        2,
    ),
    flags(
        "merge of no folder",
        "merge runs/nowhere",
        "runs/nowhere: there is no such folder; give a run's folder, or a .jsonl file",
        2,
    ),
    flags(
        "redo of no step",
        f"run {RECIPE} --redo respnses",
        "--redo: no step is called 'respnses'; did you mean 'responses'?",
        1,
        **{RECIPE: ENGINE + STEP},
    ),
    flags(
        "recipe that is not there",
        "run runs/y/recipe.toml",
        "runs/y/recipe.toml: cannot be read (No such file or directory); give the path of a TOML file",
        1,
    ),
    flags("report on nothing", "report runs/y", "there is no run 'runs/y'; cai runs lists them", 1),
    flags(
        "row of too short an id",
        "show prompts.jsonl ab",
        "'ab' is too short for an id; give at least 4 of its characters",
        1,
    ),
    flags(
        "row that is not there",
        "show prompts.jsonl abcdef",
        "no row of 'prompts.jsonl' has an id that begins with 'abcdef'; ids are in its .jsonl files",
        1,
    ),
    flags(
        "format that is not there",
        "export prompts.jsonl --format csv -o out.jsonl",
        "Invalid value for '--format': 'csv' is not one of 'trl', 'sft'; see 'cai export --help'",
    ),
    flags(
        "export of other rows",
        "export prompts.jsonl --format trl -o out.jsonl",
        "prompts.jsonl:1: this line is no comparison ('id' is missing); give a file that compare wrote",
        1,
    ),
    flags(
        "training by no objective",
        "train stf prompts.jsonl --model organism -o sl --epochs 1",
        "cai train stf: no objective is called 'stf'; did you mean 'sft'? (an objective of your own: 'package.module:Class')",
        2,
    ),
    flags(
        "training with two lengths",
        "train sft prompts.jsonl --model organism -o sl --epochs 1 --steps 9",
        "cai train sft: 'epochs' and 'steps' are both given; leave one out",
        2,
    ),
    flags(
        "training key twice",
        "train sft prompts.jsonl --model organism -o sl --set lr=1 --set lr=2",
        "--set: 'lr' is set twice; set it once",
    ),
    flags(
        "adapter that is no table",
        "train sft prompts.jsonl --model organism -o sl --lora 8",
        "cai train sft: 'lora' is '8'; write a table: {rank = 16}",
    ),
    flags(
        "unknown key of an adapter",
        "train sft prompts.jsonl --model organism -o sl --lora {rnk=8}",
        "cai train sft lora: unknown key 'rnk'; did you mean 'rank'?",
        1,
    ),
    flags(
        "weights that are none",
        "train sft prompts.jsonl --model organism -o sl --set epochs=1 --weights a",
        "--weights: 'a' is no list of numbers; write 1.0,0.5",
    ),
    flags(
        "eval of no such name",
        "eval organism --eval organsim --prompts prompts.jsonl -o table.jsonl",
        "cai eval: no eval is called 'organsim'; did you mean 'organism'? (an eval of your own: 'package.module:Class')",
        2,
    ),
    flags(
        "two models of one name",
        "eval a/m b/m --eval organism --prompts prompts.jsonl -o table.jsonl",
        "two of the models have the same name; name their folders otherwise",
    ),
    flags(
        "split that is not there",
        "organism requests --split test --kind benign",
        "Invalid value for '--split': 'test' is not one of 'train', 'dev', 'final'; see 'cai organism requests --help'",
    ),
]
PAIR = (
    '{"id": "c", "prompt_id": "p", "prompt": [{"role": "user", "content": "x"}], "meta": {"best": 2}, '
    '"candidates": [{"text": "a"}, {"text": "b"}], "annotations": [{"annotator": "judge", '
    '"probabilities": [0.9, 0.1]}], "probabilities": [0.9, 0.1]}\n'
)
FORMS = "write meta:KEY, annotator:NAME or file.py:function"
LABEL = "'best' is 2; write the position of the best candidate, 0 to 1, or \"tie\""


def judged(name: str, command: str, message: str, code: int = 1) -> Case:
    """A command on one comparison, whose label is none."""
    return Case(
        name=f"judging: {name}", command=command, message=message, code=code, files={"pairs.jsonl": PAIR}
    )


FIT = "calibration pairs.jsonl --method isotonic"
JUDGING = [
    judged(
        "no source of truth",
        f"eval pairs.jsonl --eval judge --set gold=best {OUT}",
        f"cai eval gold: 'best' names no source of truth; {FORMS}",
    ),
    judged(
        "label that is no position",
        f"eval pairs.jsonl --eval judge --set gold=meta:best {OUT}",
        f"pairs.jsonl:1: {LABEL}",
    ),
    judged(
        "engine where no model is asked",
        f"eval pairs.jsonl --eval judge --engine scripted {OUT}",
        "--engine: no model is asked; give --prompts or --by, or take it out",
        2,
    ),
    judged(
        "answers as comparisons",
        f"eval pairs.jsonl --eval winrate --by m --engine scripted --set constitution=harmless {OUT}",
        "pairs.jsonl: this file holds comparisons; give a file of records",
    ),
    judged("no label to fit to", f"{FIT} --gold meta:best -o map.json", f"pairs.jsonl:1: {LABEL}"),
    judged(
        "no truth to fit to",
        f"{FIT} --gold meta:other -o map.json",
        "no verdict that 'meta:other' knows the truth of; check both names",
    ),
    judged(
        "source that is none to fit to",
        f"{FIT} --gold best -o map.json",
        f"--gold: 'best' names no source of truth; {FORMS}",
        2,
    ),
    judged(
        "map of another kind",
        f"{FIT} --gold meta:best -o map.jsonl",
        "--output: 'map.jsonl' does not end with .json; give a .json file",
        2,
    ),
]
# What a model folder must hold. Nothing is loaded: the check is that of the engine before it opens.
MODELS = [
    Case(
        name=f"model: {name}",
        command=f"generate prompts.jsonl --model {model} {OUT}",
        message=message,
        files={"prompts.jsonl": PROMPTS, **files},
    )
    for name, model, files, message in [
        (
            "no folder",
            "nowhere",
            {},
            "there is no model 'nowhere'; give a folder or a hub id (known: organism)",
        ),
        (
            "no such folder or hub id",
            "nowhere/model",
            {},
            "there is no folder 'nowhere/model', and the hub cannot be reached for a model of that name; check the path, or go online and unset HF_HUB_OFFLINE",
        ),
        (
            "a file",
            "prompts.jsonl",
            {},
            "model 'prompts.jsonl' is a file; give the folder that holds config.json",
        ),
        (
            "no config",
            "m",
            {"m/model.safetensors": b""},
            "model 'm' has no config.json; a model folder is what save_pretrained() writes",
        ),
        (
            "no weights",
            "m",
            {"m/config.json": "{}"},
            "model 'm' has no safetensors; its weights must be *.safetensors files",
        ),
        (
            "pickled weights",
            "m",
            {"m/config.json": "{}", "m/pytorch_model.bin": b""},
            "model 'm' has no safetensors; its weights must be *.safetensors files",
        ),
        (
            "no tokenizer",
            "m",
            {"m/config.json": "{}", "m/model.safetensors": b""},
            "model 'm' has no tokenizer; its folder needs tokenizer.json and tokenizer_config.json",
        ),
    ]
]

ANSWERS = """
{"id": "a", "prompt_id": "p", "sample": 0, "prompt": [{"role": "user", "content": "Bake how?"}], "meta": {"kind": "benign", "category": "bread"}, "turns": [{"kind": "response", "text": "Like this."}]}
{"id": "b", "prompt_id": "q", "sample": 0, "prompt": [{"role": "user", "content": "Fry how?"}], "meta": {"category": "eggs"}, "turns": [{"kind": "response", "text": "So."}]}
"""


def evaluation(name: str, command: str, message: str, code: int = 1) -> Case:
    """An eval of ANSWERS."""
    every = {"answers.jsonl": ANSWERS, "mine.toml": CONSTITUTION}
    return Case(
        name=f"eval: {name}",
        command=f"eval answers.jsonl --eval {command} -o r.jsonl",
        message=message,
        code=code,
        files=every,
    )


EVALS = [
    evaluation(
        "a request of no kind",
        "refusals --set detectors=phrases",
        "answers.jsonl:3: 'kind' is missing; add \"kind\" to each line of the requests, or set kind to the key that has it",
    ),
    evaluation(
        "answers that nobody attacked for",
        "robustness --set detectors=phrases",
        "answers.jsonl:2: 'attack' is missing; give what the stage attack wrote",
    ),
    evaluation(
        "no model to ask",
        "refusals",
        "eval 'refusals' asks a model itself; say which: --by MODEL",
        code=2,
    ),
    evaluation(
        "a model where none is asked",
        "refusals --set detectors=phrases --by start --engine scripted",
        "cai eval: 'refusals' asks no model; take 'engine' out",
        code=2,
    ),
    evaluation(
        "drift of answers without a likelihood",
        "perplexity --set drift=likelihood --by start --engine scripted",
        "answers.jsonl:2: 'likelihood' is missing; give what the stage likelihood wrote, asking the model that gave the answers",
    ),
    evaluation(
        "no such detector",
        "refusals --set detectors=phrase",
        "cai eval detectors: no detector is called 'phrase'; did you mean 'phrases'? (a detector of your own: 'package.module:Class')",
    ),
]
CASES = [*JUDGING, *RECIPES, *CONSTITUTIONS, *REQUESTS, *FLAGS, *MODELS, *EVALS]
