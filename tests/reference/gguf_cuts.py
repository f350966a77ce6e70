#!/usr/bin/env python3
"""What llama.cpp makes of texts by the name in `tokenizer.ggml.pre` of a GGUF file, for the suite `reference`.

usage: gguf_cuts.py LLAMA_TOKENIZE gguf_cuts.json      (llama-tokenize of the llama.cpp in llama-cpp-python 0.3.36)

The vocabulary is our byte-level one (`fixtures/vocabulary.rs`) with merges that make one token of every few neighbouring
pieces of the texts, so that the tokens tell where a text was cut.
"""
import json, struct, subprocess, sys, tempfile, unicodedata

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
SYMBOL = {**{byte: chr(byte) for byte in PRINTABLE}, **{byte: chr(256 + n) for n, byte in enumerate(OTHERS)}}
SYMBOLS = sorted(SYMBOL.values())
# Pieces that make one token together, at most.
NEIGHBOURS = 6
# Plain tokens that no merges lead to.
WHOLE = ["aBcDeFgHiJ", "@$@$@$@$@$"]
NAMES = """default llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe chatglm-bpe glm4 glm5
qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2 gpt-2 phi-2 gigachat a.x-4.0 mellum olmo mpt jais
exaone4 trillion granite-docling starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 falcon tekken gpt-4o llama4
kanana2 talkie minimax-m2 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense joyai-llm hy_v4 seed-coder qwen35 minicpm5 ufakzeka
bailingmoe bailingmoe2 llada-moe viking""".split()
TEXTS = [
    "Hello World, it's 2024! WE'LL don't they're I'Ve 'since don'table",
    "aBcDeFgHiJ @$@$@$@$@$ aBcDeFgHiJ\n@$@$@$@$@$",
    "iPhone XMLHttpRequest getURLs a\u00c9b stra\u00dfe\u00d6 L'\u00c9cole",
    "\u0401\u043b\u043a\u0430\u041c\u043e\u0441\u043a\u0432\u0430 \u043f\u0440\u0438\u0432\u0435\u0442 \u041c\u0418\u0420\u0430",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0967\u0968\u0969\u096a \u0915\u094d\u0937",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0e44\u0e14\u0e49 \u0995\u09cb",
    "cafe\u0301 e\u0301\u0301 \u0301x A\u030abc",
    "1234567 \u0663\u0664\u0665 12ab3 \u00bd\u00b2 3.14159,00",
    "\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 \u4e2d\u6587\uff0c\u6d4b\u8bd5\u3002\u300c\u5f15\u7528\u300d \ud55c\uad6d\uc5b4\u3000\u5168\u89d2\uff21\uff22\uff11",
    "\U0001f44d\U0001f3fd\U0001f469\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea!",
    "a  b   c\t\td \t e",
    "a  12  345\n  6 \t7",
    "x\n\n\ny\r\n z \n\n  w\n",
    "   leading",
    "trailing   ",
    "\n \n",
    "def f(x):\n    return x**2 // 3  # ok\n\n\n",
    "$100 <= ~50% ^_^ `code` ##++==|| a_b",
    "\u00a0nbsp\u2003em\u0085nel\u2028ls\u1680 \u3000\u3000z",
    "'s 'S 're 'LL 'd' ''t x'\u017f",
    "\u1c89\u1c8a \ua7cb \U0001e5d0 \U00010d40 \u0378",
    "\u0645\u064e\u0631\u062d\u064e\u0628\u064b\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u06d4 \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "Ti\u1ebfng Vi\u1ec7t  \u0192unction \u01c5 \u01c6 \u01c4 \u00aa\u00ba \u02b0",
    "\u200b\u200d\ufeffa\ufe0f\u0001 \u001c\u001f b",
    "path/to/file\\n a/b\r\n/ http://x.y/z?q=1&r=2",
    "...\u2026\u2014\u2013\u201c\u201d\u2018\u2019\u201e \u061f \ufe4f\u3001\u3002\uff01!\n",
    "\u00b5\u00c0\u00d6\u00d8\u00f6\u00f8\u01ba \u0293\u0295\u0370 \u0386 \u1fbc \u24b6 \u2177 \u3251",
]


def pieces(text):
    """The smallest pieces that a text may be cut into."""
    kind = lambda char: "blank" + char if char.isspace() else unicodedata.category(char)
    made, since = [], 9
    for char in text:
        since = 0 if char == "'" else since + 1
        last = made[-1][-1] if made else None
        alone = unicodedata.category(char).startswith("N") or 0 < since < 4 or char.isspace()
        if last is not None and kind(last) == kind(char) and not alone and ord(last) >> 8 == ord(char) >> 8:
            made[-1] += char
        else:
            made.append(char)
    return made


def merged(tokens, ranks):
    """Tokens once those of the best rank have been put together, again and again."""
    while True:
        pairs = [(ranks[pair], n) for n, pair in enumerate(zip(tokens, tokens[1:])) if pair in ranks]
        if not pairs:
            return tokens
        _, n = min(pairs)
        tokens = [*tokens[:n], tokens[n] + tokens[n + 1], *tokens[n + 2:]]


def merges():
    """Pairs that make one token of each run of pieces, the shorter runs first."""
    runs = {}
    for length in range(1, NEIGHBOURS + 1):
        for text in TEXTS:
            cut = pieces(text)
            for n in range(len(cut) - length + 1):
                runs["".join(SYMBOL[byte] for byte in "".join(cut[n:n + length]).encode())] = None
    ranks = {}
    for run in runs:
        tokens = list(run)
        while len(tokens := merged(tokens, ranks)) > 1:
            ranks[tuple(tokens[:2])] = len(ranks)
    return list(ranks)


def gguf(name, tokens, pairs):
    """The bytes of a file that has this tokenizer and nothing else."""
    text = lambda value: struct.pack("<Q", len(value.encode())) + value.encode()
    key = lambda name, kind, value: text(name) + struct.pack("<I", kind) + value
    array = lambda kind, values: struct.pack("<IQ", kind, len(values)) + b"".join(values)
    types = [struct.pack("<i", 3 if token in SPECIAL else 1) for token in tokens]
    keys = [
        key("general.architecture", 8, text("llama")),
        key("tokenizer.ggml.model", 8, text("gpt2")),
        key("tokenizer.ggml.pre", 8, text(name)),
        key("tokenizer.ggml.tokens", 9, array(8, [text(token) for token in tokens])),
        key("tokenizer.ggml.token_type", 9, array(5, types)),
        key("tokenizer.ggml.merges", 9, array(8, [text(" ".join(pair)) for pair in pairs])),
        key("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        key("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 4)),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


def main(program, out):
    pairs = merges()
    tokens = list(dict.fromkeys([*SPECIAL, *SYMBOLS, *WHOLE, *map("".join, pairs)]))
    ids = {token: id for id, token in enumerate(tokens)}
    results, names = [], {}
    with tempfile.TemporaryDirectory() as folder:
        model, prompt = f"{folder}/vocabulary.gguf", f"{folder}/prompt"
        for name in NAMES:
            with open(model, "wb") as file:
                file.write(gguf(name, tokens, pairs))
            result = []
            for text in TEXTS:
                with open(prompt, "wb") as file:
                    file.write(text.encode())
                command = [program, "-m", model, "-f", prompt, "--ids", "--no-escape", "--log-disable"]
                result.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            if result not in results:
                results.append(result)
            names[name] = results.index(result)
    with open(out, "w") as file:
        lines = [json.dumps(result) for result in results]
        pairs = json.dumps([[ids[left], ids[right]] for left, right in pairs])
        file.write(f'{{"texts": {json.dumps(TEXTS)},\n"whole": {json.dumps(WHOLE)},\n"merges": {pairs},\n"names": {json.dumps(names)},\n"tokens": [\n')
        file.write(",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
