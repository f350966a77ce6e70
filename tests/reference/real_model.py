#!/usr/bin/env python3
"""What transformers says about Gemma 3 270M, for `cargo real-model`.

usage: real_model.py real_model.json [DIRECTORY]
       (needs transformers==5.24.0, torch==2.15.0, accelerate==1.15.0, and the packages of ../benches/real_model/requirements.txt
       in these or later versions; two minutes on one core, and 4 GB of memory; what is made is kept in DIRECTORY)

../benches/real_model/make.py makes a directory of a GGUF file. It has to be what transformers itself reads from that file: each
weight equal to the bit, each field of config.json, the tokens of texts. Then transformers, in F32, goes on with each prompt by the
most likely tokens. Each of those is more likely than any other by LEAST, so that nobody is asked to tell two apart that are nearly
as likely; and the whole sequence at once, without a cache, gives the same tokens. The file has the log probabilities of that.
"""
import importlib.util, json, pathlib, sys, tempfile
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

HERE = pathlib.Path(__file__).parent
MAKE = HERE.parent / "benches/real_model/make.py"
ANSWER = 64
# In log probability; ten times what Hangar's may differ by.
LEAST = 0.01

# A prompt, and how an answer begins that anyone would accept. The last is longer than the window, which is 512 tokens.
PROMPTS = [
    ("Water freezes at 0 degrees Celsius and boils at", " 100 degrees Celsius."),
    ("Monday, Tuesday, Wednesday,", " Thursday, Friday, Saturday, Sunday"),
    ("France: Paris\nGermany: Berlin\nItaly: Rome\nSpain:", " Madrid\n"),
    ("Roses are red, violets are", " blue"),
    (", ".join(map(str, range(1, 181))) + ",", " 181, 182, 183, 184,"),
]

# What of a config.json that make.py writes otherwise: no name, no token that only tokenizers use, and a number in its shortest form.
OTHERWISE = {"_model_name_or_path", "rms_norm_eps", "unk_token_id"}

# Texts without what transformers' reader of GGUF cuts otherwise than Google's own tokenizer: more than 31 spaces in a row, and the
# sign that stands for a space.
TEXTS = [prompt for prompt, _ in PROMPTS] + [
    "  two  spaces,   three\n\n\nand \t\ttabs\r\n",
    "<table><td>cell</td></table> <unused5> [multimodal] <start_of_turn>user\n",
    "def f(x):\n    return x**2  # ok\n\n\n\tif",
    "Größe, naïve, 日本語テキスト 中文 한국어 नमस्ते",
    "👍🏽👩‍👩‍👧 ❤️ \u00a0\u2003\u200b\u0001 ﷽",
    "3.14159 1,234,567 x²",
]


def maker():
    spec = importlib.util.spec_from_file_location("make", MAKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_made(directory, make):
    """Holds the directory against what transformers reads from the GGUF file."""
    path, file = directory / make.MODEL, dict(gguf_file=make.GGUF)
    whole = GgufConfig(dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(directory, **file, quantization_config=whole, dtype=torch.float32)
    made = load_file(path / "model.safetensors")
    tensors = theirs.state_dict()
    assert tensors["lm_head.weight"].data_ptr() == tensors["model.embed_tokens.weight"].data_ptr(), "it has a head of its own"
    assert made.keys() == tensors.keys() - {"lm_head.weight"}, made.keys() ^ tensors.keys()
    other = [name for name, values in made.items() if not torch.equal(values, tensors[name])]
    assert not other, other
    with tempfile.TemporaryDirectory() as saved:
        theirs.config.save_pretrained(saved)
        fields = json.loads(pathlib.Path(saved, "config.json").read_text())
    ours = json.loads((path / "config.json").read_text())
    other = {name for name in fields.keys() | ours.keys() if fields.get(name) != ours.get(name)} - {"architectures"}
    assert other == OTHERWISE, other ^ OTHERWISE
    ours, theirs = AutoTokenizer.from_pretrained(path), AutoTokenizer.from_pretrained(directory, **file)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        assert ours(text).input_ids == theirs(text).input_ids, text


def answer(model, tokenizer, prompt, accepted):
    asked = tokenizer(prompt, return_tensors="pt")
    ids = asked.input_ids[0]
    with torch.no_grad():
        whole = model.generate(**asked, max_new_tokens=ANSWER, do_sample=False)
        scores = model(whole, use_cache=False, logits_to_keep=ANSWER + 1).logits[0, :-1].double()
    tokens = whole[0, len(ids):]
    assert len(tokens) == ANSWER, f"{prompt!r} ends after {len(tokens)} tokens"
    best = torch.topk(torch.log_softmax(scores, -1), 2)
    assert torch.equal(best.indices[:, 0], tokens), f"{prompt!r} is gone on with otherwise without a cache"
    margin = float((best.values[:, 0] - best.values[:, 1]).min())
    assert margin >= LEAST, f"{prompt!r} has two tokens that are nearly as likely: {margin}"
    text = tokenizer.decode(tokens)
    assert text.startswith(accepted), text
    print(f"{len(ids)} tokens, least margin {margin:.4f}: {text!r}", flush=True)
    return {"prompt": prompt, "accepted": accepted, "prompt_tokens": ids.tolist(), "tokens": tokens.tolist(),
            "logprobs": [round(float(it), 6) for it in best.values[:, 0]], "margin": round(margin, 4), "text": text}


def main(out, directory):
    make = maker()
    make.main(directory)
    check_made(directory, make)
    path = directory / make.MODEL
    model, told = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"], told
    tokenizer = AutoTokenizer.from_pretrained(path)
    answers = [answer(model.eval(), tokenizer, *it) for it in PROMPTS]
    lines = ",\n".join(json.dumps(it, separators=(",", ":"), ensure_ascii=False) for it in answers)
    pathlib.Path(out).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else temporary))
