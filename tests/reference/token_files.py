#!/usr/bin/env python3
"""What transformers makes of a tokenizer's files, for the suite `reference`: the tokens of a text, and the texts of tokens.

usage: token_files.py token_files.json      (needs transformers==5.24.0; no torch)

Each case is our byte-level tokenizer of 261 tokens (`fixtures/vocabulary.rs`) and the plain token "the", of a Llama, with
what is different in tokenizer.json and in the files beside it.
"""
import json, sys, tempfile
from transformers import AutoTokenizer

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
SYMBOLS = sorted([chr(byte) for byte in PRINTABLE] + [chr(256 + n) for n in range(len(OTHERS))])
VOCABULARY = {token: id for id, token in enumerate(SPECIAL + SYMBOLS + ["the"])}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
# Tokens that are shown as texts: the special ones, a plain one, and what may have been added.
SHOWN = [*range(5), VOCABULARY["a"], *range(261, 265)]


def token(content, special=True, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def around(before, after):
    pick = lambda text: {"SpecialToken": {"id": text, "type_id": 0}}
    single = [*map(pick, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(pick, after)]
    special = {text: {"id": text, "ids": [VOCABULARY[text]], "tokens": [text]} for text in before + after}
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}


def added(**changed):
    """Entries of tokenizer.json, of which some are different."""
    return [{"id": id, **token(text), **changed.get(f"t{id}", {})} for id, text in enumerate(SPECIAL)]


def pieces():
    """A tokenizer of the SentencePiece kind, as older versions of transformers converted it."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "c", "\u2581a", "\u2581\u2581"]
    replace = lambda pattern, content: {"type": "Replace", "pattern": {"String": pattern}, "content": content}
    return {
        "added_tokens": added()[:3],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": {text: id for id, text in enumerate(tokens)},
                  "merges": ["\u2581 a", "\u2581 \u2581"]},
    }


def llama(name="LlamaTokenizer", **fields):
    return {"eos_token": "</s>", "tokenizer_class": name, **fields}


CONFIG, MAP, ADDED, MODEL = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"
decoder = lambda *tokens: {"added_tokens_decoder": {str(id): fields for id, fields in tokens}}
TEXT = "a the <s>  b<|im_end|>  c <x> "
SPACED = " a  the </s> b</s>a <s>"
CASES = {
    "plain": ({}, {}),
    "add-bos-on": ({}, {CONFIG: {"add_bos_token": True}}),
    "add-bos-off": ({"post_processor": around(["<s>"], ["</s>"])}, {CONFIG: {"add_bos_token": False, "add_eos_token": False}}),
    "add-eos-on": ({"post_processor": around(["<s>"], [])}, {CONFIG: {"add_eos_token": True}}),
    "listed-new": ({}, {CONFIG: decoder((300, token("<x>")))}),
    "listed-new-text": ({}, {CONFIG: decoder((2, token("<x>", False)))}),
    "listed-plain-word": ({}, {CONFIG: decoder((261, token("the", False, normalized=True)))}),
    "listed-strips": ({}, {CONFIG: decoder((1, token("<s>", rstrip=True, lstrip=True)))}),
    "listed-no-more-special": ({}, {CONFIG: decoder((3, token("<|im_start|>", False)), (4, token("<|im_end|>", False, rstrip=True)))}),
    "listed-single-word": ({}, {CONFIG: decoder((261, token("the", single_word=True)))}),
    "eos-plain-word": ({}, {CONFIG: {"eos_token": "the"}}),
    "pad-unknown": ({}, {CONFIG: {"pad_token": "<x>"}}),
    "pad-unknown-typed": ({}, {CONFIG: {"pad_token": typed("<x>", rstrip=True)}}),
    "eos-typed": ({}, {CONFIG: {"eos_token": typed("<|im_end|>", lstrip=True, rstrip=True)}}),
    "eos-typed-listed": ({}, {CONFIG: {"eos_token": typed("<|im_end|>", lstrip=True, rstrip=True), **decoder((300, token("<x>")))}}),
    "other-names": ({}, {CONFIG: {"image_token": "<x>"}}),
    "extra-list": ({}, {CONFIG: {"extra_special_tokens": ["<x>", "the"]}}),
    "extra-names": ({}, {CONFIG: {"extra_special_tokens": {"image_token": "<x>"}}}),
    "additional": ({}, {CONFIG: {"additional_special_tokens": ["the", typed("<x>", lstrip=True)]}}),
    "json-strips": ({"added_tokens": added(t4={"rstrip": True}, t3={"special": False})}, {}),
    "json-strips-listed-other": ({"added_tokens": added(t4={"rstrip": True})}, {CONFIG: decoder((300, token("<x>")))}),
    "json-none-added": ({"added_tokens": []}, {}),
    "map": ({}, {MAP: {"eos_token": "</s>", "pad_token": "<x>"}}),
    "map-typed": ({}, {MAP: {"pad_token": {"content": "<x>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}}}),
    "map-beside-listed": ({}, {MAP: {"pad_token": "<x>"}, CONFIG: decoder((2, token("</s>")))}),
    "added-file": ({}, {ADDED: {"<x>": 700}}),
    "added-file-special": ({}, {ADDED: {"<x>": 262}, MAP: {"additional_special_tokens": ["<x>"]}}),
    "prefix-space": ({}, {CONFIG: {"add_prefix_space": True}}),
    "cleaned-bpe": ({}, {CONFIG: {"clean_up_tokenization_spaces": True}}),
    "pieces": (pieces(), {CONFIG: llama("PreTrainedTokenizerFast")}),
    "pieces-llama": (pieces(), {CONFIG: llama()}),
    "pieces-llama-legacy": (pieces(), {CONFIG: llama("LlamaTokenizerFast", legacy=True)}),
    "pieces-llama-no-prefix": (pieces(), {CONFIG: llama(add_prefix_space=False)}),
    "pieces-mistral": (pieces(), {CONFIG: llama(), MODEL: {"model_type": "mistral"}}),
    "pieces-qwen3": (pieces(), {CONFIG: llama(), MODEL: {"model_type": "qwen3"}}),
    "bytes-llama": ({}, {CONFIG: {"tokenizer_class": "LlamaTokenizer"}}),
}


def case(name, tokenizer, files):
    own = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(), "normalizer": None,
           "pre_tokenizer": BYTES, "post_processor": None, "decoder": BYTES,
           "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": VOCABULARY, "merges": []}}
    config = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
    with tempfile.TemporaryDirectory() as folder:
        whole = {"tokenizer.json": {**own, **tokenizer}, MODEL: {"model_type": "llama"}, **files, CONFIG: {**config, **files.get(CONFIG, {})}}
        for file, fields in whole.items():
            with open(f"{folder}/{file}", "w") as out:
                json.dump(fields, out)
        made = AutoTokenizer.from_pretrained(folder)
    text = SPACED if "model" in tokenizer else TEXT
    return {"name": name, "tokenizer": tokenizer, "files": files, "text": text, "tokens": made(text)["input_ids"],
            "shown": {str(id): made.decode([id], skip_special_tokens=True) for id in SHOWN if id < len(made)}}


def main(out):
    with open(out, "w") as file:
        cases = [json.dumps(case(name, *given), ensure_ascii=False) for name, given in CASES.items()]
        file.write("[\n" + ",\n".join(cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
