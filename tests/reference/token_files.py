#!/usr/bin/env python3
"""What transformers makes of a tokenizer's files, for the suite `reference`: the tokens of a text, and the texts of tokens.

usage: token_files.py token_files.json      (needs transformers==5.24.0; no torch)

Each case is our byte-level tokenizer of 261 tokens (`fixtures/vocabulary.rs`) and the plain token "the", of a Llama, with
what is different in tokenizer.json and in the files beside it. Those of classes have merges as well, which show where a
text is cut, and what a chat template sees of special tokens.
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


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def pieces(**changed):
    """A tokenizer of the SentencePiece kind, as older versions of transformers converted it."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "c", "\u2581a", "\u2581\u2581"]
    return {
        "added_tokens": added()[:3],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": {text: id for id, text in enumerate(tokens)},
                  "merges": ["\u2581 a", "\u2581 \u2581"]},
        **changed,
    }


def llama(name="LlamaTokenizer", **fields):
    return {"eos_token": "</s>", "tokenizer_class": name, **fields}


def cut_by(pattern, *before, normalizer=None):
    """Fields of a byte-level tokenizer that cuts by this pattern."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"normalizer": normalizer, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, split, BYTES]}}


def of_class(name, model_type=None, **fields):
    """Files that name a class of tokenizers."""
    named = {} if name is None else {"tokenizer_class": name}
    return {CONFIG: {**named, **fields}, **({} if model_type is None else {MODEL: {"model_type": model_type}})}


def pieces_of(name, model_type=None, **fields):
    """The same for a tokenizer of pieces, with the end that those have."""
    return of_class(name, model_type, eos_token="</s>", **fields)


def gemma():
    """A tokenizer as those of Gemma are."""
    made = pieces()
    made["normalizer"] = replace(" ", "\u2581")
    made["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    made["decoder"] = {"type": "Sequence", "decoders": [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]}
    return made


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
    "pieces-llama-bytes-named": (pieces(post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}), {CONFIG: llama()}),
}

# What shows where a text is cut, and cuts that no class makes.
SPACE, NEWLINE = "\u0120", "\u010a"
MERGES = [("2", "0"), ("2", "4"), ("20", "24"), (SPACE, "2"), ("!", NEWLINE), (NEWLINE, NEWLINE), (SPACE, SPACE), ("'", "s"), ("'", "S"), ("_", "a"), (SPACE, "_")]
CUT_TEXT = "a the 2024 in 2!\n\nIT'S it's _a  x e\u0301 \u00e9 \u0928\u092e\u0938\u094d\u0924\u0947\n <s> b<|im_end|> <x> <|endoftext|><mask>"
PAIRS = cut_by(r"\p{N}{1,2}|\s+(?!\S)|[^\p{N}]{1,2}")
BOUND = {**PAIRS, "post_processor": around(["<s>"], [])}
NEW = decoder((300, token("<x>", rstrip=True)), (2, token("</s>")), (1, token("<s>", lstrip=True)))
CODE = {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}}
FAST = "PreTrainedTokenizerFast"
NAMES = ["bos_token", "eos_token", "unk_token"]
# By the type of the model and the name of the class: tokenizer.json, files, and fields of tokenizer_config.json that are left out.
CLASSES = {
    **{f"class-{model}-{name or 'none'}": (BOUND, of_class(name, model), [] if name else ["tokenizer_class"])
       for model, names in {
           "llama": [FAST, "GPT2Tokenizer", "CohereTokenizer", "GPTNeoXTokenizerFast", "Qwen2Tokenizer", "TokenizersBackend", "OwnTokenizer", "LlamaTokenizerFast", None],
           "mistral": ["GPT2Tokenizer", None],
           "phi3": ["GPT2Tokenizer", "LlamaTokenizer"],
           "glm4": ["Qwen2Tokenizer"],
           "granitemoehybrid": ["GPT2Tokenizer"],
           "smollm3": [FAST, "GPT2Tokenizer", None],
           "starcoder2": [FAST, "GPT2TokenizerFast", "OwnTokenizer", None],
           "qwen2": [FAST, "Qwen2TokenizerFast", "LlamaTokenizerFast", "GPT2Tokenizer", "CohereTokenizer", None],
           "qwen3": [FAST, "PreTrainedTokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "GPT2Tokenizer", "OwnTokenizer", None],
           "qwen3_vl": [FAST, "Qwen2TokenizerFast", None],
       }.items() for name in names},
    "class-in-config": (BOUND, {MODEL: {"model_type": "llama", "tokenizer_class": "GPT2TokenizerFast"}}, ["tokenizer_class"]),
    "class-in-both": (BOUND, {**of_class(FAST), MODEL: {"model_type": "llama", "tokenizer_class": "GPT2Tokenizer"}}, []),
    "class-null-in-one": (BOUND, {CONFIG: {"tokenizer_class": None}, MODEL: {"model_type": "qwen3", "tokenizer_class": "GPT2Tokenizer"}}, []),
    "class-prefix-space-gpt2": (PAIRS, of_class("GPT2Tokenizer", add_prefix_space=True), []),
    "class-prefix-space-qwen2": (PAIRS, of_class("Qwen2Tokenizer", add_prefix_space=True), []),
    "class-prefix-space-neox": (PAIRS, of_class("GPTNeoXTokenizer", add_prefix_space=True), []),
    "class-prefix-space-cohere": (PAIRS, of_class("CohereTokenizer", add_prefix_space=True), []),
    "class-extra-cohere": (PAIRS, of_class("CohereTokenizer", extra_special_tokens=["<x>"], **decoder((273, token("<x>", False, rstrip=True)))), []),
    "class-extra-gpt2": (PAIRS, of_class("GPT2Tokenizer", extra_special_tokens=["<x>"], **decoder((273, token("<x>", False, rstrip=True)))), []),
    **{f"class-names-{name}": (PAIRS, of_class(name), NAMES) for name in ["CohereTokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer"]},
    "class-names-null": (PAIRS, of_class("GPT2Tokenizer", bos_token=None, unk_token=None), ["eos_token"]),
    "class-names-map": (PAIRS, {**of_class("GPT2Tokenizer"), MAP: {"bos_token": "<|im_start|>"}}, NAMES),
    "class-listed": (PAIRS, of_class("Qwen2Tokenizer", **NEW), []),
    "class-listed-names": (PAIRS, of_class("Qwen2Tokenizer", **decoder((300, token("<|endoftext|>", rstrip=True)), (262, token("<x>", False)))), NAMES),
    "class-added": ({**PAIRS, "added_tokens": [*added(t1={"rstrip": True}), {"id": 275, **token("<x>", False)}, {"id": 274, **token("<y>")}]}, of_class("GPT2Tokenizer"), []),
    "class-added-file": (PAIRS, {**of_class("GPT2Tokenizer"), ADDED: {"<x>": 290}}, []),
    "class-code-mistral": (BOUND, of_class("GPT2Tokenizer", "mistral", **CODE), []),
    "class-code-qwen2": (BOUND, of_class(FAST, "qwen2", **CODE), []),
    "class-code-qwen3": (BOUND, of_class("OwnTokenizer", "qwen3", **CODE), []),
    "class-code-other": (BOUND, of_class("GPT2Tokenizer", "mistral", auto_map={"AutoModel": "own.OwnModel"}), []),
    **{f"class-pieces-{model}-{name or 'none'}": (pieces(post_processor=around(["<s>"], ["</s>"])), pieces_of(name, model), [] if name else ["tokenizer_class"])
       for model, names in {
           "llama": ["GemmaTokenizer", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"],
           "gemma2": ["GemmaTokenizerFast", "LlamaTokenizer", FAST, None],
           "gemma3_text": ["GemmaTokenizer", None],
           "gemma": ["GemmaTokenizer", FAST],
           "qwen3": ["GemmaTokenizer"],
       }.items() for name in names},
    "class-gemma": (gemma(), pieces_of("GemmaTokenizer", "gemma3"), []),
    "class-names-GemmaTokenizer": (gemma(), of_class("GemmaTokenizer", "gemma"), NAMES),
    "class-names-LlamaTokenizer": (pieces(), of_class("LlamaTokenizer"), NAMES),
    "class-names-CodeLlamaTokenizer": (pieces(), of_class("CodeLlamaTokenizer"), NAMES),
    "class-code-llama-no-prefix": (pieces(), pieces_of("CodeLlamaTokenizer", add_prefix_space=False), []),
    "class-code-llama-names": (pieces(), pieces_of("CodeLlamaTokenizer", prefix_token="<x>", fill_token=None, additional_special_tokens=["the"]), []),
    "class-code-llama-no-bos": (pieces(), pieces_of("CodeLlamaTokenizer", bos_token=None, add_bos_token=True), []),
    "class-llama-listed": (pieces(), pieces_of("LlamaTokenizer", **NEW), []),
    "class-llama-unlisted": (pieces(), pieces_of("LlamaTokenizer", **decoder((0, token("<unk>")))), ["bos_token"]),
}
# How many plain tokens there are beside, where that counts.
MANY = 100_000
TEKKEN = {"fix_mistral_regex": True}
MISTRAL = lambda fields, **config: {**of_class(FAST, **fields), MODEL: {"model_type": "mistral", **config}}
REGEX = {
    "regex": (PAIRS, MISTRAL(TEKKEN), MANY),
    "regex-few": (PAIRS, MISTRAL(TEKKEN), 0),
    "regex-off": (PAIRS, MISTRAL({"fix_mistral_regex": False}), MANY),
    "regex-unsaid": (PAIRS, MISTRAL({}), MANY),
    "regex-old": (PAIRS, MISTRAL(TEKKEN, transformers_version="4.57.3"), MANY),
    "regex-before": (PAIRS, MISTRAL(TEKKEN, transformers_version="5.0.0.dev0"), MANY),
    "regex-new": (PAIRS, MISTRAL(TEKKEN, transformers_version="5.0.0"), MANY),
    "regex-other": (PAIRS, MISTRAL(TEKKEN, model_type="llama"), MANY),
    "regex-mixtral": (PAIRS, MISTRAL(TEKKEN, model_type="mixtral"), MANY),
    "regex-alone": ({"pre_tokenizer": BYTES}, MISTRAL(TEKKEN), MANY),
    "regex-none": ({"pre_tokenizer": None}, MISTRAL(TEKKEN), MANY),
    "regex-metaspace": ({"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}}, MISTRAL(TEKKEN), MANY),
}
SEEN = ["bos_token", "eos_token", "unk_token", "pad_token", "mask_token", "prefix_token", "eot_token"]


def case(name, tokenizer, files, without=(), filler=0, cuts=False):
    words = ["".join(pair) for pair in MERGES] if cuts else []
    vocabulary = {**VOCABULARY, **{word: 262 + id for id, word in enumerate([*words, *(f"Z{n}Z" for n in range(filler))])}}
    own = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(), "normalizer": None,
           "pre_tokenizer": BYTES, "post_processor": None, "decoder": BYTES,
           "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": MERGES if cuts else []}}
    config = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
    config = {name: value for name, value in {**config, **files.get(CONFIG, {})}.items() if name not in without}
    with tempfile.TemporaryDirectory() as folder:
        whole = {"tokenizer.json": {**own, **tokenizer}, MODEL: {"model_type": "llama"}, **files, CONFIG: config}
        for file, fields in whole.items():
            with open(f"{folder}/{file}", "w") as out:
                json.dump(fields, out)
        made = AutoTokenizer.from_pretrained(folder)
    text = SPACED if "model" in tokenizer else CUT_TEXT if cuts else TEXT
    end = len(words) if cuts else 0
    shown = SHOWN[:6] + [id + end for id in SHOWN[6:]]
    result = {"name": name, "tokenizer": tokenizer, "files": files, "text": text, "tokens": made(text)["input_ids"],
              "shown": {str(id): made.decode([id], skip_special_tokens=True) for id in shown if id < len(made)}}
    if not cuts:
        return result
    special = made.special_tokens_map
    return {**result, "without": list(without), "filler": filler, "words": words, "merges": MERGES,
            "special": {name: special.get(name, "") for name in SEEN}}


def main(out):
    with open(out, "w") as file:
        cases = [case(name, *given) for name, given in CASES.items()]
        cases += [case(name, *given, cuts=True) for name, given in CLASSES.items()]
        cases += [case(name, *given, [], filler, cuts=True) for name, (*given, filler) in REGEX.items()]
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
