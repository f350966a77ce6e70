"""The model that is compared: a random Llama of 380 million parameters, as safetensors and as GGUF files.

Bytes are its tokens, so that a text of 1,000 ASCII characters is 1,000 tokens for everybody; the rest of the vocabulary
only gives the embedding its usual size. The row of the end's token is zero: no greedy answer ends by itself.
"""

import json
import pathlib
import subprocess

import gguf
import numpy

VOCABULARY = 32_000
HIDDEN = 1024
INTERMEDIATE = 4096
LAYERS = 20
HEADS = 16
KV_HEADS = 8
HEAD = 64
CONTEXT = 4096
EPSILON = 1e-5
ROPE = 10_000.0
SPECIAL = ["<unk>", "<s>", "</s>"]
BOS, EOS = 1, 2
# Readers of GGUF want a list that is not empty: two bytes that are in no text.
MERGE = ["Ā", "ā"]
# Quantized by llama-quantize from the file in F16.
QUANTIZED = {"q8_0": "Q8_0", "q4_k_m": "Q4_K_M"}


def byte_symbols():
    """The symbols by which byte-level tokenizers write the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return sorted([chr(b) for b in printable] + [chr(256 + n) for n, _ in enumerate(others)])


def tokens():
    """All tokens by id."""
    named = SPECIAL + byte_symbols() + ["".join(MERGE)]
    return named + [f"<filler{n}>" for n in range(VOCABULARY - len(named))]


def tensors():
    """Name here and in GGUF, values in F32 and heads whose rows GGUF orders otherwise, of each tensor in turn."""
    random = numpy.random.default_rng(1)

    def matrix(rows, columns):
        return random.standard_normal((rows, columns), numpy.float32) * numpy.float32(columns**-0.5)

    ones = numpy.ones(HIDDEN, numpy.float32)
    yield "model.embed_tokens.weight", "token_embd.weight", matrix(VOCABULARY, HIDDEN), 0
    for layer in range(LAYERS):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        yield f"{ours}.input_layernorm.weight", f"{theirs}.attn_norm.weight", ones, 0
        yield f"{ours}.self_attn.q_proj.weight", f"{theirs}.attn_q.weight", matrix(HEADS * HEAD, HIDDEN), HEADS
        yield f"{ours}.self_attn.k_proj.weight", f"{theirs}.attn_k.weight", matrix(KV_HEADS * HEAD, HIDDEN), KV_HEADS
        yield f"{ours}.self_attn.v_proj.weight", f"{theirs}.attn_v.weight", matrix(KV_HEADS * HEAD, HIDDEN), 0
        yield f"{ours}.self_attn.o_proj.weight", f"{theirs}.attn_output.weight", matrix(HIDDEN, HEADS * HEAD), 0
        yield f"{ours}.post_attention_layernorm.weight", f"{theirs}.ffn_norm.weight", ones, 0
        yield f"{ours}.mlp.gate_proj.weight", f"{theirs}.ffn_gate.weight", matrix(INTERMEDIATE, HIDDEN), 0
        yield f"{ours}.mlp.up_proj.weight", f"{theirs}.ffn_up.weight", matrix(INTERMEDIATE, HIDDEN), 0
        yield f"{ours}.mlp.down_proj.weight", f"{theirs}.ffn_down.weight", matrix(HIDDEN, INTERMEDIATE), 0
    yield "model.norm.weight", "output_norm.weight", ones, 0
    head = matrix(VOCABULARY, HIDDEN)
    head[EOS] = 0
    yield "lm_head.weight", "output.weight", head, 0


def gguf_rows(values, heads):
    """Rows of queries and keys as llama.cpp rotates them: halves of a head become neighbours."""
    if not heads:
        return values
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_safetensors(path, parts):
    """A file of tensors in F16."""
    header, offset = {}, 0
    for name, values in parts:
        header[name] = {"dtype": "F16", "shape": values.shape, "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for _, values in parts:
            file.write(values.tobytes())


def write_directory(path, parts):
    """The model as transformers stores it."""
    path.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCABULARY,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "rms_norm_eps": EPSILON,
        "rope_theta": ROPE,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {token: number for number, token in enumerate(tokens())}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": token, **special} for number, token in enumerate(SPECIAL)],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    for name, content in [("config", config), ("tokenizer", tokenizer), ("tokenizer_config", settings)]:
        (path / f"{name}.json").write_text(json.dumps(content))
    write_safetensors(path / "model.safetensors", parts)


def write_gguf(path, parts):
    """The model in F16 as llama.cpp stores it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(ROPE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens())
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (VOCABULARY - len(kinds)))
    writer.add_token_merges([" ".join(MERGE)])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    for name, values, heads in parts:
        values = gguf_rows(values, heads)
        writer.add_tensor(name, values if values.ndim == 1 else values.astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(folder, quantize):
    """Makes what is missing below `folder`, with llama-quantize at `quantize`. Gives path by name."""
    folder = pathlib.Path(folder)
    directory, full = folder / "f16", folder / "f16.gguf"
    if not (folder / "complete").exists():
        made = list(tensors())
        write_directory(directory, [(name, values.astype(numpy.float16)) for name, _, values, _ in made])
        write_gguf(full, [(name, values, heads) for _, name, values, heads in made])
        for name, kind in QUANTIZED.items():
            subprocess.run([quantize, full, folder / f"{name}.gguf", kind], check=True, capture_output=True)
        (folder / "complete").touch()
    return {"f16": directory, "f16.gguf": full, **{name: folder / f"{name}.gguf" for name in QUANTIZED}}
