"""Every file of a run and of a sweep, spoilt in a thousand ways: each command answers with values or with one line."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff import cli
from mnist_ff.errors import printable
from mnist_ff.runs.search_result import SearchResult, write_search_result
from mnist_ff.training.checkpoint import SEAL
from tests.support.sweep_maker import make_sweep, product

Command = Callable[..., tuple[int, str, str]]
Spoil = Callable[[random.Random, bytes], bytes]

RUN, SWEEP = Path("outputs/2026-01-01_00-00-00_aaaa"), Path("outputs/sweeps/2026-01-02_00-00-00_bbbb")
WORDS = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false", "augment=shift"]
MOST_SECONDS, MOST_KILOBYTES = 10.0, 1 << 20

LIST = [["runs"], ["runs", "--json"], ["runs", "--all"], ["compare", str(RUN)], ["compare", "last", "--json"]]
PAGE = [["report", str(RUN)]]
USE = [["evaluate", str(RUN)], ["predict", "best", "--index", "0"], ["export", "last", "--format", "safetensors"]]
AGAIN = [["train", f"resume={RUN}", "trainer.epochs=2"], ["train", "--config-of", str(RUN), "trainer.epochs=1"]]
OTHER = [["compare", str(RUN), "whole"], ["train", "resume=last"]]
SWEEPS = [["runs", "--json"], ["report", str(SWEEP)], ["runs", "--all"], ["train", "-m", "resume=last", "dry_run=true"]]
COMMANDS = {
    RUN / "config.yaml": [*LIST, *PAGE, *USE[:1], *AGAIN[:1], *OTHER[1:]],
    RUN / "summary.json": [*LIST, *PAGE, *USE[1:2], *OTHER[1:]],
    RUN / "environment.json": [*PAGE, *AGAIN[:1]],
    RUN / "evaluation.json": [["evaluate", str(RUN)]],
    RUN / "epochs.csv": [*LIST, *PAGE, *AGAIN[:1]],
    RUN / "batches.csv": [*PAGE, *AGAIN[:1]],
    RUN / "predictions.safetensors": [*PAGE, *OTHER[:1]],
    RUN / "augmented.safetensors": PAGE,
    RUN / "model.safetensors": [*PAGE, *USE],
    RUN / "checkpoint.pt": AGAIN[:1],
    RUN / ".lock": [["runs"]],
    SWEEP / "jobs.json": SWEEPS,
    SWEEP / "search.json": SWEEPS,
    SWEEP / "slurm.json": SWEEPS[-1:],
    SWEEP / "0" / "config.yaml": SWEEPS,
    SWEEP / "0" / "summary.json": SWEEPS,
}
"""A file, and the commands that read it."""


@pytest.fixture(scope="module")
def made(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run that was evaluated, a sweep that was a search, and a second run beside them."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MNIST_FF_DATA", str(data_root))
        assert cli.main(["train", *WORDS, f"hydra.run.dir={RUN}"]) == 0
        assert cli.main(["evaluate", str(RUN)]) == 0
        shutil.copytree(RUN, "whole")
        make_sweep(SWEEP, list(product(seed=[0, 1])), lambda values: 0.9)
        counts = {"complete": 2, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
        found = {"best_words": {"seed": "0"}, "importance": {"seed": 1.0}}
        write_search_result(SWEEP, SearchResult("s", "search.journal", "validation_loss", 2, counts, 0, 0.5, **found))
        (SWEEP / "slurm.json").write_text('{"0": "12_0"}')
    return folder


@pytest.fixture
def copied(made: Path) -> Path:
    """A copy of it, as the working folder."""
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return Path()


ODD_TOKENS = [
    "null", "true", "-1", "0", "1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400, "9" * 5000, "1e300", "0.5", "7.5",
    '""', '"x"', '"\\u0000"', '"\\ud800"', '"\\u001b[2J"', '"../../x"', "[]", "{}", "[1]", '["x"]', '{"a": 1}', "[[]]",
    "[" * 200 + "]" * 200, "[" * 50_000, '"' + "x" * 5000 + '"', "1" + "0" * 20, "9999-99-99",
]  # fmt: skip
"""What may stand in the place of a value: of another type, not finite, endless, nested, or no JSON at all."""
MARK = "@@here@@"


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    """Some bytes are others, too few, or too many."""
    spoilt = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 20))):
        place = rng.randrange(len(spoilt))
        kind = rng.randrange(4)
        if kind == 0:
            spoilt[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            spoilt[place:] = b""
            spoilt = spoilt or bytearray(b"\0")
        elif kind == 2:
            spoilt[place:place] = rng.randbytes(rng.choice((1, 8, 300)))
        else:
            del spoilt[place : place + rng.choice((1, 8, 100))]
            spoilt = spoilt or bytearray(b"\0")
    return bytes(spoilt)


def value_changed(rng: random.Random, content: bytes) -> bytes:
    """A JSON value, or a whole branch, is something else; sometimes it is gone, or has a companion."""
    values = json.loads(content)
    places = list(_places(values))
    if not places:
        return rng.choice(ODD_TOKENS).encode()
    holder, key = rng.choice(places)
    if rng.random() < 0.15 and isinstance(holder, dict):
        holder.pop(key)
        holder[rng.choice(("x", "_target_", "\x1b[2J"))] = MARK
    else:
        holder[key] = MARK
    return json.dumps(values).replace(f'"{MARK}"', rng.choice(ODD_TOKENS)).encode()


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every value, as its holder and its key there."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(items):
        yield values, key
        yield from _places(value)


ODD_YAML = [
    "[a]", "{a: b}", "null", "true", "-1", ".nan", ".inf", "1e999", "1" + "0" * 400, "0x" + "f" * 6000, "|", "1:30",
    "'x'", "", "!!binary abcd", "!!int ''", "!!timestamp x", "!!bool x", "!!python/object/apply:os.system [true]",
    "&a [*a]", "*a", "&a x", "[" * 3000, "[" * 5000 + "]" * 5000, "- " * 3000, "? " * 3000, "2026-01-01",
    "[" + "a, " * 20_000 + "]", "[24000, 24000]",
    "\"\\ud800\"", "\"\\0\"", "${oc.env:HOME}", "[]", "[[[[8]]]]", "- 8\n  - 9", "../../x", "999999999999999999999999",
]  # fmt: skip
BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def line_changed(rng: random.Random, content: bytes) -> bytes:
    """A line of YAML has another value, another key or another depth; or an alias bomb stands before all."""
    lines = content.decode().splitlines()
    place = rng.randrange(len(lines))
    key, _, value = lines[place].partition(":")
    kind = rng.randrange(10)
    if kind == 0:
        return BOMB.encode() + content
    if kind == 1:
        lines[place] = f"  {lines[place]}"
    elif kind == 2:
        lines[place] = f"{key}x:{value}"
    elif kind == 3:
        lines.pop(place)
    elif kind == 4:
        lines.insert(place, lines[rng.randrange(len(lines))])
    else:
        lines[place] = f"{key}: {rng.choice(ODD_YAML)}"
    return ("\n".join(lines) + "\n").encode()


def cell_changed(rng: random.Random, content: bytes) -> bytes:
    """A cell of a CSV file is no number, or one that cannot be; or a row has too many."""
    lines = content.decode().splitlines()
    place = rng.randrange(len(lines))
    cells = lines[place].split(",")
    odd = ("", "x", "nan", "inf", "-inf", "1e999", "-0.1", "1.5", "1" + "0" * 400, "7,7", "\0", "x" * 5000, "'", '"')
    cells[rng.randrange(len(cells))] = rng.choice(odd)
    lines[place] = ",".join(cells)
    return ("\n".join(lines) + "\n").encode()


def header_changed(rng: random.Random, content: bytes) -> bytes:
    """The header of a safetensors file says something else, or a number in it is not finite."""
    length = int.from_bytes(content[:8], "little")
    header, numbers = content[8 : 8 + length], bytearray(content[8 + length :])
    kind = rng.randrange(4)
    if kind == 0:
        header = value_changed(rng, header)
    elif kind == 1:
        for old, new in (
            ("F32", rng.choice(("F16", "BF16", "F64", "I32", "F8_E5M2", "X"))),
            ("U8", "I8"),
            ("I64", "F64"),
        ):
            header = header.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    elif kind == 2:
        place = 4 * rng.randrange(len(numbers) // 4)
        numbers[place : place + 4] = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\xff" * 4))
    else:
        return rng.choice((0, 1, 1 << 40, (1 << 64) - 1)).to_bytes(8, "little") + content[8:]
    return len(header).to_bytes(8, "little") + header + bytes(numbers)


def spoilers(name: str) -> list[Spoil]:
    """The ways to spoil a file of this name."""
    own: dict[str, Spoil] = {
        ".json": value_changed,
        ".yaml": line_changed,
        ".csv": cell_changed,
        ".safetensors": header_changed,
    }
    found = own.get(Path(name).suffix)
    return [bytes_changed] if found is None else [found, found, bytes_changed]


def put_a_folder(path: Path) -> None:
    path.mkdir()


def put_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_a_link(path: Path) -> None:
    path.symlink_to(Path("whole", path.name).absolute())


def put_a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("/nowhere")


def put_a_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 << 30)


def put_nothing(path: Path) -> None:
    path.touch()


REPLACEMENTS = [put_a_folder, put_a_pipe, put_a_link, put_a_link_to_nowhere, put_a_giant, put_nothing]


def fault(words: list[str], mnist_ff: Command) -> str | None:
    """Run a command, and say what is wrong with how it ended: it must do so in time, and without a word of a bug."""
    began = time.monotonic()
    code, _, err = mnist_ff(*words)
    seconds = time.monotonic() - began
    if code not in (0, 1, 2) or "Traceback" in err or "bug" in err:
        return f"exit code {code}: {err[-1500:]}"
    if code == 2 and not 0 < len(err) < 5_000:
        return f"an error of {len(err)} bytes"
    return f"{seconds:.1f} s" if seconds > MOST_SECONDS else None


def spoil(made: Path, file: Path, number: int) -> str:
    """Put everything back as it was made, but one file spoilt in the way of this number. Returns how."""
    for folder in ("outputs", "whole"):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made / folder, folder)
    content = (made / file).read_bytes()
    if number < len(REPLACEMENTS):
        file.unlink()
        REPLACEMENTS[number](file)
        return f"{file}: {REPLACEMENTS[number].__name__}"
    rng = random.Random(f"{file} {number}")
    how = rng.choice(spoilers(file.name))
    file.write_bytes(how(rng, content))
    return f"{file}: {how.__name__} {number}"


def fuzz(made: Path, file: Path, count: int, mnist_ff: Command) -> None:
    """`count` ways to spoil a file, each read by one of its commands in turn."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    commands, faults = COMMANDS[file], []
    for number in range(count):
        words = commands[(number + number // len(commands)) % len(commands)]
        told = spoil(made, file, number)
        Path(f"{RUN.name}.safetensors").unlink(missing_ok=True)
        found = fault(words, mnist_ff)
        if found is not None:
            faults.append(f"mnist-ff {' '.join(words)}  {told}: {found}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:5]])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES


@pytest.mark.slow
@pytest.mark.parametrize("file", COMMANDS, ids=str)
def test_a_thousand_spoilt_files_end_no_command(file: Path, made: Path, mnist_ff: Command) -> None:
    fuzz(made, file, int(os.environ.get("MNIST_FF_FUZZ", "1000")), mnist_ff)


def test_spoilt_files_end_no_command(made: Path, mnist_ff: Command) -> None:
    """The quick form: some replacements and changes of each file, by the commands that only read."""
    for place, (file, commands) in enumerate(COMMANDS.items()):
        quick = [words for words in commands if words[0] in ("runs", "report")]
        for number in range(place % 3, len(REPLACEMENTS) + 2 if quick else 0, 3):
            words = quick[number % len(quick)]
            told = spoil(made, file, number)
            assert fault(words, mnist_ff) is None, f"mnist-ff {' '.join(words)}  {told}"


def make(path: Path) -> Path:
    """A finished run of numbers alone."""
    make_sweep(path.parent / "a sweep", [{}], lambda values: 0.9)
    shutil.move(path.parent / "a sweep" / "0", path)
    shutil.rmtree(path.parent / "a sweep")
    return path


def with_config(text: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        with (run / "config.yaml").open("a") as file:
            file.write(text)

    return change


def with_key(key: str, value: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / "config.yaml").read_text()
        assert key in text
        (run / "config.yaml").write_text(text.replace(key, value, 1))

    return change


def replaced(name: str, put: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).unlink()
        put(run / name)

    return change


def with_share(run: Path) -> None:
    path = run / "summary.json"
    path.write_text(path.read_text().replace("0.9", "9"))


BAD_NEIGHBOURS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a list for a name": (with_key("name: mnist_5k", "name: [a]"), "data.name=['a']: must be one of"),
    "an alias bomb": (with_config(BOMB), "anchors and aliases"),
    "three megabytes of list": (with_config("x:\n" + "- a\n" * 750_000), "is larger than"),
    "levels without end": (with_config("x: " + "[" * 50 + "]" * 50 + "\n"), "nested too deeply"),
    "a number of 6,000 digits": (with_key("seed: 0", "seed: 0x" + "f" * 6000), "endless number"),
    "a pipe for a config": (replaced("config.yaml", put_a_pipe), "is not a file"),
    "a link for a summary": (replaced("summary.json", put_a_link), "is a symbolic link"),
    "a share above one": (with_share, "not from 0 to 1"),
}


@pytest.mark.parametrize(("spoilt", "reason"), BAD_NEIGHBOURS.values(), ids=BAD_NEIGHBOURS.keys())
def test_a_bad_neighbour_is_a_broken_row(spoilt: Callable[[Path], None], reason: str, mnist_ff: Command) -> None:
    good, bad = make(Path("outputs/2026-01-01_00-00-00_good")), make(Path("outputs/2026-01-02_00-00-00_bad"))
    spoilt(bad)
    values = json.loads(mnist_ff("runs", "--json")[1])
    assert [value["status"] for value in values] == ["broken", "finished"]
    assert reason in values[0]["reason"]
    code, out, err = mnist_ff("compare", str(bad), str(good))
    assert (code, err) == (0, "")
    assert f"broken  {bad}" in out
    for word in ("last", "best"):
        assert f"{word} is {good}" in mnist_ff("compare", word)[2]
    code, _, err = mnist_ff("train", f"resume={bad}", "trainer.epochs=2")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "bad" in err
    assert "resume=last: no run in outputs/ is unfinished" in mnist_ff("train", "resume=last")[2]


@pytest.mark.parametrize("name", ["a\nerror: b", "a\u2028b", "a\rb"])
def test_a_path_with_a_lines_end_is_in_one_line(name: str, mnist_ff: Command) -> None:
    run = make(Path("outputs", name))
    (run / "summary.json").write_text("{")
    said = f"outputs/{printable(name)}/summary.json: not a run's summary"
    assert f"broken  {said}" in mnist_ff("runs")[1]
    for words in (["evaluate", str(run)], ["predict", str(run), "--index", "0"], ["evaluate", name + "/none"]):
        code, _, err = mnist_ff(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert printable(name) in err


@pytest.mark.parametrize("seconds", [300_000_000_000, -100_000_000_000])
def test_file_time_outside_calendars_is_listed(seconds: int, mnist_ff: Command) -> None:
    run = make(Path("outputs/a"))
    try:
        os.utime(run / "config.yaml", (seconds, seconds))
    except OSError as error:
        pytest.skip(f"this file system has no such time ({error})")
    code, out, err = mnist_ff("runs", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["status"] == "finished"
    assert mnist_ff("runs")[0] == 0
    assert mnist_ff("compare", "last")[0] == 0


def test_unreadable_folder_is_a_broken_row(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make(Path("outputs/good"))
    closed = make(Path("outputs/closed"))
    asked = os.lstat

    def lstat(path: Any, **keys: Any) -> os.stat_result:
        if "closed/" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return asked(path, **keys)

    monkeypatch.setattr(os, "lstat", lstat)
    closed.chmod(0)
    try:
        found = {value["path"]: value for value in json.loads(mnist_ff("runs", "--json")[1])}
        assert found[str(closed)]["status"] == "broken"
        assert "Permission denied" in found[str(closed)]["reason"]
        assert found["outputs/good"]["status"] == "finished"
    finally:
        closed.chmod(0o755)


def test_mismatched_network_allocates_nothing(copied: Path, mnist_ff: Command) -> None:
    """24,000 by 24,000 weights would take 2 GB."""
    with_key("- 8\n", "- 24000\n  - 24000\n")(RUN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for words in (["evaluate", str(RUN)], ["predict", str(RUN), "--index", "0"], AGAIN[0]):
        code, _, err = mnist_ff(*words)
        assert code == 2, err
        assert len(err.splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES / 4


def packed(values: Any, method: int = zipfile.ZIP_STORED) -> bytes:
    """What torch.save() makes of values, its parts packed anew, with a seal."""
    buffer, again = io.BytesIO(), io.BytesIO()
    torch.save(values, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(again, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    content = again.getvalue() if method else buffer.getvalue()
    return content + SEAL + hashlib.sha256(content).digest()


def saved_with(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda values: packed({**values, **changes})


class Terabyte:
    """Pickles as a call that torch allows, and that would take a terabyte."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 40,)


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a zip bomb": lambda values: packed({**values, "x": torch.zeros(1 << 22)}, zipfile.ZIP_DEFLATED),
    "an epoch that is a text": saved_with(epoch="1"),
    "an epoch that is a fraction": saved_with(epoch=0.5),
    "an epoch that never comes": saved_with(epoch=10**30),
    "batches of texts": saved_with(batches=[("1", 2, 3.0)]),
    "weights that are numbers": saved_with(model={"layers.0.weight": 3}),
    "no optimizer": saved_with(optimizer=[]),
    "an optimizer without its state": saved_with(optimizer={"state": {}, "param_groups": 3}),
    "an optimizer whose state is a list": saved_with(optimizer={"state": [1], "param_groups": []}),
    "a state of one number for a billion": saved_with(
        optimizer={"state": {0: {"square_avg": torch.zeros(1, dtype=torch.float64).expand(10**9)}}, "param_groups": []}
    ),
    "losses and counts that no batch has": saved_with(batches=[(math.nan, 10**30, 1.0)]),
    "weights of complex numbers": saved_with(model={"layers.0.weight": torch.zeros(2, dtype=torch.complex64)}),
    "a generator of another size": saved_with(dropout=torch.zeros(3, dtype=torch.uint8)),
    "a generator without end": saved_with(dropout=torch.zeros(1, dtype=torch.uint8).expand(1 << 40)),
    "a device that is a number": saved_with(device=7),
    "a buffer of a terabyte": saved_with(x=Terabyte()),
}


@pytest.mark.parametrize("make_checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_sealed_odd_checkpoint_is_one_line(
    make_checkpoint: Callable[[dict[str, Any]], bytes], copied: Path, mnist_ff: Command
) -> None:
    path = RUN / "checkpoint.pt"
    values = torch.load(path, weights_only=True)
    path.write_bytes(make_checkpoint(values))
    kept = (RUN / "batches.csv").read_bytes()
    code, _, err = mnist_ff(*AGAIN[0])
    assert code == 2, err
    assert str(RUN) in err
    assert len(err.splitlines()) == 1
    assert (RUN / "batches.csv").read_bytes() == kept
