"""What a model folder must hold. Nothing is loaded: the check is that of the engine before it opens."""
# ruff: noqa: E501

from bad_input.case import OUT, PROMPTS, Case

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
