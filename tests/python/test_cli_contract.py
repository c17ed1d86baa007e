"""The contract of every command, from the program's own option tables: help, exit codes, ranges, stdout's purity.

Run:  FACET=build/facet python -m pytest tests/python/test_cli_contract.py
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cli_util import facet, good, run, tables

COMMANDS = [
    "demo",
    "generate",
    "capture",
    "train",
    "encode",
    "features look",
    "features top",
    "features icon",
    "features contrast",
    "features stats",
    "convert",
    "info",
    "doctor",
    "help",
]
NUMBERS = {"int", "float", "steps", "size", "pair"}


def rows() -> Iterator[tuple[list[str], dict[str, Any]]]:
    for command in tables():
        for option in command["options"]:
            yield command["name"].split(), option


def refused(words: list[str], *names: str) -> str | None:
    """None when facet refuses these words as wrong use and the sentence holds the names; else what happened."""
    done = run(*words)
    text = done.stderr.decode()
    fine = (
        done.returncode == 2
        and done.stdout == b""
        and text.startswith("facet: ")
        and all(n in text for n in names)
    )
    return (
        None
        if fine
        else f"{words}: exit {done.returncode}, stdout {done.stdout[:80]!r}, stderr {text[:300]!r}"
    )


def test_the_commands_are_those_that_are_there() -> None:
    assert [c["name"] for c in tables()] == COMMANDS


def test_program_help() -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        done = good(*words)
        assert done.stderr == b""
        text = done.stdout.decode()
        assert all(f"  {name} " in text for name in COMMANDS)
        assert len(re.findall(r"^  facet ", text, re.MULTILINE)) == 3, "three examples"


def test_version() -> None:
    assert re.fullmatch(r"facet \d+\.\d+\.\d+\n", good("--version").stdout.decode())


@pytest.mark.parametrize("name", COMMANDS)
def test_command_help(name: str) -> None:
    """--help, -h and `facet help` say the same, and name every option with its default and choices."""
    command = next(c for c in tables() if c["name"] == name)
    text = good(*name.split(), "--help").stdout.decode()
    assert good("help", *name.split()).stdout.decode() == text
    assert good(*name.split(), "-h").stdout.decode() == text
    assert good(*name.split(), "--nonsense", "--help").stdout.decode() == text
    flat = " ".join(text.split())
    for option in command["options"]:
        assert re.search(rf"--{option['name']}\b", text), option["name"]
        assert " ".join(option["help"].split()) in flat, option["name"]
        if option.get("default"):
            assert f"default: {option['default']}" in flat, option["name"]
        for choice in (option.get("choices") or "").split(","):
            assert choice in flat
        if option.get("letter"):
            assert f"-{option['letter']}, --{option['name']}" in text
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("  facet "))


def test_every_command_has_the_common_options() -> None:
    for command in tables():
        names = {o["name"] for o in command["options"]}
        assert {"json", "quiet", "verbose", "threads", "help"} <= names
        letters = [o["letter"] for o in command["options"] if o.get("letter")]
        assert len(letters) == len(set(letters)) and len(names) == len(command["options"]), command[
            "name"
        ]


def bad_values(option: dict[str, Any]) -> list[str]:
    """Values that this row must refuse."""
    kind = option["kind"]
    if kind == "choice":
        return ["nonsense", "", option["choices"]]
    if kind in {"file", "folder"}:
        return [""]
    if kind not in NUMBERS:
        return []
    lo, hi = option["lo"], option["hi"]
    whole = [str(int(lo) - 1)] + ([str(int(hi) + 1)] if hi < 9e18 else ["9223372036854775808"])
    if kind == "int":
        off = [str(int(lo) + 1)] if option.get("multiple") else []
        return [*whole, *off, "x", "", "1.5", "1e3", "0x10", " 8", "8 "]
    if kind == "float":
        edge = [repr(lo)] if option["lo_excluded"] else []
        return [repr(lo - 1), repr(hi * 2 + 1), *edge, "x", "", "nan", "inf", "1,5"]
    if kind == "steps":
        return ["0", "x", "", "1,", ",1", "3-1", "1-", "-1", "1.5", whole[1]]
    if kind == "size":
        return ["0x0", "8", "8x", "x8", "8x8x8", f"8x{whole[1]}", "", "8,8"]
    return ["1", "1,", ",1", "1,1,1", "-1,0", "", "x,y", f"0,{whole[1]}"]


def good_values(option: dict[str, Any]) -> list[str]:
    kind, lo, hi = option["kind"], option.get("lo", 0), option.get("hi", 0)
    top = "9223372036854775807" if hi >= 9e18 else str(int(hi))
    if kind == "choice":
        return option["choices"].split(",")
    if kind == "int":
        return [str(int(lo)), top]
    if kind == "float":
        return [repr(hi)] + ([] if option["lo_excluded"] else [repr(lo)])
    return {
        "steps": ["1,3", "1-3", "1-3,7", "3,1"],
        "size": ["64x32", "64X32"],
        "pair": ["0,0", "3,4"],
        "text": ["", "-1", "x y"],
        "file": ["a b"] + (["-"] if option.get("stream") else []),
        "folder": ["a b"],
    }.get(kind, [])


def test_every_row_refuses_what_is_out_of_range() -> None:
    wrong = []
    for command, option in rows():
        for value in bad_values(option):
            wrong.append(
                refused([*command, f"--{option['name']}={value}"], f"--{option['name']}", "want ")
            )
    wrong = [w for w in wrong if w]
    assert not wrong, "\n".join(wrong)


def test_every_row_takes_what_is_in_range() -> None:
    """The words after it are reached: the complaint is about them, not about the value."""
    wrong = []
    for command, option in rows():
        for value in good_values(option):
            for words in ([f"--{option['name']}={value}"], [f"--{option['name']}", value]):
                wrong.append(
                    refused(
                        [*command, *words, "--no-such-option"], "unknown option --no-such-option"
                    )
                )
        if option.get("letter") and option["kind"] not in {"flag"} and good_values(option):
            value = good_values(option)[0]
            if value:
                wrong.append(
                    refused(
                        [*command, f"-{option['letter']}{value}", "--no-such-option"],
                        "--no-such-option",
                    )
                )
    wrong = [w for w in wrong if w]
    assert not wrong, "\n".join(wrong)


def test_every_row_wants_its_value() -> None:
    wrong = []
    for command, option in rows():
        if option["kind"] == "flag":
            if option["name"] != "help":
                wrong.append(
                    refused(
                        [*command, f"--{option['name']}=1"], f"--{option['name']} takes no value"
                    )
                )
            continue
        wrong.append(
            refused([*command, f"--{option['name']}"], f"--{option['name']} wants a value")
        )
        wrong.append(
            refused(
                [*command, f"--{option['name']}", "--quiet"], f"--{option['name']} wants a value"
            )
        )
    wrong = [w for w in wrong if w]
    assert not wrong, "\n".join(wrong)


def test_required_options_and_operands() -> None:
    for command in tables():
        required = [o["name"] for o in command["options"] if o["required"]]
        operands = [o["name"] for o in command["operands"] if not o["optional"]]
        if required:
            assert refused(command["name"].split(), f"--{required[0]}", "is missing") is None
        elif operands:
            assert refused(command["name"].split(), f"{operands[0]} is missing") is None
        if not any(o["many"] for o in command["operands"]) and not required:
            words = [*command["name"].split(), *["x"] * (len(command["operands"]) + 1)]
            assert refused(words, "x") is None, command["name"]


def test_nearest_word() -> None:
    assert refused(["generate", "--stpes", "3"], "did you mean --steps?") is None
    assert refused(["generate", "--prompts", "x"], "did you mean --prompt") is None
    assert refused(["generat"], "did you mean generate?") is None
    assert refused(["features", "lok"], "did you mean look?") is None
    assert refused(["xyzzy"], "facet --help") is None
    assert refused(["generate", "-Z"], "unknown option -Z") is None
    done = run("features")
    assert done.returncode == 2 and done.stdout == b"" and b"contrast" in done.stderr
    assert b"contrast" in good("features", "--help").stdout


def test_json_is_an_object_also_when_it_fails() -> None:
    for words, code, status in (
        (["generate", "--json"], 2, "usage"),
        (["info", "/no/such/thing", "--json"], 1, "not found"),
        (["generate", "--seed", "x", "--json"], 2, "usage"),
        (["xyzzy", "--json"], 2, "usage"),
    ):
        done = run(*words)
        said = json.loads(done.stdout)
        assert done.returncode == code and said["status"] == status, words
        assert f"facet: {said['error']}" in done.stderr.decode(), words


def test_negative_numbers_and_the_end_of_options() -> None:
    assert refused(["generate", "--seed", "-1"], "--seed -1: want a whole number from 0") is None
    assert refused(["generate", "-p", "-5", "--no-such-option"], "--no-such-option") is None
    assert refused(["info", "--", "--json", "more"], 'one word too many: "more"') is None


def test_manual_page() -> None:
    page = good("help", "--man").stdout.decode()
    for command in tables():
        assert f'.SS "facet {command["name"]}"' in page
        for option in command["options"]:
            assert "\\-\\-" + option["name"].replace("-", "\\-") in page
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z"],
            input=page.encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()


def test_completion(tmp_path: Any) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = good("help", "--completion", shell).stdout.decode()
        for command in tables():
            for option in command["options"]:
                assert option["name"] in script
    script = tmp_path / "completion.bash"
    script.write_text(good("help", "--completion", "bash").stdout.decode())

    def complete(*words: str) -> set[str]:
        asked = " ".join(f"'{w}'" for w in words)
        text = f"source '{script}'; COMP_WORDS=({asked}); COMP_CWORD={len(words) - 1}; _facet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(
            ["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    assert complete("facet", "g") == {"generate"}
    assert {"features", "capture", "--help"} <= complete("facet", "")
    assert complete("facet", "features", "l") == {"look"}
    assert complete("facet", "generate", "--dtype", "") == {"auto", "f32", "bf16"}
    assert "--at-steps" in complete("facet", "capture", "--at")
    assert complete("facet", "features", "icon", "--unit", "m") == {"mean", "max"}
    assert complete("facet", "info", "comp") == {"completion.bash"}


def test_a_closed_pipe_is_an_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{facet()}' help --man | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), "it may have been written before the pipe closed"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([facet(), "help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr
