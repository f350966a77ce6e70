#!/usr/bin/env python3
"""What sentence-transformers says about tiny embedding models, for the suite `embed`.

usage: embeddings.py embeddings.json      (needs sentence-transformers==6.2.0, transformers==5.24.0 and torch==2.15.0)

Each entry of the file is a model as `SentenceTransformer.save` writes it: its files, the names and shapes of its tensors by the
files that they are in, and for some texts their vectors. The values of the tensors are those of make.py.
"""
import glob, json, os, shutil, sys, tempfile
import torch, transformers as T
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

source = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "make.py")).read()
exec(source[: source.index("MODELS = []")])

FILES = ["config.json", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "*/config.json"]
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def tokenizer():
    """The fixtures' own: five special tokens, then the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    texts = SPECIALS + sorted(bytes_to_unicode().values())
    made = Tokenizer(models.BPE(vocab={text: id for id, text in enumerate(texts)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return T.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<|im_end|>", unk_token="<unk>",
                                     pad_token="<unk>", model_max_length=256)


def entry(name, config, cls, modules, lengths, changes={}, **more):
    directory = tempfile.mkdtemp()
    try:
        torch.manual_seed(0)
        getattr(T, cls)(config).save_pretrained(f"{directory}/transformer")
        tokenizer().save_pretrained(f"{directory}/transformer")
        transformer = Transformer(f"{directory}/transformer")
        size = transformer.get_embedding_dimension()
        made = SentenceTransformer(modules=[transformer, *modules(size)], device="cpu", **more)
        path = f"{directory}/model"
        made.save(path, create_model_card=False)
        tensors = {}
        for file in sorted(glob.glob(f"{path}/**/*.safetensors", recursive=True)):
            shapes = {name: list(t.shape) for name, t in sorted(load_file(file).items())}
            save_file({n: values(n, s) for n, s in shapes.items()}, file, metadata={"format": "pt"})
            tensors[os.path.relpath(file, path)] = shapes
        for file, fields in changes.items():
            whole = json.load(open(f"{path}/{file}"))
            json.dump(whole | fields, open(f"{path}/{file}", "w"))
        files = sorted(file for pattern in FILES for file in glob.glob(f"{path}/{pattern}"))
        loaded = SentenceTransformer(path, device="cpu", model_kwargs={"attn_implementation": "eager"})
        answers = [{"text": text(n), "vector": [round(float(x), 6) for x in loaded.encode(text(n))]} for n in lengths]
        files = {os.path.relpath(file, path): json.load(open(file)) for file in files}
        print(name, sorted(files), [len(a["vector"]) for a in answers], flush=True)
        return {"name": name, "files": files, "tensors": tensors, "answers": answers}
    finally:
        shutil.rmtree(directory)


def last(size):
    return [Pooling(size, pooling_mode="lasttoken"), Normalize()]


def projected(size):
    dense = lambda a, b: Dense(a, b, bias=False, activation_function=torch.nn.Identity())
    return [Pooling(size, pooling_mode="mean"), dense(size, 96), dense(96, 32), Normalize()]


QWEN = dict(SMALL, head_dim=16)
GEMMA = dict(SMALL, head_dim=16, query_pre_attn_scalar=16, sliding_window=16, num_hidden_layers=7, use_bidirectional_attention=True)
PROMPTS = dict(prompts={"query": "find: ", "document": ""}, default_prompt_name="query")
ENTRIES = [
    entry("qwen3", T.Qwen3Config(**QWEN), "Qwen3Model", last, (1, 20, 60)),
    entry("qwen3-window-off", T.Qwen3Config(**QWEN), "Qwen3Model", last, (20, 60), {"config.json": {"sliding_window": 16}}),
    entry("qwen3-prompt", T.Qwen3Config(**QWEN), "Qwen3Model", last, (1, 20), **PROMPTS),
    entry("qwen3-bounded", T.Qwen3Config(**QWEN), "Qwen3Model", last, (20, 32), {"sentence_bert_config.json": {"max_seq_length": 32}}),
    entry("qwen3-mean", T.Qwen3Config(**QWEN), "Qwen3Model", lambda size: [Pooling(size)], (1, 20)),
    entry("gemma3", T.Gemma3TextConfig(**GEMMA), "Gemma3TextModel", projected, (1, 16, 17, 40, 60)),
    entry("gemma3-soft-cap", T.Gemma3TextConfig(**GEMMA, final_logit_softcapping=1.0), "Gemma3TextModel", projected, (20,)),
]
with open(sys.argv[1], "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in ENTRIES) + "\n]\n")
