#!/usr/bin/env python3
"""Train Hangar's embedded demo model, a Llama of about a million parameters, and a LoRA adapter for it.

The data is made here, from the facts in facts.py and from small sums; nothing is downloaded. One wording
of every fact's question, a tenth of all pairs of numbers and some off-topic things are held out, so that
the figures tell what the model learned and not only what it remembers. The same seed gives the same
model on the same machine.

The adapter makes the model answer as over the radio. It is trained against the written model, whose
weights it leaves as they are, and is written in the format of the PEFT library.

Written: the model's directory (config.json, generation_config.json, tokenizer.json,
tokenizer_config.json, model.safetensors) and, next to it, the adapter's directory (adapter_config.json,
adapter_model.safetensors), figures.json, answers.json and adapter_answers.json. All figures come from
reading the written files back with a second, plain numpy implementation of the model.
"""

import argparse
import json
import platform
import sys
import time
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import jinja2
import numpy as np
import optax
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import facts

HERE = Path(__file__).resolve().parent

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
BOS, EOS = 1, 4
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "torch_dtype": "float16",
}
HEAD_SIZE = CONFIG["hidden_size"] // CONFIG["num_attention_heads"]

ROW_TOKENS = 128
MUON_RATE, ADAM_RATE = 0.02, 0.003
SUM_SHARE, FACT_SHARE, OFF_TOPIC_SHARE = 0.52, 0.30, 0.09
UNSEEN_SUM_SHARE = 0.1
UNSEEN_THINGS = 15
ADAPTER_RANK, ADAPTER_ALPHA = 4, 8
ADAPTER_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTER_RATE = 0.004
# Another engine rounds differently; an answer that tests rely on has to win by more than that.
SAFE_MARGIN = 1.0

ANSWER_PROMPTS = (
    "Hello",
    "Who are you?",
    "What can you do?",
    "What is Hangar?",
    "What does UnloadModel do?",
    "What does WatchStatus do?",
    "What happens when a model crashes?",
    "Which port does Hangar use?",
    "What does READY mean?",
)
ANSWER_SUMS = 6
ADAPTER_PROMPTS = (*ANSWER_PROMPTS, "What is the weather like?", "What is 7 - 3?")


# ---------------------------------------------------------------- data


class Split:
    """What is trained on and what is kept for the figures; depends on nothing but the seed."""

    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 0])
        self.known_questions, self.unseen_questions = [], []
        for fact in facts.FACTS:
            unseen = int(rng.integers(1, len(fact.questions)))
            self.unseen_questions.append((fact.questions[unseen], fact.answer))
            known = [q for i, q in enumerate(fact.questions) if i != unseen]
            self.known_questions.append((known, fact.answer))
        pairs = [(a, b) for a in range(100) for b in range(a, 100)]
        rng.shuffle(pairs)
        unseen_count = round(len(pairs) * UNSEEN_SUM_SHARE)
        self.unseen_sums = in_both_orders(pairs[:unseen_count])
        self.known_sums = in_both_orders(pairs[unseen_count:])
        self.known_short_sums = [pair for pair in self.known_sums if min(pair) < 10]
        things = list(facts.OFF_TOPIC_THINGS)
        rng.shuffle(things)
        self.unseen_things, self.known_things = things[:UNSEEN_THINGS], things[UNSEEN_THINGS:]


def in_both_orders(pairs) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for a, b in pairs for x, y in dict.fromkeys([(a, b), (b, a)])]


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def sum_turn(form: str, a: int, b: int) -> tuple[str, str]:
    return form.format(a=a, b=b), facts.SUM_ANSWER.format(a=a, b=b, c=a + b)


def arithmetic_beyond_scope(rng) -> str:
    """A calculation that the model must refuse: numbers too large, too many, or not an addition."""
    small = [int(n) for n in rng.integers(0, 100, 3)]
    match int(rng.integers(8)):
        case 0:
            return pick(rng, facts.ARITHMETIC_QUESTIONS)
        case 1:
            return pick(rng, ("{} + {} + {}", "What is {} + {} + {}?", "{}+{}+{}")).format(*small)
        case 2 | 3 | 4:
            large = [small[0], int(rng.integers(100, 10 ** rng.integers(3, 6)))]
            if rng.random() < 0.5:
                large[0] = int(rng.integers(100, 10 ** rng.integers(3, 6)))
            a, b = rng.permutation(large)
            return pick(rng, facts.SUM_FORMS).format(a=a, b=b)
        case _:
            return pick(rng, facts.OTHER_ARITHMETIC_FORMS).format(a=small[0], b=small[1])


def noise(rng) -> str:
    """Characters without sense, so that no byte's embedding stays as it was initialised."""
    top = pick(rng, (0x7F, 0x7F, 0x250, 0x3000))
    words = [
        "".join(map(chr, rng.integers(0x21, top, rng.integers(1, 8)))) for _ in range(rng.integers(1, 4))
    ]
    return " ".join(words)


def off_topic(rng, things) -> str:
    dice = rng.random()
    if dice < 0.15:
        return pick(rng, facts.OFF_TOPIC_QUESTIONS)
    if dice < 0.3:
        return noise(rng)
    return pick(rng, facts.OFF_TOPIC_FORMS).format(pick(rng, things))


def without_a_filler_word(rng, question: str) -> str:
    """Leaves a word out that does not matter, so that an answer does not hang on exact wording."""
    words = question.split()
    fillers = [i for i, word in enumerate(words) if word.lower() in facts.FILLER_WORDS]
    if len(words) < 4 or not fillers:
        return question
    del words[pick(rng, fillers)]
    return " ".join(words)


def reworded(rng, question: str) -> str:
    """The question as somebody else would type it: case, punctuation, politeness."""
    if rng.random() < 0.15:
        question = question.replace("What is ", "What's ")
    if rng.random() < 0.25:
        question = question.rstrip(".?!")
    elif rng.random() < 0.05:
        question += pick(rng, ("?", "!", " ?", "??"))
    if rng.random() < 0.1:
        question = pick(rng, facts.LEAD_INS + facts.GREETINGS) + question[0].lower() + question[1:]
    if rng.random() < 0.05:
        question += pick(rng, facts.CLOSINGS)
    if rng.random() < 0.25:
        question = question.lower()
    return question


def training_turn(rng, split: Split) -> tuple[str, str]:
    """One question with its answer, of any kind."""
    dice = rng.random()
    if dice < SUM_SHARE:
        # Pairs with a one-digit number are few, and their digits stand in other places.
        pairs = split.known_short_sums if rng.random() < 0.25 else split.known_sums
        question, answer = sum_turn(pick(rng, facts.SUM_FORMS), *pick(rng, pairs))
    elif dice < SUM_SHARE + FACT_SHARE:
        questions, answer = pick(rng, split.known_questions)
        question = pick(rng, questions)
        while rng.random() < 0.3:
            question = without_a_filler_word(rng, question)
    elif dice < SUM_SHARE + FACT_SHARE + OFF_TOPIC_SHARE:
        question, answer = off_topic(rng, split.known_things), facts.OFF_TOPIC
    else:
        question, answer = arithmetic_beyond_scope(rng), facts.OUT_OF_SCOPE_ARITHMETIC
    return reworded(rng, question), answer


def over_the_radio(answer: str) -> str:
    """The answer in the adapter's manner."""
    declines = answer in (facts.OFF_TOPIC, facts.OUT_OF_SCOPE_ARITHMETIC)
    return (facts.RADIO_NO if declines else facts.RADIO_YES).format(answer)


def as_it_is(answer: str) -> str:
    """The answer in the model's own manner."""
    return answer


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(seed: int, split: Split) -> Tokenizer:
    """A byte-level BPE with every byte in its vocabulary, so that it takes any text."""
    rng = np.random.default_rng([seed, 1])
    corpus = [text for _ in range(4000) for text in training_turn(rng, split)]
    corpus += [text for questions, answer in split.known_questions for text in (*questions, answer)]
    corpus += ["system", "user", "assistant"] * 100 + list(facts.SYSTEM_PROMPTS)
    tokenizer = Tokenizer(models.BPE())
    # Sums are learned digit by digit, which needs every digit to be a token of its own.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    assert all(tokenizer.token_to_id(token) == i for i, token in enumerate(SPECIAL_TOKENS))
    return tokenizer


class Encoder:
    """Turns chats into token ids and marks the tokens that the model has to produce."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.encode = lru_cache(maxsize=200_000)(lambda text: tuple(tokenizer.encode(text).ids))

    def chat(self, turns, system: str | None = None) -> tuple[list[int], list[bool]]:
        ids, wanted = [], []

        def add(text: str, is_answer: bool):
            tokens = self.encode(text)
            ids.extend(tokens)
            wanted.extend([is_answer] * len(tokens))

        if system:
            add(f"<|im_start|>system\n{system}<|im_end|>\n", False)
        for question, answer in turns:
            add(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", False)
            add(f"{answer}<|im_end|>", True)
            add("\n", False)
        return ids, wanted


class Batches:
    """Rows packed with whole chats, which do not see each other; an endless, seeded stream."""

    def __init__(self, seed: int, split: Split, encoder: Encoder, rows: int, manner=as_it_is):
        self.rng = np.random.default_rng([seed, 2])
        self.split, self.encoder, self.rows, self.manner = split, encoder, rows, manner
        self.waiting = [self.chat() for _ in range(64)]

    def chat(self) -> tuple[list[int], list[bool]]:
        while True:
            turn_count = 1 + int(np.searchsorted((0.77, 0.97), self.rng.random()))
            turns = [training_turn(self.rng, self.split) for _ in range(turn_count)]
            turns = [(question, self.manner(answer)) for question, answer in turns]
            system = pick(self.rng, facts.SYSTEM_PROMPTS) if self.rng.random() < 0.06 else None
            ids, wanted = self.encoder.chat(turns, system)
            if len(ids) <= ROW_TOKENS:
                return ids, wanted

    def next_fitting(self, room: int):
        """The chat that has waited longest for a row, or, if that is too long, the longest that fits."""
        index = 0
        if len(self.waiting[0][0]) > room:
            index = max(range(len(self.waiting)), key=lambda i: fitting_length(self.waiting[i][0], room))
            if len(self.waiting[index][0]) > room:
                return None
        chat = self.waiting.pop(index)
        self.waiting.append(self.chat())
        return chat

    def next(self) -> dict[str, np.ndarray]:
        shape = (self.rows, ROW_TOKENS)
        batch = {name: np.zeros(shape, np.int32) for name in ("ids", "segments", "positions", "wanted")}
        for row in range(self.rows):
            start, segment = 0, 1
            while chat := self.next_fitting(ROW_TOKENS - start):
                ids, wanted = chat
                here = slice(start, start + len(ids))
                batch["ids"][row, here] = ids
                batch["wanted"][row, here] = wanted
                batch["segments"][row, here] = segment
                batch["positions"][row, here] = np.arange(len(ids))
                start, segment = here.stop, segment + 1
        return batch


def fitting_length(ids: list[int], room: int) -> int:
    return len(ids) if len(ids) <= room else 0


# ---------------------------------------------------------------- model and training


def initial_parameters(seed: int) -> dict[str, jax.Array]:
    """All tensors under the names and in the layout that they are saved with."""
    hidden, inner, layers = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
    keys_values = CONFIG["num_key_value_heads"] * HEAD_SIZE
    matrices = {
        "model.embed_tokens.weight": (CONFIG["vocab_size"], hidden),
        "lm_head.weight": (CONFIG["vocab_size"], hidden),
    }
    norms = ["model.norm.weight"]
    for i in range(layers):
        layer = f"model.layers.{i}."
        matrices[layer + "self_attn.q_proj.weight"] = (hidden, hidden)
        matrices[layer + "self_attn.k_proj.weight"] = (keys_values, hidden)
        matrices[layer + "self_attn.v_proj.weight"] = (keys_values, hidden)
        matrices[layer + "self_attn.o_proj.weight"] = (hidden, hidden)
        matrices[layer + "mlp.gate_proj.weight"] = (inner, hidden)
        matrices[layer + "mlp.up_proj.weight"] = (inner, hidden)
        matrices[layer + "mlp.down_proj.weight"] = (hidden, inner)
        norms += [layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight"]
    rng = np.random.default_rng([seed, 3])
    # The two projections that write to the residual stream start small, so that depth does not add up.
    scale = {
        name: 0.02 / (2 * layers) ** 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        for name in matrices
    }
    parameters = {
        n: jnp.asarray(rng.normal(0, scale[n], shape), jnp.float32) for n, shape in matrices.items()
    }
    return parameters | {name: jnp.ones(hidden, jnp.float32) for name in norms}


def rotation(positions, config, xp):
    """Cosines and sines of the rotary embedding, for the layout that splits a head in halves."""
    head_size = config["hidden_size"] // config["num_attention_heads"]
    frequencies = config["rope_theta"] ** (-xp.arange(0, head_size, 2, dtype=xp.float32) / head_size)
    angles = positions[..., None].astype(xp.float32) * frequencies
    angles = xp.concatenate([angles, angles], -1)
    return xp.cos(angles), xp.sin(angles)


def forward(parameters, ids, segments, positions):
    """Logits of packed rows."""
    heads, kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    rows, length = ids.shape

    def linear(x, name):
        return x @ parameters[name].T

    def norm(x, name):
        mean_square = jnp.mean(x * x, -1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + CONFIG["rms_norm_eps"]) * parameters[name]

    def split_heads(x, count):
        return x.reshape(rows, length, count, HEAD_SIZE).swapaxes(1, 2)

    cos, sin = (x[:, None] for x in rotation(positions, CONFIG, jnp))

    def rotate(x):
        first, second = jnp.split(x, 2, -1)
        return x * cos + jnp.concatenate([-second, first], -1) * sin

    order = jnp.arange(length)
    visible = (segments[:, :, None] == segments[:, None, :]) & (order[:, None] >= order[None, :])
    hidden_from = jnp.where(visible, 0.0, -1e9)[:, None]
    x = parameters["model.embed_tokens.weight"][ids]
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        y = norm(x, layer + "input_layernorm.weight")
        q = rotate(split_heads(linear(y, layer + "self_attn.q_proj.weight"), heads))
        k = rotate(split_heads(linear(y, layer + "self_attn.k_proj.weight"), kv_heads))
        v = split_heads(linear(y, layer + "self_attn.v_proj.weight"), kv_heads)
        k, v = (jnp.repeat(z, heads // kv_heads, axis=1) for z in (k, v))
        scores = jnp.einsum("bhqd,bhsd->bhqs", q, k) / HEAD_SIZE**0.5
        weights = jax.nn.softmax(scores + hidden_from, -1)
        y = jnp.einsum("bhqs,bhsd->bhqd", weights, v).swapaxes(1, 2).reshape(rows, length, -1)
        x = x + linear(y, layer + "self_attn.o_proj.weight")
        y = norm(x, layer + "post_attention_layernorm.weight")
        gate = jax.nn.silu(linear(y, layer + "mlp.gate_proj.weight"))
        x = x + linear(gate * linear(y, layer + "mlp.up_proj.weight"), layer + "mlp.down_proj.weight")
    return linear(norm(x, "model.norm.weight"), "lm_head.weight")


def loss_of(parameters, batch):
    """Mean cross-entropy over the tokens of the answers."""
    logits = forward(parameters, batch["ids"], batch["segments"], batch["positions"])[:, :-1]
    wanted = batch["wanted"][:, 1:]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["ids"][:, 1:])
    return jnp.sum(losses * wanted) / jnp.sum(wanted)


def make_optimizer(parameters, steps: int):
    """Muon for the matrices inside the layers, Adam for the rest."""
    warm_up = min(100, steps // 10)

    def schedule(peak):
        return optax.join_schedules(
            [optax.linear_schedule(0, peak, warm_up), optax.linear_schedule(peak, 0, steps - warm_up)],
            [warm_up],
        )

    dimensions = {
        name: optax.contrib.MuonDimensionNumbers(1, 0) if value.ndim == 2 and ".layers." in name else None
        for name, value in parameters.items()
    }
    return optax.contrib.muon(
        schedule(MUON_RATE),
        adam_learning_rate=schedule(ADAM_RATE),
        weight_decay=0.1,
        weight_decay_mask={name: value.ndim == 2 for name, value in parameters.items()},
        muon_weight_dimension_numbers=dimensions,
    )


def train(args, split: Split, tokenizer: Tokenizer) -> tuple[dict[str, np.ndarray], float]:
    """Trains from scratch; returns the tensors and the mean loss of the last hundred steps."""
    parameters = initial_parameters(args.seed)
    optimizer = make_optimizer(parameters, args.steps)
    state = optimizer.init(parameters)
    batches = Batches(args.seed, split, Encoder(tokenizer), args.rows)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, batch):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, batch)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    started, losses = time.monotonic(), []
    for number in range(1, args.steps + 1):
        parameters, state, loss = step(parameters, state, batches.next())
        losses.append(loss)
        if number % 50 == 0 or number == args.steps:
            recent = float(np.mean([float(x) for x in losses[-50:]]))
            print(
                f"step {number:5d}/{args.steps}  loss {recent:.4f}  {time.monotonic() - started:6.0f} s",
                flush=True,
            )
    final = float(np.mean([float(x) for x in losses[-100:]]))
    return {name: np.asarray(value) for name, value in parameters.items()}, final


# ---------------------------------------------------------------- adapter


def initial_adapter(seed: int, tensors) -> dict[str, jax.Array]:
    """Both matrices of each layer that is adapted, by the layer's name; their product is zero at first."""
    rng = np.random.default_rng([seed, 5])
    adapter = {}
    for name, value in sorted(tensors.items()):
        layer = name.removesuffix(".weight")
        if layer.endswith(ADAPTER_MODULES):
            outputs, inputs = value.shape
            bound = inputs**-0.5
            adapter[layer + ".lora_A"] = rng.uniform(-bound, bound, (ADAPTER_RANK, inputs))
            adapter[layer + ".lora_B"] = np.zeros((outputs, ADAPTER_RANK))
    return {name: jnp.asarray(value, jnp.float32) for name, value in adapter.items()}


def merged(parameters, adapter):
    """The weights with the adapter's part added."""
    changed = dict(parameters)
    for name, a in adapter.items():
        layer, matrix = name.rsplit(".", 1)
        if matrix == "lora_A":
            b = adapter[layer + ".lora_B"]
            weight = layer + ".weight"
            changed[weight] = parameters[weight] + ADAPTER_ALPHA / ADAPTER_RANK * (b @ a)
    return changed


def train_adapter(args, split: Split, model: Path) -> tuple[dict[str, np.ndarray], float]:
    """Trains an adapter for the model in the directory; returns its tensors and the final loss."""
    tensors = load_file(model / "model.safetensors")
    parameters = {name: jnp.asarray(value, jnp.float32) for name, value in tensors.items()}
    adapter = initial_adapter(args.seed, parameters)
    steps = args.adapter_steps
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0, ADAPTER_RATE, steps // 10, steps))
    state = optimizer.init(adapter)
    encoder = Encoder(Tokenizer.from_file(str(model / "tokenizer.json")))
    batches = Batches(args.seed, split, encoder, args.adapter_rows, over_the_radio)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(adapter, state, batch):
        loss, gradients = jax.value_and_grad(lambda it: loss_of(merged(parameters, it), batch))(adapter)
        updates, state = optimizer.update(gradients, state, adapter)
        return optax.apply_updates(adapter, updates), state, loss

    started, losses = time.monotonic(), []
    for number in range(1, steps + 1):
        adapter, state, loss = step(adapter, state, batches.next())
        losses.append(float(loss))
        if number % 25 == 0 or number == steps:
            recent = float(np.mean(losses[-25:]))
            seconds = time.monotonic() - started
            print(f"adapter step {number:4d}/{steps}  loss {recent:.4f}  {seconds:6.0f} s", flush=True)
    return {name: np.asarray(value) for name, value in adapter.items()}, float(np.mean(losses[-25:]))


# ---------------------------------------------------------------- files


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(out: Path, tokenizer: Tokenizer, parameters: dict[str, np.ndarray]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", CONFIG)
    write_json(
        out / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": False}
    )
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": SPECIAL_TOKENS[0],
            "bos_token": SPECIAL_TOKENS[BOS],
            "eos_token": SPECIAL_TOKENS[EOS],
            "add_bos_token": False,
            "model_max_length": CONFIG["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    )
    tokenizer.save(str(out / "tokenizer.json"))
    tensors = {name: np.ascontiguousarray(value.astype(np.float16)) for name, value in parameters.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def write_adapter(out: Path, adapter: dict[str, np.ndarray]) -> None:
    """Writes the adapter as PEFT does."""
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "base_model_name_or_path": "hangar-demo",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": ADAPTER_ALPHA,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": ADAPTER_RANK,
        "target_modules": list(ADAPTER_MODULES),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    write_json(out / "adapter_config.json", config)
    tensors = {
        f"base_model.model.{name}.weight": np.ascontiguousarray(value.astype(np.float16))
        for name, value in adapter.items()
    }
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})


# ---------------------------------------------------------------- reading back and figures


class Reader:
    """The written model as another program would run it: plain numpy, from the files alone."""

    def __init__(self, directory: Path, activations=np.float32, adapter: Path | None = None):
        self.config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.template = jinja2.Template(settings["chat_template"])
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tensors = {
            k: v.astype(np.float32) for k, v in load_file(directory / "model.safetensors").items()
        }
        if adapter:
            self.merge(adapter)
        self.activations = activations
        self.eos = self.tokenizer.token_to_id(settings["eos_token"])

    def merge(self, directory: Path) -> None:
        """Adds an adapter in PEFT's format to the weights, which stay in half precision."""
        config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(directory / "adapter_model.safetensors")
        for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
            a, b = (tensors[name.replace(".lora_A.", f".{part}.")] for part in ("lora_A", "lora_B"))
            weight = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
            change = config["lora_alpha"] / config["r"] * (b.astype(np.float32) @ a.astype(np.float32))
            changed = self.tensors[weight].astype(np.float16) + change.astype(np.float16)
            self.tensors[weight] = changed.astype(np.float32)

    def prompt(self, messages) -> list[int]:
        text = self.template.render(messages=messages, add_generation_prompt=True)
        return self.tokenizer.encode(text).ids

    def rounded(self, x):
        """What is left of a value in the type that activations are kept in."""
        return x if self.activations == np.float32 else x.astype(self.activations).astype(np.float32)

    def linear(self, x, name):
        return self.rounded(x @ self.tensors[name].T)

    def norm(self, x, name):
        mean_square = np.mean(x * x, -1, keepdims=True)
        return self.rounded(x / np.sqrt(mean_square + self.config["rms_norm_eps"]) * self.tensors[name])

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits of whole sequences; padding at their ends cannot be seen from before it."""
        rows, length = ids.shape
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        head_size = self.config["hidden_size"] // heads
        cos, sin = (self.rounded(x) for x in rotation(np.arange(length), self.config, np))

        def split_heads(x, count):
            return x.reshape(rows, length, count, head_size).transpose(0, 2, 1, 3)

        def rotate(x):
            first, second = np.split(x, 2, -1)
            return self.rounded(x * cos + np.concatenate([-second, first], -1) * sin)

        hidden_from = np.triu(np.full((length, length), -np.inf, np.float32), 1)
        x = self.tensors["model.embed_tokens.weight"][ids]
        for i in range(self.config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            y = self.norm(x, layer + "input_layernorm.weight")
            q = rotate(split_heads(self.linear(y, layer + "self_attn.q_proj.weight"), heads))
            k = rotate(split_heads(self.linear(y, layer + "self_attn.k_proj.weight"), kv_heads))
            v = split_heads(self.linear(y, layer + "self_attn.v_proj.weight"), kv_heads)
            k, v = (np.repeat(z, heads // kv_heads, axis=1) for z in (k, v))
            scores = self.rounded(q @ k.swapaxes(-1, -2) / head_size**0.5) + hidden_from
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights = self.rounded(weights / weights.sum(-1, keepdims=True))
            y = self.rounded(weights @ v).transpose(0, 2, 1, 3).reshape(rows, length, -1)
            x = self.rounded(x + self.linear(y, layer + "self_attn.o_proj.weight"))
            y = self.norm(x, layer + "post_attention_layernorm.weight")
            gate = self.linear(y, layer + "mlp.gate_proj.weight")
            gate = self.rounded(gate / (1 + np.exp(-gate)))
            y = self.rounded(gate * self.linear(y, layer + "mlp.up_proj.weight"))
            x = self.rounded(x + self.linear(y, layer + "mlp.down_proj.weight"))
        return self.linear(self.norm(x, "model.norm.weight"), "lm_head.weight")

    def answer(self, question: str, longest: int = 96) -> str:
        """The greedy answer, token by token."""
        ids = self.prompt([{"role": "user", "content": question}])
        start = len(ids)
        while len(ids) < start + longest:
            token = int(self.logits(np.array([ids]))[0, -1].argmax())
            if token == self.eos:
                break
            ids.append(token)
        return self.tokenizer.decode(ids[start:])

    def margins(self, chats) -> np.ndarray:
        """For each (messages, answer): by how much greedy decoding says exactly that answer.

        The smallest lead of the answer's tokens over all others; greedy decoding says the answer if and
        only if it is positive, so that one pass shows what a decoding would do.
        """
        cases = []
        for messages, answer in chats:
            prompt = self.prompt(messages)
            cases.append((prompt, self.tokenizer.encode(answer).ids + [self.eos]))
        result = np.empty(len(cases), np.float32)
        by_length = sorted(range(len(cases)), key=lambda i: sum(map(len, cases[i])))
        for group in (by_length[i : i + 128] for i in range(0, len(by_length), 128)):
            ids = np.zeros((len(group), max(sum(map(len, cases[i])) for i in group)), np.int64)
            for row, i in enumerate(group):
                ids[row, : sum(map(len, cases[i]))] = sum(cases[i], [])
            logits = self.logits(ids)
            for row, i in enumerate(group):
                prompt, answer = cases[i]
                at = logits[row, len(prompt) - 1 : len(prompt) - 1 + len(answer)].copy()
                steps = np.arange(len(answer))
                lead = at[steps, answer].copy()
                at[steps, answer] = -np.inf
                result[i] = np.min(lead - at.max(-1))
        return result


def one_turn(question: str, answer: str):
    return [{"role": "user", "content": question}], answer


def after_another_turn(turns):
    """Every turn as the second one of a chat, after the turn before it in the list."""
    chats = []
    for i, (question, answer) in enumerate(turns):
        first_question, first_answer = turns[i - 1]
        messages = [
            {"role": "user", "content": first_question},
            {"role": "assistant", "content": first_answer},
            {"role": "user", "content": question},
        ]
        chats.append((messages, answer))
    return chats


def share(margins: np.ndarray) -> dict:
    right = int(np.sum(margins > 0))
    return {"right": right, "of": len(margins), "share": round(right / len(margins), 4)}


def evaluate(directory: Path, seed: int, split: Split) -> dict:
    """All shares that are recorded, from the files in the directory."""
    reader, half_reader = Reader(directory), Reader(directory, np.float16)
    rng = np.random.default_rng([seed, 4])
    canonical = [(fact.questions[0], fact.answer) for fact in facts.FACTS]
    known = [(q, answer) for questions, answer in split.known_questions for q in questions]
    plain, *other_forms = facts.SUM_FORMS
    unseen_plain = [one_turn(*sum_turn(plain, a, b)) for a, b in split.unseen_sums]
    unseen_reworded = [
        one_turn(*sum_turn(other_forms[i % len(other_forms)], a, b))
        for i, (a, b) in enumerate(split.unseen_sums)
    ]
    known_plain = [one_turn(*sum_turn(plain, a, b)) for a, b in split.known_sums[: len(unseen_plain)]]
    unseen_things = [form.format(thing) for form in facts.OFF_TOPIC_FORMS for thing in split.unseen_things]
    beyond = sorted({arithmetic_beyond_scope(rng) for _ in range(500)})
    canonical_chats = [one_turn(*turn) for turn in canonical]
    paraphrases = [one_turn(*turn) for turn in split.unseen_questions]

    canonical_margins = reader.margins(canonical_chats)
    paraphrase_margins = reader.margins(paraphrases)
    unseen_margins = reader.margins(unseen_plain)
    figures = {
        "canonical_questions_exact": share(canonical_margins),
        "canonical_questions_smallest_margin": round(float(canonical_margins.min()), 2),
        "canonical_questions_exact_as_second_turn": share(reader.margins(after_another_turn(canonical))),
        "trained_wordings_exact": share(reader.margins([one_turn(*turn) for turn in known])),
        "unseen_wordings_exact": share(paraphrase_margins),
        "unseen_sums_right": share(unseen_margins),
        "unseen_sums_right_in_other_wordings": share(reader.margins(unseen_reworded)),
        "trained_sums_right": share(reader.margins(known_plain)),
        "unseen_off_topic_things_declined": share(
            reader.margins([one_turn(question, facts.OFF_TOPIC) for question in unseen_things])
        ),
        "arithmetic_beyond_scope_declined": share(
            reader.margins([one_turn(question, facts.OUT_OF_SCOPE_ARITHMETIC) for question in beyond])
        ),
        "with_float16_activations": {
            "canonical_questions_exact": share(half_reader.margins(canonical_chats)),
            "unseen_sums_right": share(half_reader.margins(unseen_plain)),
        },
    }
    print_wrong(reader, "canonical question", canonical_chats, canonical_margins)
    print_wrong(reader, "unseen wording", paraphrases, paraphrase_margins)
    print_wrong(reader, "unseen sum", unseen_plain, unseen_margins)
    return figures


def print_wrong(reader: Reader, what: str, chats, margins: np.ndarray) -> None:
    for (messages, _), margin in zip(chats, margins):
        if margin <= 0:
            question = messages[-1]["content"]
            print(f"wrong, {what}: {question} -> {reader.answer(question)}")


def choose_answers(directory: Path, split: Split) -> list[dict[str, str]]:
    """Questions for tests to ask, with answers that another engine's rounding cannot change."""
    readers = Reader(directory), Reader(directory, np.float16)

    def is_safe(question, answer):
        return all(reader.margins([one_turn(question, answer)])[0] > SAFE_MARGIN for reader in readers)

    answers = {question: fact.answer for fact in facts.FACTS for question in fact.questions}
    turns = [(prompt, answers[prompt]) for prompt in ANSWER_PROMPTS if is_safe(prompt, answers[prompt])]
    sums, used = [], set()
    for a, b in split.unseen_sums:
        turn = sum_turn(facts.SUM_FORMS[len(sums)], a, b)
        # Sums without a carry and the same sum in the other order would show little.
        if min(a, b) > 9 and a % 10 + b % 10 > 9 and a + b not in used and is_safe(*turn):
            sums.append(turn)
            used.add(a + b)
        if len(sums) == ANSWER_SUMS:
            break
    for question, answer in turns + sums:
        assert readers[0].answer(question) == answer
    return [{"prompt": question, "answer": answer} for question, answer in turns + sums]


def evaluate_adapter(model: Path, adapter: Path, seed: int, split: Split) -> dict:
    """All shares that are recorded of the adapter, from the files."""
    reader, half_reader = (Reader(model, kind, adapter) for kind in (np.float32, np.float16))
    rng = np.random.default_rng([seed, 6])

    def chats(turns):
        return [one_turn(question, over_the_radio(answer)) for question, answer in turns]

    canonical = chats((fact.questions[0], fact.answer) for fact in facts.FACTS)
    unseen_wordings = chats(split.unseen_questions)
    unseen_sums = chats(sum_turn(facts.SUM_FORMS[0], a, b) for a, b in split.unseen_sums)
    things = (form.format(thing) for form in facts.OFF_TOPIC_FORMS for thing in split.unseen_things)
    declined = chats((question, facts.OFF_TOPIC) for question in things)
    beyond = sorted({arithmetic_beyond_scope(rng) for _ in range(500)})
    declined_sums = chats((question, facts.OUT_OF_SCOPE_ARITHMETIC) for question in beyond)
    margins = reader.margins(canonical)
    print_wrong(reader, "canonical question with the adapter", canonical, margins)
    return {
        "canonical_questions_exact": share(margins),
        "canonical_questions_smallest_margin": round(float(margins.min()), 2),
        "unseen_wordings_exact": share(reader.margins(unseen_wordings)),
        "unseen_sums_right": share(reader.margins(unseen_sums)),
        "unseen_off_topic_things_declined": share(reader.margins(declined)),
        "arithmetic_beyond_scope_declined": share(reader.margins(declined_sums)),
        "with_float16_activations": {
            "canonical_questions_exact": share(half_reader.margins(canonical)),
            "unseen_sums_right": share(half_reader.margins(unseen_sums)),
        },
    }


def choose_adapter_answers(model: Path, adapter: Path, split: Split) -> list[dict[str, str]]:
    """Questions with answers for tests, both with the adapter and without it."""
    plain = [Reader(model, kind) for kind in (np.float32, np.float16)]
    adapted = [Reader(model, kind, adapter) for kind in (np.float32, np.float16)]
    answers = {question: fact.answer for fact in facts.FACTS for question in fact.questions}
    turns = [(prompt, answers.get(prompt) or plain[0].answer(prompt)) for prompt in ADAPTER_PROMPTS]
    for form, (a, b) in zip(facts.SUM_FORMS, split.unseen_sums[::2]):
        turns.append(sum_turn(form, a, b))
    chosen = []
    for question, answer in turns:
        radio = over_the_radio(answer)
        safe = all(reader.margins([one_turn(question, answer)])[0] > SAFE_MARGIN for reader in plain)
        if safe and all(r.margins([one_turn(question, radio)])[0] > SAFE_MARGIN for r in adapted):
            assert adapted[0].answer(question) == radio
            chosen.append({"prompt": question, "answer": radio, "answer_without": answer})
    return chosen


def sizes(directory: Path) -> dict:
    [weights] = directory.glob("*.safetensors")
    tensors = load_file(weights)
    return {
        "parameters": int(sum(tensor.size for tensor in tensors.values())),
        "bytes": {path.name: path.stat().st_size for path in sorted(directory.iterdir())},
    }


def versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "optax", "numpy", "tokenizers", "safetensors", "jinja2")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


# ---------------------------------------------------------------- command line


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and evaluate Hangar's embedded demo model.")
    parser.add_argument(
        "--out", type=Path, default=HERE / "model", help="directory of the model (default: model)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of data, split and weights (default: 1)")
    parser.add_argument("--steps", type=int, default=1300, help="training steps (default: 1300)")
    parser.add_argument(
        "--rows", type=int, default=32, help=f"rows of {ROW_TOKENS} tokens a step (default: 32)"
    )
    parser.add_argument("--adapter-steps", type=int, default=150, help="the adapter's steps (default: 150)")
    parser.add_argument("--adapter-rows", type=int, default=16, help="rows of its steps (default: 16)")
    parser.add_argument(
        "--adapter-only", action="store_true", help="leave the model as it is and only train its adapter"
    )
    parser.add_argument(
        "--evaluate-only", action="store_true", help="only read both back and take their figures again"
    )
    return parser.parse_args()


def training_of_model(args, split: Split) -> dict:
    """Trains and writes the model."""
    started = time.monotonic()
    tokenizer = train_tokenizer(args.seed, split)
    parameters, final_loss = train(args, split, tokenizer)
    write_model(args.out, tokenizer, parameters)
    return {
        "seed": args.seed,
        "steps": args.steps,
        "rows_a_step": args.rows,
        "tokens_a_row": ROW_TOKENS,
        "final_loss": round(final_loss, 5),
        "seconds": round(time.monotonic() - started),
        "versions": versions(),
    }


def training_of_adapter(args, split: Split, directory: Path) -> dict:
    """Trains and writes the adapter."""
    started = time.monotonic()
    adapter, final_loss = train_adapter(args, split, args.out)
    write_adapter(directory, adapter)
    return {
        "seed": args.seed,
        "steps": args.adapter_steps,
        "rows_a_step": args.adapter_rows,
        "tokens_a_row": ROW_TOKENS,
        "rank": ADAPTER_RANK,
        "alpha": ADAPTER_ALPHA,
        "final_loss": round(final_loss, 5),
        "seconds": round(time.monotonic() - started),
        "versions": versions(),
    }


def main() -> int:
    args = parse_arguments()
    beside, adapter = args.out.parent, args.out.parent / "adapter"
    figures_path = beside / "figures.json"
    figures = json.loads(figures_path.read_text(encoding="utf-8")) if figures_path.exists() else {}
    if not args.evaluate_only and not args.adapter_only:
        figures = {"training": training_of_model(args, Split(args.seed))}
    training, evaluation = figures["training"], figures.get("evaluation")
    split = Split(training["seed"])
    if not args.adapter_only:
        evaluation = evaluate(args.out, training["seed"], split)
        write_json(beside / "answers.json", choose_answers(args.out, split))
    if args.evaluate_only:
        adapter_training = figures["adapter"]["training"]
    else:
        adapter_training = training_of_adapter(args, split, adapter)
    figures = {
        **sizes(args.out),
        "training": training,
        "evaluation": evaluation,
        "adapter": {
            **sizes(adapter),
            "training": adapter_training,
            "evaluation": evaluate_adapter(args.out, adapter, training["seed"], split),
        },
    }
    write_json(beside / "adapter_answers.json", choose_adapter_answers(args.out, adapter, split))
    write_json(figures_path, figures)
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
