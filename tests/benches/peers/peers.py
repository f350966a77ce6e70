"""Hangar beside llama.cpp: the same model, files and requests, by turns on one machine.

Prints a table in Markdown: medians with the least and the most of all rounds, and the ratio of the medians. A round is
begun only while TIME is left, so that all ends within half an hour.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import threading
import time

import models
import sides

# Seconds after which no round is begun.
TIME = 22 * 60
CYCLES = 20

# What it is, the file of each side, Hangar's dtype.
FORMATS = [
    ("f16", "f16", "f16.gguf", None),
    ("f32 in memory", "f16", "f16.gguf", "DATA_TYPE_F32"),
    ("q8_0", "q8_0", "q8_0", None),
    ("q4_k_m", "q4_k_m", "q4_k_m", None),
]

# Name, unit, whether more is better.
MEASURES = {
    "load to READY": ("s", False),
    "cold request to first token": ("s", False),
    "tokens written a second": ("", True),
    "1,000 tokens read": ("s", False),
    "the next turn": ("s", False),
    "four callers, tokens a second": ("", True),
    "memory (all resident)": ("MiB", False),
    "memory (anonymous)": ("MiB", False),
    "unload until the process is gone": ("s", False),
}


def text(length, seed):
    """So many tokens; no two seeds begin alike."""
    return (f"{seed} " + "The quick brown fox jumps over the lazy dog. " * (length // 40 + 1))[:length]


def answer(side, prompt, tokens, reuse=False):
    """Seconds to the first token, tokens, and seconds from the first to the last."""
    began = time.monotonic()
    first, count = None, 0
    for new in side.stream(prompt, tokens, reuse):
        if new and first is None:
            first = time.monotonic()
        count += new
    assert count == tokens, f"{side.name} has written {count} tokens of {tokens}"
    return first - began, count, time.monotonic() - first


def four_callers(side, seed, tokens):
    """Tokens a second of four requests at the same time."""
    began = time.monotonic()
    callers = [threading.Thread(target=answer, args=(side, text(16, f"{seed}{n}"), tokens)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return 4 * tokens / (time.monotonic() - began)


def measure(side, path, dtype, seed, tokens):
    """One round of a side with one format."""
    found = {}
    began = time.monotonic()
    side.load(path, dtype)
    found["load to READY"] = time.monotonic() - began
    answer(side, text(16, f"{seed}c"), 1)
    found["cold request to first token"] = time.monotonic() - began
    _, count, seconds = answer(side, text(16, f"{seed}w"), tokens)
    found["tokens written a second"] = (count - 1) / seconds
    prompt = text(1000, f"{seed}r")
    found["1,000 tokens read"], _, _ = answer(side, prompt, 2)
    turn = prompt + text(50, f"{seed}t")
    answer(side, prompt, 2, reuse=True)
    found["the next turn"], _, _ = answer(side, turn, 2, reuse=True)
    found["four callers, tokens a second"] = four_callers(side, f"{seed}f", tokens // 2)
    found["memory (all resident)"], found["memory (anonymous)"] = sides.memory(side.pid)
    began = time.monotonic()
    side.unload()
    found["unload until the process is gone"] = time.monotonic() - began
    return found


def cycles(hangar, path):
    """Memory of the server before and after loads and unloads, and seconds until a death is told."""
    before = sides.memory(hangar.process.pid)[1]
    for _ in range(CYCLES):
        hangar.load(path)
        hangar.unload()
    after = sides.memory(hangar.process.pid)[1]
    hangar.load(path)
    told = hangar.kill_until_told()
    hangar.unload_dead()
    return before, after, told


def cell(values):
    if not values:
        return ""
    digits = 0 if statistics.median(values) >= 100 else 2
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(results):
    """The table, with the ratio of each measure that is better above 1."""
    print("\n| | | Hangar | llama.cpp | ratio |\n|---|---|---|---|---|")
    for name, *_ in FORMATS:
        for measure_name, (unit, _) in MEASURES.items():
            ours, theirs = (results[side, name, measure_name] for side in ("Hangar", "llama.cpp"))
            ratio = statistics.median(ours) / statistics.median(theirs)
            what = f"{measure_name}, {unit}" if unit else measure_name
            print(f"| {name} | {what} | {cell(ours)} | {cell(theirs)} | {ratio:.2f} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="where hangar and its worker are")
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="where llama-server and llama-quantize are")
    parser.add_argument("--models", type=pathlib.Path, required=True, help="where the models are made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--formats", nargs="*", default=[name for name, *_ in FORMATS])
    options = parser.parse_args()
    FORMATS[:] = [entry for entry in FORMATS if entry[0] in options.formats]
    paths = models.make(options.models, options.llama / "llama-quantize")
    began = time.monotonic()
    results = {(side, name, m): [] for side in ("Hangar", "llama.cpp") for name, *_ in FORMATS for m in MEASURES}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        hangar = sides.Hangar(options.programs, options.models, folder)
        llama = sides.LlamaServer(options.llama / "llama-server", folder)
        rounds = 0
        loads = [os.getloadavg()[0]]
        while rounds < options.rounds and (rounds == 0 or time.monotonic() - began < TIME):
            for name, ours, theirs, dtype in FORMATS:
                turns = [(hangar, paths[ours], dtype), (llama, paths[theirs], None)]
                # Either begins as often.
                for side, path, kind in turns if rounds % 2 == 0 else reversed(turns):
                    found = measure(side, path, kind, f"{rounds}", options.tokens)
                    for what, value in found.items():
                        results[side.name, name, what].append(value)
            rounds += 1
            loads.append(os.getloadavg()[0])
            print(f"round {rounds} after {time.monotonic() - began:.0f} s, load average {loads[-1]:.1f}", flush=True)
        table(results)
        before, after, told = cycles(hangar, paths["q8_0"])
        print(f"\nThe server's memory (anonymous) over {CYCLES} loads and unloads: {before:.1f} to {after:.1f} MiB.")
        print(f"A worker that was killed was told of after {told * 1000:.0f} ms.")
        print(
            f"{rounds} rounds in {time.monotonic() - began:.0f} s on {os.cpu_count()} processors, kernels "
            f"{hangar.kernels()}, load average {', '.join(f'{load:.1f}' for load in loads)} (before each round, and at the "
            "end; what runs here makes 2 of it)."
        )
        hangar.end()
        llama.end()


if __name__ == "__main__":
    main()
