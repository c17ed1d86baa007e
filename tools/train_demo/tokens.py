"""The demo model's vocabulary: byte-level CLIP BPE whose merges are learned on the captions.

    python tools/train_demo/tokens.py --out models/demo

Every word of the world becomes one token; any other text falls back to bytes, so everything tokenizes.
Writes tokenizer/ and tokenizer_2/, which differ in padding alone, as SDXL's do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import world

LENGTH = 24
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in CLIP's vocabulary order ('!' is token 0)"""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def word_counts(captions: int = 20000, seed: int = 0) -> Counter[str]:
    rng = random.Random(seed)
    return Counter(w for _ in range(captions) for w in world.caption(world.random_scene(rng), rng)[0].split())


def learn_merges(counts: Counter[str]) -> list[tuple[str, str]]:
    """Byte pair encoding until every word is one symbol; ties go to the alphabet, so the result is fixed."""
    words = {w: (*w[:-1], w[-1] + "</w>") for w in sorted(counts)}
    merges = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for w, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[w]
        if not pairs:
            return merges
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for w, symbols in words.items():
            out: list[str] = []
            for s in symbols:
                if out and (out[-1], s) == best:
                    out[-1] += s
                else:
                    out.append(s)
            words[w] = tuple(out)


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    letters = byte_letters()
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + [START, END]
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def write(folder: Path, pad: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(word_counts())
    vocab = vocabulary(merges)

    def dump(name: str, value: object) -> None:
        (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")

    def special(text: str) -> dict[str, object]:
        return {"content": text, "lstrip": False, "normalized": text == END, "rstrip": False, "single_word": False}

    dump("special_tokens_map.json", {"bos_token": special(START) | {"normalized": True}, "eos_token": special(END)
                                     | {"normalized": True}, "pad_token": pad, "unk_token": special(END)})
    added = {str(vocab[t]): special(t) | {"normalized": True, "special": True} for t in (START, END)}
    if pad != END:
        added = {str(vocab[pad]): special(pad) | {"normalized": False, "special": True}} | added
    dump("tokenizer_config.json", {
        "add_prefix_space": False, "added_tokens_decoder": added, "bos_token": START, "clean_up_tokenization_spaces": True,
        "do_lower_case": True, "eos_token": END, "errors": "replace", "model_max_length": LENGTH, "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer", "unk_token": END})


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, required=True)
    args = ap.parse_args()
    write(args.out / "tokenizer", END)
    write(args.out / "tokenizer_2", "!")


if __name__ == "__main__":
    main()
