"""`mnist-ff runs`: filters and sort order, and its actions delete, restore, tag, note, archive."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_ff.analysis.rows import STATUSES
from mnist_ff.analysis.run_filter import Condition, Filter, Order, moment_of, select
from mnist_ff.commands import runs as command
from mnist_ff.commands.completion import RUN_ACTIONS, arguments_of, candidates
from mnist_ff.errors import BadRunError, ConfigError, RunError
from mnist_ff.runs import archive, labels, trash
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.labels import LABELS, Labels, labels_of, read_labels
from mnist_ff.runs.portable import clean_text, cleaned, private_paths
from mnist_ff.session.resume import changed
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

CONFIG = make_config("data=mnist_5k")
SWEEP = OUTPUTS / "sweeps" / "2026-11-24_21-03-02_30a5"


def make(folder: str, accuracy: float = 0.9, status: str = "finished", at: int = 1000, **keys: object) -> Path:
    path = OUTPUTS / folder
    values = {key.replace("__", "."): value for key, value in keys.items()}
    write_run(path, changed(CONFIG, values), accuracy, status)
    os.utime(path / "config.yaml", (at, at))
    return path


@pytest.fixture
def outputs() -> None:
    make("a", 0.91, at=1000, name="small", optimizer__lr=0.01)
    make("b", 0.95, at=int(time.time()) - 7200, name="small wide", optimizer__lr=0.1)
    make("c", 0.0, "failed", at=2000, name="big", optimizer__lr=0.001)
    make_sweep(SWEEP, list(product(seed=[0, 1], optimizer__lr=[0.01, 0.5])), lambda _: 0.93, "name=swept")


def names_of(mnist_ff: Command, *words: str) -> list[str]:
    code, out, err = mnist_ff("runs", *words, "--json")
    assert code == 0, err
    return [value["path"].removeprefix("outputs/").partition("/")[0] for value in json.loads(out)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--status failed", "c"),
        ("--status failed --status finished --sort name", "c a b sweeps"),
        ("--data mnist_5k --sort began --reverse", "a c b sweeps"),
        ("--data mnist", ""),
        ("--name small*", "b a"),
        ("--name small", "a"),
        ("--where optimizer.lr=0.01", "sweeps a"),
        ("--where optimizer.lr=1e-2 --where score>0.92", "sweeps"),
        ("--where optimizer.lr>=0.1", "sweeps b"),
        ("--where optimizer.lr==0.01", "sweeps a"),
        ("--where optimizer.lr!=0.01 --where seed=0", "sweeps b c"),
        ("--where model.hidden=[500,300] --limit 1", "sweeps"),
        ("--where trainer.patience=null --where trainer.plots=true --limit 2", "sweeps b"),
        ("--since 3h", "sweeps b"),
        ("--since 90m", "sweeps"),
        ("--since 2001-01-01", "sweeps b"),
        ("--sort score", "b sweeps a c"),
        ("--sort score --reverse", "a sweeps b c"),
        ("--sort optimizer.lr", "c a b sweeps"),
        ("--sort seconds --limit 2", "b c"),
    ],
)
def test_filters_and_order(words: str, expected: str, outputs: None, mnist_ff: Command) -> None:
    assert names_of(mnist_ff, *words.split()) == expected.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "lr=0.1"], "lr: no such key; did you mean optimizer.lr?"),
        (["--where", "optimizer.lrr=0.1"], "did you mean optimizer.lr?"),
        (["--where", "nonsense"], "give KEY=VALUE"),
        (["--where", "began>0"], "began: no such key; use --since"),
        (["--where", "path=a"], "path: no such key"),
        (["--where", "optimizer.lr>x"], "> compares numbers; x is not a number"),
        (["--sort", "scor"], "did you mean score?"),
        (["--since", "tomorrow"], "give 30m, 12h, 2d, 1w, or a date"),
        (["--limit", "0"], "must be at least 1"),
        (["--status", "fine"], "--status fine: must be one of finished, "),
        (["--status", "Finished"], "did you mean finished?"),
        (["--where", "score>98"], "accuracies are shares from 0 to 1; type 'score>0.98'"),
        (["--where", "test_accuracy >= 97.5 %"], "type 'test_accuracy>=0.975'"),
        (["--where", "accuracy>0.5"], "accuracy: no such key; did you mean score?"),
        (["--where", "zzz=1"], "mnist-ff show lists the groups"),
        (["--sort", "date"], "did you mean began?"),
        (["--sort", "accuracy"], "did you mean score?"),
        (["--limit", "x"], "--limit x: must be an integer"),
        (["--name"], "--name: needs GLOB"),
        (["rm", "a"], "runs rm: takes one folder, or one of delete, "),
        (["rm", "a"], "first; type mnist-ff runs delete"),
        (["ls"], "first; type mnist-ff runs"),
        (["nowhere"], "nowhere: does not exist"),
        (["a", "b"], "takes one folder"),
        (["delete"], "takes runs, or flags"),
        (["delete", "a", "--status", "failed"], "not both"),
        (["delete", "a", "--sort", "name"], "--sort: is for the list"),
        (["delete", "--purge", "a"], "give no runs with it"),
        (["tag", "a"], "needs RUN... TAG"),
        (["tag", "a", "two words"], "without spaces"),
        (["note", "a", "b", "c"], "a text with spaces needs quotes"),
        (["note", "a", "x" * 3000], "give one line of 1 to 2,000"),
        (["archive", "x.rar", "a"], "ends with .zip or .tar.zst"),
        (["archive", "no/x.zip", "a"], "folder no does not exist"),
        (["archive", "x" * 300 + ".zip", "a"], "File name too long; choose another name"),
        (["restore", "zzz"], "zzz: is not in outputs/.trash"),
        (["--yes"], "are for mnist-ff runs delete"),
    ],
)
def test_bad_words_are_one_line(words: list[str], said: str, outputs: None, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("runs", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_folder_with_the_name_of_an_action_is_listed(mnist_ff: Command) -> None:
    write_run(Path("delete/x"), CONFIG, 0.9)
    assert json.loads(mnist_ff("runs", "./delete", "--json")[1])[0]["path"] == "delete/x"


def test_completion_knows_the_commands_actions() -> None:
    assert tuple(command.ACTIONS) == RUN_ACTIONS
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (choices,) = [tuple(one.kind) for one in arguments_of("runs") if one.names == ("--status",) and one.kind]
    assert set(choices) == set(STATUSES)
    assert "delete " in candidates(["runs"], "", ["runs"])
    assert "delete " not in candidates(["runs", "delete"], "", ["runs"])


def test_python_and_pages_filter_alike(outputs: None) -> None:
    chosen = Filter.of(status=["finished"], where=["optimizer.lr>=0.1"])
    assert [entry.path for entry in select(OUTPUTS, chosen, Order("score")).entries] == [OUTPUTS / "b", SWEEP]
    assert len(select(OUTPUTS, chosen, jobs=True).entries) == 3
    assert Condition.parse("a.b = [1, 2]").value == [1, 2]
    assert abs(moment_of("1w") - (time.time() - 604_800)) < 60
    with pytest.raises(ConfigError, match="--status fine: must be one of"):
        Filter.of(status=["fine"])


def test_a_sweep_that_matches_in_part_says_so(outputs: None, mnist_ff: Command) -> None:
    assert mnist_ff("runs", "tag", str(SWEEP / "1"), "good")[0] == 0
    _, out, err = mnist_ff("runs", "--tag", "good")
    assert str(SWEEP) in out
    assert err == f"{SWEEP}: 1 of its 4 jobs matches; --all lists single jobs\n"
    _, out, err = mnist_ff("runs", "--tag", "good", "--all")
    assert (str(SWEEP / "1") in out, err) == (True, "")
    assert "2 of its 4 jobs match;" in mnist_ff("runs", "--where", "optimizer.lr=0.01")[2]
    assert mnist_ff("runs", "--name", "swept")[2] == mnist_ff("runs")[2] == ""
    make_sweep(SWEEP.with_name("other"), list(product(optimizer__lr=[0.01, 0.1])), lambda _: 0.9)
    assert mnist_ff("runs", "--where", "optimizer.lr=0.01")[2] == "2 sweeps match in part; --all lists single jobs\n"


def test_only_as_many_runs_are_read_as_lines_are_printed(outputs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import run_list

    read: list[Path] = []
    monkeypatch.setattr(run_list, "read_row", lambda path: read.append(path))
    assert [entry.path.name for entry in select(OUTPUTS, order=Order(limit=2)).entries] == [SWEEP.name, "b"]
    assert [entry.path.name for entry in select(OUTPUTS, Filter.of(name="big")).entries] == ["c"][: len(read)]
    assert read == [OUTPUTS / "c"]


def test_delete_asks_moves_and_restores(outputs: None, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.relative_to("outputs") for path in (OUTPUTS / "a").rglob("*"))
    code, _, err = mnist_ff("runs", "delete", "small")
    assert code == 2, "nobody can answer"
    assert "--yes" in err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, there in (("n\n", True), ("\n", True), ("y\n", False)):
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer, raising=False)
        code, out, err = mnist_ff("runs", "delete", "small")
        assert code == 0, err
        assert "outputs/a" in out
        assert "[y/N]" in err
        assert (OUTPUTS / "a").exists() is there
    assert names_of(mnist_ff) == ["sweeps", "b", "c"]
    code, out, _ = mnist_ff("runs", "restore")
    assert "outputs/a" in out
    make("a", 0.1)
    assert mnist_ff("runs", "restore", "small")[0] == 1, "something else stands there"
    assert Run(OUTPUTS / "a").summary()
    Path("outputs/a").rename("elsewhere")
    assert mnist_ff("runs", "restore", "small")[0] == 0
    assert sorted(path.relative_to("outputs") for path in (OUTPUTS / "a").rglob("*")) == before
    assert not list((OUTPUTS / ".trash").iterdir())


def test_delete_by_filter_and_purge(outputs: None, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("runs", "delete", "--where", "optimizer.lr=0.01", "--yes", "--json")
    assert code == 0, err
    assert [one["path"] for one in json.loads(out)["deleted"]] == ["outputs/a"]
    assert "2 of its 4 jobs fit, so it is left alone" in err
    code, out, _ = mnist_ff("runs", "delete", "--name", "swept", "--yes", "--json")
    assert [one["path"] for one in json.loads(out)["deleted"]] == [str(SWEEP)]
    assert len(json.loads(mnist_ff("runs", "restore", "--json")[1])["trash"]) == 2
    assert mnist_ff("runs", "restore", "swept")[0] == 0
    assert names_of(mnist_ff) == ["sweeps", "b", "c"]
    assert mnist_ff("runs", "delete", str(SWEEP / "1"), "--yes")[2].count("job of a sweep") == 1
    assert mnist_ff("runs", "delete", "--purge")[0] == 2, "nobody can answer"
    assert json.loads(mnist_ff("runs", "delete", "--purge", "--yes", "--json")[1]) == {"purged": 2}
    assert not (OUTPUTS / ".trash").exists()


def test_a_name_of_several_runs_deletes_none(mnist_ff: Command) -> None:
    make("a", name="x")
    make("b", name="x")
    code, _, err = mnist_ff("runs", "delete", "x", "--yes")
    assert code == 2
    assert "is the name of 2 runs; give paths, or --name x for all" in err
    assert mnist_ff("runs", "delete", "--name", "x", "--yes")[0] == 0
    assert sorted(one.path.name for one in trash.in_trash()) == ["a", "b"]


def test_other_actions_take_the_newest_of_several_runs(mnist_ff: Command) -> None:
    make("a", name="x")
    make("b", name="x", at=2000)
    for words in (["tag", "x", "paper"], ["note", "x", "text"], ["untag", "x", "paper"], ["archive", "x.zip", "x"]):
        code, out, err = mnist_ff("runs", *words)
        assert code == 0, err
        assert "x is outputs/b: the newest of 2 runs with this name" in err
        assert "outputs/a" not in out


def test_an_empty_list_names_the_data_sets_of_the_runs(mnist_ff: Command) -> None:
    make("a")
    code, out, _ = mnist_ff("runs", "--data", "cifar10")
    assert (code, out) == (0, "No run in outputs/ matches; their data: mnist_5k.\n")
    assert mnist_ff("runs", "--name", "none")[1] == "No run in outputs/ matches.\n"
    assert mnist_ff("runs", "--data", "cifar10", "--json")[1].strip() == "[]"


def test_a_run_in_training_and_a_teacher(outputs: None, mnist_ff: Command) -> None:
    path = OUTPUTS / "a"
    pupil = make("pupil", trainer__teacher_weight=0.5, trainer__teacher=str(path.absolute()))
    code = (
        "from pathlib import Path\nfrom mnist_ff.runs.directory import Run\n"
        f"with Run(Path({str(path)!r})).locked():\n    print('held', flush=True)\n    input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        code_, _, err = mnist_ff("runs", "delete", "a", "--yes")
        assert (code_, path.exists()) == (2, True)
        assert "a process trains in it" in err
        with pytest.raises(RunError, match="a process trains in it"):
            trash.move_to_trash(path)
        holder.communicate(b"\n")
    code_, _, err = mnist_ff("runs", "delete", "a", "--yes")
    assert code_ == 0
    assert f"outputs/a is the teacher of {pupil}" in err


def test_jobs_that_slurm_still_has_are_not_deleted(outputs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (SWEEP / "slurm.json").write_text('{"1": "7"}')
    states = {"7": "RUNNING"}
    monkeypatch.setattr("mnist_ff.runs.slurm.states_of", lambda numbers: states)
    for path in (SWEEP, SWEEP / "1"):
        with pytest.raises(RunError, match="a Slurm cluster still has jobs"):
            trash.check_deletable(path)
    trash.check_deletable(SWEEP / "0")
    states["7"] = "COMPLETED"
    trash.check_deletable(SWEEP)


def test_links_and_other_folders_are_not_deleted(
    tmp_path: Path, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    write_run(home, CONFIG, 0.9)
    monkeypatch.setenv("HOME", str(home))
    OUTPUTS.mkdir()
    (OUTPUTS / "link").symlink_to(home)
    Path("conf").mkdir()
    (Path("conf") / "config.yaml").write_text("defaults: []")
    for word, said in (
        ("outputs/link", "is a symbolic link"),
        (str(home), "holds your home"),
        ("conf", "is not a run or sweep directory"),
        (".", "no config.yaml"),
        ("outputs", "no config.yaml"),
    ):
        with pytest.raises(BadRunError):
            trash.check_deletable(Path(word))
        code, _, err = mnist_ff("runs", "delete", word, "--yes")
        assert code == 2, word
        assert said in err or "holds your home" in err or "is not a run" in err
    code, _, err = mnist_ff("runs", "delete", "--status", "finished", "--yes")
    assert code == 0
    assert "is a symbolic link" in err
    assert (home / "config.yaml").exists()
    (OUTPUTS / ".trash").symlink_to(home)
    make("a")
    assert mnist_ff("runs", "delete", "outputs/a", "--yes")[0] == 2
    assert mnist_ff("runs", "delete", "--purge", "--yes")[0] == 2
    assert (home / "config.yaml").exists()
    assert (OUTPUTS / "a").exists()


def test_a_user_without_a_home_can_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user id has no name."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
    assert Run(trash.move_to_trash(make("a"))).config()


def test_purge_follows_no_link_and_records_restore_nowhere_else(tmp_path: Path, mnist_ff: Command) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    place = trash.move_to_trash(make("a")).parent
    (place / "run" / "out").symlink_to(keep)
    (OUTPUTS / ".trash" / "other").symlink_to(keep)
    (place / trash.RECORD).write_text(json.dumps({"path": "/nowhere/evil", "deleted": "2026"}))
    assert trash.restore(trash.find_deleted("evil")) == OUTPUTS / "evil"
    assert sorted(path.name for path in keep.iterdir()) == ["file"]
    trash.move_to_trash(OUTPUTS / "evil")
    assert trash.purge(trash.in_trash()) == ["other"]
    assert (keep / "file").exists()


def test_purge_leaves_what_delete_did_not_put_there(mnist_ff: Command) -> None:
    """Such as a run that was moved to the trash by hand, or deleted after the list was shown."""
    asked, later = (trash.move_to_trash(make(name)).parent for name in ("a", "b"))
    for name in ("by hand", "2026-01-01_00-00-00_0123abcd"):
        shutil.copytree(asked / trash.CONTENT, OUTPUTS / ".trash" / name)
    (OUTPUTS / ".trash" / "2026-01-01_00-00-00_00000000").mkdir()
    listed = [one for one in trash.in_trash() if one.folder == asked]
    left = sorted([later.name, "by hand", "2026-01-01_00-00-00_0123abcd"])
    assert trash.purge(listed) == left
    code, out, err = mnist_ff("runs", "delete", "--purge", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "removed for good: 1")
    assert "still holds 2026-01-01_00-00-00_0123abcd, by hand" in err
    assert Run(OUTPUTS / ".trash" / "by hand").config()
    code, _, err = mnist_ff("runs", "delete", "--purge")
    assert (code, len(err.splitlines())) == (0, 2)
    assert Run(OUTPUTS / ".trash" / "by hand").config()


def test_a_run_from_elsewhere_returns_by_the_path_that_delete_prints(
    tmp_path_factory: pytest.TempPathFactory, mnist_ff: Command
) -> None:
    """By its name alone it goes to outputs/, with a note, as a record can name any path."""
    for number, word in enumerate(("{path}", "far run")):
        path = tmp_path_factory.mktemp("elsewhere") / "far run"
        write_run(path, CONFIG, 0.9)
        code, out, err = mnist_ff("runs", "delete", str(path), os.path.relpath(path), "--yes")
        assert code == 0, err
        assert f"mnist-ff runs restore '{path}'" in out
        assert str(path) in mnist_ff("runs", "restore")[1]
        code, _, err = mnist_ff("runs", "restore", word.format(path=path))
        assert code == 0
        there = OUTPUTS / "far run" if number else path
        assert Run(there).summary()
        assert (f"{there} was {path}" in err) == bool(number)


def test_a_crash_between_record_and_move_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *words: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
        with pytest.raises(RunError, match=r"cannot be moved to outputs/\.trash"):
            trash.move_to_trash(path)
    assert Run(path).config()
    assert not list((OUTPUTS / ".trash").iterdir())
    assert trash.purge([]) == []


def test_tags_and_notes(outputs: None, mnist_ff: Command) -> None:
    assert mnist_ff("runs", "tag", "small", "outputs/c", "paper")[0] == 0
    assert mnist_ff("runs", "tag", "small", "best-lr")[0] == 0
    assert mnist_ff("runs", "tag", str(SWEEP), "paper")[0] == 0
    assert read_labels(OUTPUTS / "a") == Labels(("best-lr", "paper"))
    assert names_of(mnist_ff, "--tag", "paper") == ["sweeps", "c", "a"]
    assert names_of(mnist_ff, "--tag", "paper", "--tag", "best-lr") == ["a"]
    code, out, _ = mnist_ff("runs", "note", "small", "with the new data", "--json")
    assert json.loads(out) == {
        "runs": [{"path": "outputs/a", "tags": ["best-lr", "paper"], "note": "with the new data"}]
    }
    out = mnist_ff("runs")[1]
    assert "note  outputs/a: with the new data" in out
    assert "best-lr,paper" in out
    assert mnist_ff("runs", "untag", "small", "paper")[0] == 0
    assert mnist_ff("runs", "note", "small", "")[0] == 0
    assert read_labels(OUTPUTS / "a") == Labels(("best-lr",))
    assert code == 0


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"tags": [1]}', '{"tags": ["a b"]}', '{"note": "\\u001b[2J"}', '{"note": 3}', "x" * 70_000]
)
def test_invalid_labels_files_are_refused(text: str, mnist_ff: Command) -> None:
    path = make("a")
    (path / LABELS).write_text(text)
    assert labels_of(path) == Labels()
    with pytest.raises(BadRunError, match=r"labels\.json"):
        read_labels(path)
    assert mnist_ff("runs")[0] == 0
    assert mnist_ff("runs", "tag", "outputs/a", "x")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["runs.zip", "runs.tar.zst"])
def test_a_colleague_can_use_an_archive(name: str, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zstandard")
    here = Path.cwd()
    words = ["data=mnist_5k", "trainer.epochs=1", "model.hidden=[8]", "name=small", "hydra.run.dir=outputs/one"]
    assert mnist_ff("train", *words)[0] == 0
    make_sweep(SWEEP, list(product(seed=[0, 1])), lambda _: 0.9)
    assert mnist_ff("runs", "tag", "small", "paper")[0] == 0
    code, out, err = mnist_ff("runs", "archive", name, "small", "30a5", "--json")
    assert code == 0, err
    assert json.loads(out)["folders"] == ["one", SWEEP.name]
    assert json.loads(out)["warnings"] == []
    assert Path("outputs/one/hidden.safetensors").exists()
    assert mnist_ff("runs", "archive", name, "small")[0] == 2, "it never overwrites"
    there = Path("colleague").absolute()
    if name.endswith(".zip"):
        with zipfile.ZipFile(name) as packed:
            packed.extractall(there / "outputs")
    else:
        with archive._open_zstd(Path(name), "rb") as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
            tar.extractall(there / "outputs", filter="data")
    for path in there.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [one for one in (*private_paths(), str(here)) if one.encode() in content], path
            assert path.name not in (".lock", "train.log", "git.diff", "checkpoint.previous.pt")
    assert "places" not in (there / "outputs/one/environment.json").read_text()
    monkeypatch.chdir(there)
    for again in (
        ["evaluate", "small"],
        ["report", "one"],
        ["compare", "small", "30a5"],
        ["predict", "one", "--index", "0"],
    ):
        code, _, err = mnist_ff(*again)
        assert code == 0, (again, err)
    assert read_labels(Path("outputs/one")).tags == ("paper",)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.zst"])
@pytest.mark.parametrize("folder", [b"a\xff", b"..\\..\\a", b"a\nb", b"a\x1b[2J"])
def test_names_in_an_archive_are_safe(folder: bytes, name: str, mnist_ff: Command) -> None:
    pytest.importorskip("zstandard")
    make(os.fsdecode(folder))
    code, _, err = mnist_ff("runs", "archive", name, os.fsdecode(b"outputs/" + folder))
    assert (code, len(err.splitlines())) == (2, 1)
    assert "this name does not work on every system" in err
    assert not Path(name).exists()


def test_an_archive_is_whole_or_absent(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make("a")
    for broken in (lambda *words: {}, lambda *words: (_ for _ in ()).throw(OSError(28, "No space left on device"))):
        monkeypatch.setattr(archive, "_read_back", broken)
        assert mnist_ff("runs", "archive", "x.zip", "outputs/a")[0] == 1
        assert [path.name for path in Path().iterdir() if "zip" in path.name] == []
    full = OSError(28, "No space left on device", "outputs/a/model.safetensors", None, "/copy/model.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", lambda *words, **options: (_ for _ in ()).throw(full))
        code, _, err = mnist_ff("runs", "archive", "x.zip", "outputs/a")
        assert (code, "error: /copy/model.safetensors: No space left on device; make room in " in err) == (1, True)
    if sys.version_info < (3, 14):
        monkeypatch.setattr(archive, "_has_zstandard", lambda: False)
        code, _, err = mnist_ff("runs", "archive", "x.tar.zst", "outputs/a")
        assert code == 2
        assert "pip install 'mnist-ff[zstd]'" in err


def test_paths_in_texts_are_cut() -> None:
    assert clean_text("hydra.run.dir=/home/ada/x y /tmp/z.py 3 / 4 a/b https://host/x") == (
        "hydra.run.dir=x y z.py 3 / 4 a/b https://host/x"
    )
    words = ['data.mirrors=["https://ada:s3cr3t@host/x"]', "a@b", "x://k3y@h?y=1@2", "http://h/a@b"]
    assert cleaned(words) == ['data.mirrors=["https://host/x"]', "a@b", "x://h?y=1@2", "http://h/a@b"]
    assert cleaned({"places": "x", "a": ["/etc/passwd", 1, None]}) == {"a": ["passwd", 1, None]}


def test_the_last_of_several_words_is_the_tag(outputs: None, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("runs", "tag", "small", "nice", "paper")
    assert code == 2
    assert "nice: does not exist" in err
    assert "the last word, paper, is the tag" in err
    assert read_labels(OUTPUTS / "a") == Labels()


def test_jobs_that_fit_are_archived_alone(mnist_ff: Command) -> None:
    """Of two sweeps, whose jobs have the same numbers, and a whole sweep."""
    whole = SWEEP.with_name("2026-11-02_00-00-00_0000")
    for sweep in (SWEEP, SWEEP.with_name("2026-11-01_00-00-00_ffff"), whole):
        make_sweep(sweep, list(product(seed=[0, 1])), lambda _: 0.9)
        assert mnist_ff("runs", "tag", str(sweep if sweep == whole else sweep / "1"), "paper")[0] == 0
    code, out, err = mnist_ff("runs", "archive", "x.zip", "--tag", "paper", "--json")
    assert code == 0, err
    assert sorted(json.loads(out)["folders"]) == ["2026-11-01_00-00-00_ffff-1", whole.name, f"{SWEEP.name}-1"]
    assert f"{SWEEP}: 1 of its 2 jobs fit, only these are taken" in err
    with zipfile.ZipFile("x.zip") as packed:
        packed.extractall("colleague/outputs")
    listed = json.loads(mnist_ff("runs", "colleague/outputs", "--json")[1])
    assert sorted(one["kind"] for one in listed) == ["run", "run", "sweep"]
    assert mnist_ff("compare", f"colleague/outputs/{SWEEP.name}-1")[0] == 0


def test_an_empty_archive_is_not_written(outputs: None, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("runs", "archive", "x.zip", "--tag", "no-such-tag")
    assert code == 2
    assert "x.zip: not written, since no run fits" in err
    assert not Path("x.zip").exists()


def test_tags_written_at_the_same_time_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it writes leaves no file behind for good."""
    path, wrote = make("a"), labels.write_text
    (path / f".{labels.LABELS}.x.tmp").touch()

    def slowly(place: Path, text: str) -> None:
        time.sleep(0.05)
        wrote(place, text)

    monkeypatch.setattr(labels, "write_text", slowly)
    threads = [threading.Thread(target=labels.update_labels, args=[path, (f"t{number}",)]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labels.read_labels(path).tags == ("t0", "t1", "t2", "t3")
    assert not list(path.glob(".*.tmp"))


def test_old_directories_have_no_labels() -> None:
    assert labels_of(make("a")) == Labels() == replace(Labels())


def test_report_as_json(outputs: None, mnist_ff: Command) -> None:
    for word, place in (("small", OUTPUTS / "a"), ("swept", SWEEP)):
        code, out, err = mnist_ff("report", word, "--json")
        assert code == 0, err
        assert json.loads(out)["report"] == str(place / "report.html")
