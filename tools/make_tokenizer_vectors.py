"""Strings and the ids that transformers' slow CLIPTokenizer gives them, without ftfy.

    python tools/make_tokenizer_vectors.py --twin tests/golden/twin/a.json --out tests/golden/tokenizer.json

The tokenizers are those of a twin (the second pads with "!", which is an added token). With --vocab DIR (a folder with
vocab.json and merges.txt of the real 49,408-token BPE) the same strings go through that vocabulary.
"""

import argparse
import importlib.util
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import transformers
from transformers import CLIPTokenizer

assert importlib.util.find_spec("ftfy") is None, "ftfy changes what the slow CLIPTokenizer does"

PLAIN = """a photo of a cat|A Photo Of A CAT|  leading and   inner   spaces  |
tabs\tand\nnew lines\r\n|it's, isn't, we've, I'm, they'LL, he'D|
don't'|'s|''s'T'RE|hello,world!|hello !!! world!|1234 567 8,9.0|x1y2z3|snake_case-and-dashes|
e-mail: a@b.co|a/b\\c|100% (of 50)|$5 & #6 *7* ~8~|
<|startoftext|>|<|endoftext|>|a <|endoftext|> b|a<|endoftext|>b|<|ENDOFTEXT|>|<|StartOfText|> x|
<|endoftext|><|endoftext|>|<|endoftext|<|endoftext|>|
<| endoftext |>|!|!!|a!b!c|! a !|https://example.org/?q=1&r=2|C++ and C#|"quotes" ‘single’ “double”|
em—dash en–dash|ellipsis…dots...|½ ¼ ² ³ ₂|№ ™ © ®|
naïve café résumé|Über Straße|ŒUVRE æther|Łódź żółć|İstanbul ILIK ıi|Iğdır IĞDIR|ΑΒΓ ΟΔΥΣΣΕΥΣ|
ΣΑΣ Σ ΣΣ ΑΣ' ΑΣ.Α ΑΣ΄|Σ|ΑΣ-Β|ΌΣΟΣ|ὈΔΥΣΣΕΎΣ|ἀΣ́|МОСКВА Ёлка ё|
שלום עולם|مرحبا بالعالم|नमस्ते दुनिया|ไทยแลนด์|ქართული|ᲥᲐᲠᲗᲣᲚᲘ|ՀԱՅԵՐԵՆ|你好世界|漢字と仮名交じり文|カタカナ ひらがな|
한국어 텍스트|한글|a中b文c|豈更|㐀𠀀𪜀|😀 😃👍🏽|👨‍👩‍👧‍👦 family|🇩🇪🇫🇷|❤️ ♥|
e\u0301 vs \u00e9|A\u030a \u212b|\u1100\u1161\u11a8|q\u0323\u0307 q\u0307\u0323|
zero\u200bwidth\u200djoin|soft\u00adhyphen|bom\ufeffinside|nbsp\u00a0here|em\u2003space\u2009thin|
line\u2028sep\u2029para|
bell\x07 esc\x1b del\x7f|c1\x85next\x9f|private\ue000use|replacement\ufffdchar|
\u202eright to left\u202c|vertical\x0btab form\x0cfeed|\x1c\x1d\x1e\x1f|ogham\u1680space|
mongolian\u180eseparator|ideographic\u3000space|
K (Kelvin) \u212a|long s \u017f 'ſ|ﬁ ligature ﬂ|ǅ ǈ ǋ|ẞ ß SS|ΐ ΰ|\u0345 ͅ|ⅷ Ⅷ|ⓐ Ⓐ|𝐀𝐁𝐂 𝒜|٣٤٥ ۴ ५|๑๒|Ⅻ|〇一二|ʼn|ǰ|
"""


def strings() -> list[str]:
    out = [s.removeprefix("\n") for s in PLAIN.split("|\n")]
    flat: list[str] = []
    for block in out:
        # a bar also belongs to <|endoftext|>: lists are split where no angle stands beside it
        part = ""
        for i, c in enumerate(block):
            inside = c == "|" and (block[i - 1 : i] == "<" or block[i + 1 : i + 2] == ">")
            if c == "|" and not inside:
                flat.append(part)
                part = ""
            else:
                part += c
        flat.append(part)
    flat += [
        "",
        " ",
        "\n",
        "a",
        "word " * 40,
        "a" * 300,
        "中" * 60,
        "!" * 60,
        "é" * 50,
        "the " * 21 + "end",
        "the " * 22 + "end",
        "the " * 23,
    ]
    rng = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ    ''''..,,!!-0123456789"
    wide = [chr(c) for c in range(0x20, 0x3000) if unicodedata.category(chr(c)) != "Cn"]
    for i in range(120):
        flat.append("".join(rng.choice(letters) for _ in range(rng.randint(1, 60))))
    for i in range(160):
        flat.append("".join(rng.choice(wide) for _ in range(rng.randint(1, 24))))
    for i in range(40):
        flat.append(
            "".join(
                rng.choice(["Σ", "σ", "Α", "'", ".", "\u0301", " ", "İ", "1", "ͅ", ":", "ʰ", "-"])
                for _ in range(rng.randint(1, 12))
            )
        )
    return flat


def encode(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    return tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twin", type=Path, required=True)
    parser.add_argument("--vocab", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    files = json.loads(args.twin.read_text(encoding="utf-8"))["files"]
    with tempfile.TemporaryDirectory() as tmp:
        folders = []
        for name in ("tokenizer", "tokenizer_2"):
            folder = Path(tmp) / name
            folder.mkdir()
            for path, content in files.items():
                if not path.startswith(name + "/"):
                    continue
                text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
                (folder / Path(path).name).write_text(text, encoding="utf-8")
            if args.vocab:
                for f in ("vocab.json", "merges.txt"):
                    (folder / f).write_bytes((args.vocab / f).read_bytes())
                (folder / "tokenizer_config.json").write_text(
                    json.dumps({"model_max_length": 77, "pad_token": "<|endoftext|>" if name == "tokenizer" else "!"}),
                    encoding="utf-8",
                )
            folders.append(folder)
        tokenizers = [CLIPTokenizer.from_pretrained(f) for f in folders]
    cases = [[s, *(encode(t, s) for t in tokenizers)] for s in strings()]
    out = {"transformers": transformers.__version__, "unicode": unicodedata.unidata_version, "cases": cases}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    head = json.dumps({k: v for k, v in out.items() if k != "cases"})[:-1]
    args.out.write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(len(cases), "strings")


if __name__ == "__main__":
    main()
