"""Command lines that are wrong, or that point at what is not there."""
# ruff: noqa: E501

from recipes import RESPONSES, SCRIPTED

from bad_input.case import FILES, OUT, RECIPE, Case


def flags(name: str, command: str, message: str, code: int = 2, **files: str) -> Case:
    every = {**FILES, **files}
    return Case(name=f"flags: {name}", command=command, message=message, code=code, files=every)


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
        **{RECIPE: SCRIPTED + RESPONSES},
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
        **{RECIPE: SCRIPTED + RESPONSES},
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
