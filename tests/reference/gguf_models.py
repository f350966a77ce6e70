#!/usr/bin/env python3
"""What llama.cpp answers for tiny GGUF files of every architecture and type of tensors, for the suite `reference`.

usage: gguf_models.py LLAMA_SERVER gguf_models.json [MODEL ...]
       (llama-server of the llama.cpp in llama-cpp-python 0.3.36, which `benches/peers/run` builds, and numpy)

Each entry of the file is a model: its keys, the shapes and types of its tensors, and for some prompts the greedy tokens
with their logprobs, computed with a cache in F32; or `refused` where llama.cpp does not load it. The bytes of the tensors
are not in the file: both sides make them from name and position (see `stored`; in Rust, `fixtures/gguf_reference.rs`).
Blocks of quantized types are random bytes but for their scales, so that each bit of a format counts.
"""
import json, math, pathlib, socket, struct, subprocess, sys, tempfile, time, urllib.request
import numpy as np

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
MERGE = ["t", "h"]
ANSWER = 12
SEED = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, CONTEXT = 256, 512, 2, 4, 2, 128
# By number of type: elements and bytes of a block, and where its scales are: half precision numbers, of which each is
# this times what the tensor's values spread over.
TYPES = {
    "F32": (0, 1, 4, {}), "F16": (1, 1, 2, {}), "BF16": (30, 1, 2, {}),
    "Q4_0": (2, 32, 18, {0: 1 / 16}), "Q4_1": (3, 32, 20, {0: 1 / 16, 2: -15 / 32}),
    "Q5_0": (6, 32, 22, {0: 1 / 32}), "Q5_1": (7, 32, 24, {0: 1 / 32, 2: -31 / 64}),
    "Q8_0": (8, 32, 34, {0: 1 / 256}),
    "Q2_K": (10, 256, 84, {80: 1 / 64, 82: 3 / 128}), "Q3_K": (11, 256, 110, {108: 1 / 128}),
    "Q4_K": (12, 256, 144, {0: 1 / 512, 2: 15 / 1024}), "Q5_K": (13, 256, 176, {0: 1 / 1024, 2: 31 / 2048}),
    "Q6_K": (14, 256, 210, {208: 1 / 4096}),
}


def symbols():
    """The tokens that byte-level vocabularies have for the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return sorted([*map(chr, printable), *(chr(256 + n) for n in range(256 - len(printable)))])


TOKENS = [*SPECIAL, *symbols(), "".join(MERGE)]
# What answers are made of: the end, and visible ASCII, since llama-server puts together tokens that are parts of a character.
ANSWERS = {4, *(at for at, token in enumerate(TOKENS) if len(token) == 1 and "!" <= token <= "~")}


def random(name, count):
    """splitmix64 of a name and positions."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(SEED)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def role(name, shape):
    """(spread, middle) of a tensor's values."""
    if "norm" in name:
        return (0.25, 0.0) if name.endswith("bias") else (0.5, 1.0)
    if name in ("token_embd.weight", "output.weight"):
        return 1.0, 0.0
    return 0.25, 0.0


def stored(name, shape, kind):
    """The bytes of a tensor; its shape has the rows first. Rows of tokens that are never an answer are zero."""
    data = random_bytes(name, shape, kind)
    if name not in ("token_embd.weight", "output.weight"):
        return data
    size = len(data) // len(TOKENS)
    rows = (data[at * size:(at + 1) * size] for at in range(len(TOKENS)))
    return b"".join(row if at in ANSWERS else bytes(size) for at, row in enumerate(rows))


def random_bytes(name, shape, kind):
    spread, middle = role(name, shape)
    count = math.prod(shape)
    _, elements, size, scales = TYPES[kind]
    if elements == 1:
        unit = (random(name, count) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
        values = unit * np.float32(spread) + np.float32(middle)
        if kind == "BF16":
            bits = values.view(np.uint32)
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
        return values.astype(np.float16 if kind == "F16" else np.float32).tobytes()
    blocks = count // elements
    data = (random(name, blocks * size) >> np.uint64(56)).astype(np.uint8).reshape(blocks, size)
    for at, factor in scales.items():
        data[:, at:at + 2] = np.frombuffer(np.float16(spread * factor).tobytes(), np.uint8)
    return data.tobytes()


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(it):
    """A key's value with its type, as Rust takes it from the JSON: whole numbers are u32, others f32."""
    if isinstance(it, bool):
        return struct.pack("<I?", 7, it)
    if isinstance(it, int):
        return struct.pack("<II", 4, it)
    if isinstance(it, float):
        return struct.pack("<If", 6, it)
    if isinstance(it, str):
        return struct.pack("<I", 8) + string(it)
    kinds = {int: (5, lambda n: struct.pack("<i", n)), str: (8, string), float: (6, lambda n: struct.pack("<f", n)),
             bool: (7, lambda n: struct.pack("<?", n))}
    kind, pack = kinds[type(it[0])]
    return struct.pack("<IIQ", 9, kind, len(it)) + b"".join(map(pack, it))


def gguf(keys, tensors):
    """The bytes of a file."""
    tokenizer = {
        "model": "gpt2", "pre": "gpt-2", "tokens": TOKENS, "token_type": [3 if t in SPECIAL else 1 for t in TOKENS],
        "merges": [" ".join(MERGE)], "bos_token_id": 1, "eos_token_id": 4, "unknown_token_id": 0,
    }
    keys = keys | {f"tokenizer.ggml.{key}": it for key, it in tokenizer.items()}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(string(key) + value(it) for key, it in keys.items())
    data = b""
    for name, (shape, kind) in tensors.items():
        dimensions = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += string(name) + struct.pack("<I", len(shape)) + dimensions + struct.pack("<IQ", TYPES[kind][0], len(data))
        data += stored(name, shape, kind)
        data += b"\0" * (-len(data) % 32)
    return head + b"\0" * (-len(head) % 32) + data


def text(length):
    return "".join(chr(97 + (7 * i + i * i // 3) % 26) for i in range(length))


class Server:
    """llama-server with one model, or what it says against it."""

    def __init__(self, program, path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [program, "-m", path, "--host", "127.0.0.1", "--port", str(self.port), "-ctk", "f32", "-ctv", "f32", "-fa", "off",
                   "--no-warmup", "-np", "1", "-t", "2", "--fit", "off"]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def ready(self):
        """Whether the model is loaded."""
        while self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")
                return True
            except OSError:
                time.sleep(0.05)
        return False

    def answer(self, prompt, least):
        request = {"prompt": prompt, "n_predict": ANSWER, "temperature": 0, "n_probs": 2, "cache_prompt": False, "seed": 1}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/completion", json.dumps(request).encode())
        told = json.load(urllib.request.urlopen(request))
        tokens, logprobs, finish = [], [], "stop" if told["stop_type"] == "eos" else "length"
        for step in told["completion_probabilities"]:
            best, second = step["top_logprobs"][:2]
            if best["logprob"] - second["logprob"] < least:
                finish = "cut"  # Nobody can be asked to tell these apart.
                break
            if best["id"] == 4:
                break
            tokens.append(best["id"])
            logprobs.append(round(best["logprob"], 6))
        return {"prompt": prompt, "tokens": tokens, "logprobs": logprobs, "finish": finish}

    def why(self):
        """The last line that names an error."""
        self.log.seek(0)
        lines = [line for line in self.log if "error" in line]
        return (lines or ["it ended"])[0].strip()

    def end(self):
        self.process.terminate()
        self.process.wait()


MODELS = []


def model(name, architecture, *, kind="F32", lengths=(1, 20, 60), without=(), keys={}, tensors={}, types={}, tied=False, head=64,
          kv_heads=KV_HEADS, experts=False):
    """`without`: ends of keys that are left out; `keys` and `tensors`: further ones; `types`: of tensors by a part of their names;
    `experts`: the matrices behind attention are those of experts."""
    own = {
        "context_length": CONTEXT, "embedding_length": HIDDEN, "block_count": LAYERS, "feed_forward_length": INTERMEDIATE,
        "attention.head_count": HEADS, "attention.head_count_kv": kv_heads, "rope.dimension_count": head, "rope.freq_base": 10000.0,
        ("attention.layer_norm_epsilon" if architecture == "starcoder2" else "attention.layer_norm_rms_epsilon"): 1e-5,
    }
    if head != HIDDEN // HEADS:
        own |= {"attention.key_length": head, "attention.value_length": head}
    own = {f"{architecture}.{key}": it for key, it in (own | keys).items() if key not in without}
    if experts:
        own |= {f"{architecture}.expert_count": 4, f"{architecture}.expert_used_count": 2}
    shapes = layers(architecture, head, kv_heads, tied, experts) | tensors

    def stored_as(name, shape):
        for part, it in types.items():
            if part in name:
                return it
        return kind if len(shape) > 1 else "F32"

    MODELS.append((name, {"general.architecture": architecture} | own,
                   {name: (shape, stored_as(name, shape)) for name, shape in shapes.items()}, lengths))


def layers(architecture, head, kv_heads, tied, experts):
    """Shapes of an architecture's tensors, rows first."""
    shapes = {"token_embd.weight": [len(TOKENS), HIDDEN], "output_norm.weight": [HIDDEN]}
    if architecture == "starcoder2":
        shapes["output_norm.bias"] = [HIDDEN]
    if not tied:
        shapes["output.weight"] = [len(TOKENS), HIDDEN]
    wide, narrow = HEADS * head, kv_heads * head
    for layer in range(LAYERS):
        inner = {"attn_norm.weight": [HIDDEN], "ffn_norm.weight": [HIDDEN], "attn_output.weight": [HIDDEN, wide]}
        if architecture == "phi3":
            inner |= {"attn_qkv.weight": [wide + 2 * narrow, HIDDEN], "ffn_up.weight": [2 * INTERMEDIATE, HIDDEN]}
        else:
            inner |= {"attn_q.weight": [wide, HIDDEN], "attn_k.weight": [narrow, HIDDEN], "attn_v.weight": [narrow, HIDDEN]}
        if experts:
            inner |= {"ffn_gate_inp.weight": [4, HIDDEN], "ffn_gate_exps.weight": [4, INTERMEDIATE, HIDDEN],
                      "ffn_up_exps.weight": [4, INTERMEDIATE, HIDDEN], "ffn_down_exps.weight": [4, HIDDEN, INTERMEDIATE]}
        else:
            inner |= {"ffn_down.weight": [HIDDEN, INTERMEDIATE]}
            if architecture != "phi3":
                inner |= {"ffn_up.weight": [INTERMEDIATE, HIDDEN]}
            if architecture not in ("phi3", "starcoder2"):
                inner |= {"ffn_gate.weight": [INTERMEDIATE, HIDDEN]}
        if architecture in ("qwen2", "starcoder2"):
            inner |= {"attn_q.bias": [wide], "attn_k.bias": [narrow], "attn_v.bias": [narrow]}
        if architecture == "starcoder2":
            inner |= {"attn_norm.bias": [HIDDEN], "ffn_norm.bias": [HIDDEN], "attn_output.bias": [HIDDEN],
                      "ffn_up.bias": [INTERMEDIATE], "ffn_down.bias": [HIDDEN]}
        if architecture in ("qwen3", "qwen3moe"):
            inner |= {"attn_q_norm.weight": [head], "attn_k_norm.weight": [head]}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in inner.items()}
    return shapes


def in_layers(name, shape):
    """A tensor of each layer."""
    return {f"blk.{layer}.{name}": shape for layer in range(LAYERS)}


for kind in TYPES:
    model(f"llama-{kind.lower()}", "llama", kind=kind)
model("llama-q4_k_m", "llama", kind="Q4_K", types={"attn_v": "Q6_K", "ffn_down": "Q6_K", "output.weight": "Q6_K"})
model("llama-tied", "llama", tied=True)
model("llama-tied-q6_k", "llama", kind="Q6_K", tied=True)
model("llama-base", "llama", keys={"rope.freq_base": 500000.0})
model("llama-epsilon", "llama", keys={"attention.layer_norm_rms_epsilon": 0.25})
model("llama-all-heads", "llama", kv_heads=HEADS)
model("llama-wide-heads", "llama", head=128)
model("llama-partial", "llama", keys={"rope.dimension_count": 32})
model("llama-lengths", "llama", keys={"attention.key_length": 64, "attention.value_length": 64, "vocab_size": len(TOKENS)})
model("llama-window", "llama", keys={"attention.sliding_window": 16})
model("llama-linear", "llama", keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0})
model("llama-linear-old", "llama", keys={"rope.scale_linear": 4.0})
model("llama-yarn", "llama", keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32})
model("llama-frequencies", "llama", tensors={"rope_freqs.weight": [32]})
model("llama-bias", "llama", tensors=in_layers("attn_q.bias", [256]) | in_layers("attn_k.bias", [128]) | in_layers("attn_v.bias", [128]))
model("llama-output-bias", "llama", tensors=in_layers("attn_output.bias", [256]))
model("llama-mlp-bias", "llama", tensors=in_layers("ffn_down.bias", [256]))
model("llama-scale", "llama", keys={"attention.scale": 0.5})
model("llama-logit-scale", "llama", keys={"logit_scale": 0.5})
model("llama-caps", "llama", keys={"final_logit_softcapping": 3.0, "attn_logit_softcapping": 3.0})
model("llama-no-dimensions", "llama", without=["rope.dimension_count"])
model("llama-no-base", "llama", without=["rope.freq_base"])
model("llama-no-kv-heads", "llama", without=["attention.head_count_kv"], kv_heads=HEADS)
model("llama-heads-of-layers", "llama", keys={"attention.head_count_kv": [2, 2]})
model("llama-experts", "llama", experts=True)
model("mistral3", "mistral3")
model("mistral3-q4_k", "mistral3", kind="Q4_K")
model("mistral3-temperature", "mistral3", keys={"attention.temperature_scale": 0.5, "attention.temperature_length": 16})
model("mistral3-yarn", "mistral3", keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32})
model("qwen2", "qwen2", keys={"rope.freq_base": 1000000.0})
model("qwen2-tied", "qwen2", tied=True)
model("qwen2-q8_0", "qwen2", kind="Q8_0")
model("qwen2-q5_k-tied", "qwen2", kind="Q5_K", tied=True)
model("qwen2-wide-heads", "qwen2", head=128)
model("qwen2-no-base", "qwen2", without=["rope.freq_base"])
model("qwen2-output-bias", "qwen2", tensors=in_layers("attn_output.bias", [256]))
model("qwen2-yarn", "qwen2", keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32})
model("qwen3", "qwen3", keys={"rope.freq_base": 1000000.0})
model("qwen3-tied", "qwen3", tied=True)
model("qwen3-q4_0", "qwen3", kind="Q4_0")
model("qwen3-wide-heads", "qwen3", head=128)
model("qwen3-no-base", "qwen3", without=["rope.freq_base"])
model("qwen3moe", "qwen3moe", experts=True, keys={"expert_feed_forward_length": INTERMEDIATE})
model("phi3", "phi3")
model("phi3-q8_0", "phi3", kind="Q8_0")
model("phi3-q4_k", "phi3", kind="Q4_K")
model("phi3-window", "phi3", kind="Q8_0", keys={"attention.sliding_window": 16})
model("phi3-whole-window", "phi3", kind="Q8_0", keys={"attention.sliding_window": CONTEXT})
model("phi3-partial", "phi3", kind="Q8_0", keys={"rope.dimension_count": 32})
model("phi3-base", "phi3", kind="Q8_0", keys={"rope.freq_base": 20000.0})
model("phi3-no-base", "phi3", kind="Q8_0", without=["rope.freq_base"])
model("phi3-factors", "phi3", kind="Q8_0", tensors={"rope_factors_long.weight": [32], "rope_factors_short.weight": [32]},
      keys={"rope.scaling.attn_factor": 1.1, "rope.scaling.original_context_length": 32})
model("phi3-tied", "phi3", kind="Q8_0", tied=True)
model("phi3-all-heads", "phi3", kind="Q6_K", kv_heads=HEADS)
model("starcoder2", "starcoder2")
model("starcoder2-q8_0", "starcoder2", kind="Q8_0")
model("starcoder2-q4_k", "starcoder2", kind="Q4_K")
model("starcoder2-base", "starcoder2", kind="Q8_0", keys={"rope.freq_base": 999999.0})
model("starcoder2-no-base", "starcoder2", kind="Q8_0", without=["rope.freq_base"])
model("starcoder2-partial", "starcoder2", kind="Q8_0", keys={"rope.dimension_count": 32})
model("starcoder2-window", "starcoder2", kind="Q8_0", keys={"attention.sliding_window": 16})
model("starcoder2-tied", "starcoder2", kind="Q8_0", tied=True)


def main(program, out, *wanted):
    entries = []
    for name, keys, tensors, lengths in MODELS:
        if wanted and name not in wanted:
            continue
        entry = {"name": name, "keys": keys, "tensors": tensors}
        # Both sides round what they multiply with blocks, each in its way: what is not clearly the likeliest may be another.
        rounded = any(TYPES[kind][1] > 1 for _, kind in tensors.values())
        half = any(kind in ("F16", "BF16") for _, kind in tensors.values())
        least = 0.8 if rounded else 0.1 if half else 0.02
        if rounded:
            lengths = (1, 5, 8, 14, 20, 28, 35, 47, 60, 75)
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(gguf(keys, tensors))
            file.flush()
            server = Server(program, file.name)
            try:
                if server.ready():
                    entry["answers"] = [server.answer(text(length), least) for length in lengths]
                    told = " ".join(f"{len(it['tokens'])}{it['finish'][0]}" for it in entry["answers"])
                else:
                    entry["refused"] = told = server.why()
            finally:
                server.end()
        print(f"{name}: {told}", flush=True)
        entries.append(entry)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    pathlib.Path(out).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
