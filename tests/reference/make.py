#!/usr/bin/env python3
"""What transformers says about tiny models of every text architecture, for the suite `reference`.

usage: make.py models.json [MODEL ...]      (needs transformers==5.24.0, torch==2.15.0 and peft==0.21.2)

Each entry of the file is a model as `save_pretrained` writes it: its config.json, the names and shapes of its
tensors, and for some prompts the greedy tokens with their logprobs. The values of the tensors are not in
the file: both sides compute them from name and position (see `values`; in Rust, `fixtures/reference.rs`).
"""
import json, math, os, shutil, sys, tempfile
import numpy as np
import torch, transformers as T
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

VOCABULARY = 261          # five special tokens, then the 256 bytes
SMALL = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=4, pad_token_id=0)
ANSWER = 12
SEED = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def fnv(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def values(name, shape):
    """splitmix64 of name and position; the scale by what the tensor does. Exact in F32."""
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        x = np.uint64(fnv(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(SEED)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    u = (x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
    scale, shift = role(name, shape)
    return (u * np.float32(scale) + np.float32(shift)).reshape(shape)


def role(name, shape):
    """(scale, shift): powers of two."""
    if "norm" in name and len(shape) == 1:
        return (0.25, 0.0) if name.endswith("bias") else (0.5, 1.0)
    if "embed_tokens" in name or name.startswith("lm_head.weight"):
        return 2.0, 0.0
    return 0.5, 0.0


def prompt(length):
    """Tokens of a text of letters; the tokenizer has a token for each byte."""
    symbols = sorted(bytes_to_unicode().values())
    return [5 + symbols.index(chr(97 + (7 * i + i * i // 3) % 26)) for i in range(length)]


def text(length):
    return "".join(chr(97 + (7 * i + i * i // 3) % 26) for i in range(length))


def bytes_to_unicode():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, more = {}, 0
    for b in range(256):
        if b in keep:
            out[b] = chr(b)
        else:
            out[b] = chr(256 + more); more += 1
    return out


def stored(name, names):
    """A tensor's name with its beginning changed as `names` says."""
    for old, new in names.items():
        if name.startswith(old):
            return new + name[len(old):]
    return name


def save(model, path, store):
    """As `save_pretrained` writes it but for `names`, with our values; the parts are every nth tensor by name."""
    model.save_pretrained(path)
    file = f"{path}/model.safetensors"
    names = store.get("names", {})
    shapes = dict(sorted((stored(name, names), list(t.shape)) for name, t in load_file(file).items()))
    if store.get("own_head"):
        shapes["lm_head.weight"] = [VOCABULARY, SMALL["hidden_size"]]
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[store.get("dtype", "F32")]
    tensors = {name: torch.from_numpy(values(name, shape)).to(dtype) for name, shape in sorted(shapes.items())}
    shards = store.get("shards", 1)
    if shards == 1:
        save_torch(tensors, file, metadata={"format": "pt"})
        return shapes
    os.remove(file)
    places = {}
    for n in range(shards):
        part = {name: tensor for at, (name, tensor) in enumerate(tensors.items()) if at % shards == n}
        places |= {name: f"model-{n + 1:05}-of-{shards:05}.safetensors" for name in part}
        save_torch(part, f"{path}/model-{n + 1:05}-of-{shards:05}.safetensors", metadata={"format": "pt"})
    json.dump({"metadata": {"total_size": 1}, "weight_map": places}, open(f"{path}/model.safetensors.index.json", "w"))
    return shapes


def adapted(model, fields, path):
    """The model with a LoRA adapter of our values merged into it by peft; the adapter's files as the suite writes them."""
    from peft import LoraConfig, get_peft_model
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **fields)).save_pretrained(path)
    file = f"{path}/adapter_model.safetensors"
    shapes = {name: list(t.shape) for name, t in sorted(load_file(file).items())}
    save_file({name: values(name, shape) for name, shape in shapes.items()}, file, metadata={"format": "pt"})
    config = json.load(open(f"{path}/adapter_config.json")) | {"base_model_name_or_path": None}
    return {"config": config, "tensors": shapes}


def answer(model, length, least):
    ids, logprobs, finish = list(prompt(length)), [], "length"
    tokens = []
    with torch.no_grad():
        while len(tokens) < ANSWER:
            scores = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
            best = torch.topk(scores, 2)
            token = int(best.indices[0])
            margin = float(best.values[0] - best.values[1])
            if margin < least:
                break  # Nobody can be asked to tell these apart.
            if token == 4:
                finish = "stop"
                break
            tokens.append(token)
            logprobs.append(round(float(torch.log_softmax(scores, -1)[token]), 6))
            ids.append(token)
    return {"prompt": text(length), "tokens": tokens, "logprobs": logprobs, "finish": finish if len(tokens) == ANSWER or finish == "stop" else "cut"}


def older(config):
    """The form that transformers 4 wrote."""
    config = dict(config)
    rope = config.pop("rope_parameters", None)
    if rope is not None and "rope_type" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    return config


# Multimodal models: tokens beside those of the others, their files, and the halves that are not for text.
GEMMA_IMAGES = ["<start_of_image>", "<image_soft_token>", "<end_of_image>"]
QWEN_IMAGES = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
PREPARED = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
MULTIMODAL = {
    "Gemma3VL": dict(config="Gemma3Config", cls="Gemma3ForConditionalGeneration", specials=GEMMA_IMAGES,
        whole=dict(boi_token_index=261, image_token_index=262, eoi_token_index=263, mm_tokens_per_image=4,
            vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8)),
        files={"processor_config.json": {"image_processor": dict(PREPARED, image_processor_type="Gemma3ImageProcessor", resample=2,
            size={"height": 32, "width": 32}), "image_seq_length": 4, "processor_class": "Gemma3Processor"}}),
    "Qwen3VL": dict(config="Qwen3VLConfig", cls="Qwen3VLForConditionalGeneration", specials=QWEN_IMAGES,
        whole=dict(vision_start_token_id=261, image_token_id=262, vision_end_token_id=263, video_token_id=264,
            vision_config=dict(depth=1, hidden_size=32, out_hidden_size=64, intermediate_size=64, num_heads=2, patch_size=4,
                num_position_embeddings=16, deepstack_visual_indexes=[0])),
        files={"processor_config.json": {"image_processor": dict(PREPARED, image_processor_type="Qwen2VLImageProcessor", resample=3,
            patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 4096}),
            "processor_class": "Qwen3VLProcessor"}}),
}

MODELS = []
def model(name, kind, lengths=(1, 20, 60), old=False, tie=False, store={}, lora=None, written={}, **more):
    # `written`: fields that are put into config.json by hand, and that the reference reads from there.
    MODELS.append((name, kind, lengths, old, store, lora, written, dict(SMALL, tie_word_embeddings=tie, **more)))


def made(kind, fields):
    """The configuration of a model, and its class."""
    if kind not in MULTIMODAL:
        return getattr(T, kind + "Config" if kind != "Gemma3" else "Gemma3TextConfig")(**fields), getattr(T, kind + "ForCausalLM")
    about = MULTIMODAL[kind]
    fields = dict(fields, vocab_size=VOCABULARY + len(about["specials"]))
    whole = dict(about["whole"], tie_word_embeddings=fields.pop("tie_word_embeddings"), eos_token_id=4)
    return getattr(T, about["config"])(text_config=fields, **whole), getattr(T, about["cls"])

exec(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.py")).read())


def main(out):
    wanted = set(sys.argv[2:])
    entries = []
    for name, kind, lengths, old, store, lora, written, fields in MODELS:
        if wanted and name not in wanted:
            continue
        directory = tempfile.mkdtemp()
        try:
            torch.manual_seed(0)
            config, cls = made(kind, fields)
            if "dtype" in store:
                config.dtype = {"F16": "float16", "BF16": "bfloat16"}[store["dtype"]]
            shapes = save(cls(config), directory, store)
            if written:
                whole = json.load(open(f"{directory}/config.json"))
                json.dump({k: v for k, v in (whole | written).items() if v != "left out"}, open(f"{directory}/config.json", "w"))
            loaded, told = cls.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
            assert not told["missing_keys"] and not told["unexpected_keys"], told
            loaded.eval()
            text_config = json.load(open(f"{directory}/config.json"))
            entry = {"name": name, "config": older(text_config) if old else text_config, "tensors": shapes}
            if kind in MULTIMODAL:
                entry |= {"specials": MULTIMODAL[kind]["specials"], "files": MULTIMODAL[kind]["files"]}
            if store.get("dtype") or store.get("shards"):
                entry["store"] = {"dtype": store.get("dtype", "F32"), "shards": store.get("shards", 1)}
            if lora:
                entry["adapter"] = adapted(cls.from_pretrained(directory, dtype=torch.float32), lora, f"{directory}/adapter")
                from peft import PeftModel
                loaded = PeftModel.from_pretrained(loaded, f"{directory}/adapter").merge_and_unload().eval()
            # In half precision, other tokens may be as likely.
            least = 0.1 if "dtype" in store else 0.02
            entry["answers"] = [answer(loaded, n, least) for n in lengths]
            entries.append(entry)
            print(name, [(len(a["tokens"]), a["finish"]) for a in entry["answers"]], flush=True)
        except Exception as e:
            print(name, "FAILED", repr(e)[:300], flush=True)
        finally:
            shutil.rmtree(directory)
    with open(out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries) + "\n]\n")


main(sys.argv[1])
