"""Strings and the ids that transformers' slow CLIPTokenizer gives them, without ftfy.

    python tools/make_tokenizer_vectors.py --twin tests/golden/twin/a.json --out tests/golden/tokenizer.json

The tokenizers are those of a twin (the second pads with "!", which is an added token). The real 49,408-token vocabulary
is not in the repository; PyPI's open_clip_torch carries it, and the same strings go through it like this:

    pip download --no-deps open_clip_torch -d W
    python tools/make_tokenizer_vectors.py --open-clip W/open_clip_torch-*.whl --folder T --out T/tokenizer.json
    FACET_TOKENIZER_DIR=T build/tests/test_tokenizer
"""

import argparse
import gzip
import importlib.util
import json
import random
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import transformers
from transformers import CLIPTokenizer

try:
    from transformers.models.clip.tokenization_clip import bytes_to_unicode
except ImportError:
    raise SystemExit(f"transformers {transformers.__version__} has no slow CLIPTokenizer any more: take 4.57") from None

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


def from_twin(path: Path) -> dict:
    """The tokenizer files of a twin's description."""
    files = json.loads(path.read_text(encoding="utf-8"))["files"]
    return {k: v for k, v in files.items() if k.startswith("tokenizer")}


def from_open_clip(wheel: Path) -> dict:
    """CLIP's vocabulary in the layout of SDXL's two tokenizer folders."""
    with zipfile.ZipFile(wheel) as z:
        text = gzip.decompress(z.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode("utf-8")
    merges = text.split("\n")[1 : 49152 - 256 - 2 + 1]
    base = list(bytes_to_unicode().values())
    pieces = base + [c + "</w>" for c in base] + ["".join(m.split()) for m in merges]
    vocab = {t: i for i, t in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    out: dict = {}
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        out[f"{name}/vocab.json"] = vocab
        out[f"{name}/merges.txt"] = "#version: 0.2\n" + "\n".join(merges) + "\n"
        out[f"{name}/tokenizer_config.json"] = {"model_max_length": 77, "pad_token": pad, "do_lower_case": True}
    return out


def write(files: dict, folder: Path) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (folder / path).write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--twin", type=Path)
    source.add_argument("--open-clip", type=Path, help="a wheel of open_clip_torch")
    parser.add_argument("--folder", type=Path, help="keep the tokenizers' files here")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    files = from_twin(args.twin) if args.twin else from_open_clip(args.open_clip)
    with tempfile.TemporaryDirectory() as tmp:
        folder = args.folder or Path(tmp)
        write(files, folder)
        tokenizers = [CLIPTokenizer.from_pretrained(folder / n) for n in ("tokenizer", "tokenizer_2")]
    cases = [[s, *(encode(t, s) for t in tokenizers)] for s in strings()]
    out = {"transformers": transformers.__version__, "unicode": unicodedata.unidata_version, "cases": cases}
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    head = json.dumps({k: v for k, v in out.items() if k != "cases"})[:-1]
    args.out.write_text(f'{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(len(cases), "strings")


if __name__ == "__main__":
    main()
