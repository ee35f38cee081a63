"""The command line as a user meets it: help, lists, suggestions, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import arbench as arbench_package
from arbench import registry
from arbench.cli.main import main


def arbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "arbench", *arguments], capture_output=True, text=True)


def test_help_lists_every_verb():
    result = arbench("--help")
    assert result.returncode == 0
    for verb in ("ls", "show", "run", "resume", "status", "report", "parity"):
        assert f"\n  {verb} " in result.stdout
    assert "arbench run quickstart" in result.stdout
    verbs = result.stdout.partition("Commands:")[2]
    assert "..." not in verbs, "a help line is cut off"


@pytest.mark.parametrize("verb", ["ls", "show", "run", "resume", "status", "report", "parity"])
def test_every_verb_has_help(verb):
    result = arbench(verb, "--help")
    assert result.returncode == 0
    assert "Usage: arbench" in result.stdout


def test_a_mistyped_verb_gets_a_suggestion():
    result = arbench("rnu", "quickstart")
    assert result.returncode == 2
    assert "'run'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "did you mean quickstart?"),
        (["show", "quickstart", "--adapter", "raster/lamagen-mini"], "did you mean raster/llamagen-mini"),
        (["show", "quickstart", "--set", "generate.m=3"], "unknown key 'm'"),
        (["show", "./none.yaml"], "no suite file"),
        (["ls", "adaptors"], "did you mean adapters?"),
        (["run", "quickstart", "--track", "off", "--track", "sqlite:///a.db"], "--track is given twice"),
        (["score", "a", "--reference", "b", "--reference=c"], "--reference is given twice"),
        (["stats", "a", "-o", "b.npz", "--output", "c.npz"], "--output is given twice"),
    ],
)
def test_usage_errors_are_short_and_exit_with_2(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["score", "", "--reference", "b"], "after score"),
        (["score", "a", "--reference", ""], "after --reference"),
        (["run", "nightly", "--out="], "for --out"),
        (["report", ""], "after report"),
    ],
)
def test_an_empty_word_is_not_the_current_folder(arguments, where, capsys):
    assert main(arguments) == 2
    assert f"nothing is given {where}" in capsys.readouterr().err


def test_debug_shows_the_traceback():
    result = arbench("ls", "adaptors", "--debug")
    assert "Traceback" in result.stderr
    assert "UnknownName" in result.stderr


@pytest.mark.parametrize("what", ["adapters", "tokenizers", "metrics", "suites", "datasets", "runs"])
def test_lists_come_as_tables_and_as_json(what, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ls", what]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["ls", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    assert bool(rows) == (what != "runs")


def test_adapters_are_listed_by_system_and_family(capsys):
    def names(*words: str) -> list[str]:
        assert main(["ls", "adapters", *words]) == 0
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]

    groups = names()
    assert "raster/llamagen-*" in groups
    assert len(groups) == len(set(groups)) < len(registry.cards())
    assert {card.name for group in groups for card in registry.matching([group])} == {
        card.name for card in registry.cards().values() if card.kind == "generator"
    }
    assert sorted(names("--system", "llamagen")) == [card.name for card in registry.matching(["raster/llamagen-*"])]
    assert {name.partition("/")[0] for name in names("--family", "next_scale")} == {"next_scale"}
    assert main(["ls", "adapters", "--system", "llamagn"]) == 2
    assert "did you mean llamagen" in capsys.readouterr().err


def test_ls_says_how_to_get_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    assert main(["ls", "adapters", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["raster/llamagen-mini"]["checkpoint"] == "shipped"
    assert "var_d16.pth" in rows["next_scale/var-d16"]["checkpoint"]


def test_names_with_markup_are_printed_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").mkdir()
    for index in range(4):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / "a" / f"{index}.png")
    command = ["score", "a", "--reference", "a", "--convention", "offline", "--metric", "frechet"]
    for shard in ("0/2", "1/2"):
        assert main([*command, "--shard", shard, "--out", f"p{shard[0]}[/x]"]) == 0
    for out in ("x[/y]", "[red]z"):
        assert main(["merge", "p0[/x]", "p1[/x]", "--out", out]) == 0
        assert f"arbench score {out} --reference" in capsys.readouterr().out


def test_names_never_reach_the_terminal_as_commands(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("\x1b]0;title\x07\x1b[2Jx.png", b"not an image")
    source = str(tmp_path / "a.zip")
    assert main(["score", source, "--reference", source, "--metric", "frechet", "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert "\\x1b[2Jx.png" in printed
    assert not {"\x1b", "\x07"} & set(printed)


@pytest.mark.parametrize("command", [("ls", "suites", "--json"), ("ls", "conventions")])
def test_a_disk_that_is_full_is_said_without_a_traceback(command):
    """A short text meets it when it is flushed, a long one on the way."""
    with open("/dev/full", "w") as full:  # noqa: PTH123, a device
        done = subprocess.run([sys.executable, "-m", "arbench", *command], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr.decode().splitlines() == [
        "arbench: cannot write: No space left on device",
        "  next: make room; what was finished before is kept",
    ]


@pytest.mark.parametrize("command", [("ls", "suites", "--json"), ("ls", "conventions")])
def test_a_stdout_that_is_closed_is_no_error(command):
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "arbench", *command], stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    command = ["sh", "-c", 'rmdir "$PWD" && "$@"', "sh", sys.executable, "-m", "arbench", "score", "/a", "-r", "/b"]
    environment = {**os.environ, "PYTHONPATH": str(Path(arbench_package.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path / "gone", env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("arbench: the current folder is gone")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_cannot_show_is_an_escape(encoding, tmp_path):
    name = "\u30c6\u30b9\u30c8.yaml"
    (tmp_path / name).write_text("suite: \u30c6\u30b9\u30c8\nadapters: [raster/llamagen-mini]\ntasks: [{memory: {}}]\n")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "arbench", "show", name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert "\\u30c6" in done.stdout.decode(encoding)


def test_an_interrupt_that_no_command_answers_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """typer makes a silent exit of it."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "cards", interrupted)
    assert main(["ls", "adapters"]) == 130
    assert capsys.readouterr().err == "arbench: interrupted\n"


def test_the_verb_that_is_called_hides_no_other(capsys):
    assert main(["ls", "nothing"]) == 2
    for words, told in ((["scoer", "ls"], "Did you mean 'score'"), (["--debug", "scoer"], "Did you mean 'score'")):
        assert main(words) == 2
        assert told in capsys.readouterr().err
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in ("score", "references", "bisect", "leaderboard"))
