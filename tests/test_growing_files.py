"""Files that grow while others may touch them: nothing that was written is lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_ff import files
from mnist_ff.files import GrowingFile
from tests.support.commands import Command
from tests.support.training import patched


def cut(path: Path) -> None:
    os.truncate(path, 3)


def empty(path: Path) -> None:
    path.write_text("")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def add(path: Path) -> None:
    with path.open("a") as file:
        file.write("99,99\n")


def change(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (1, 1))


def link(path: Path) -> None:
    path.rename(path.with_name("precious"))
    path.symlink_to("precious")


HARMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "was cut"),
    "emptied": (empty, "was cut"),
    "removed": (Path.unlink, "was removed"),
    "replaced": (replace, "was replaced"),
    "added to": (add, "was added to"),
    "changed": (change, "was changed"),
    "a link": (link, "was replaced"),
}


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize(("harm", "said"), HARMS.values(), ids=HARMS.keys())
def test_what_was_written_is_written_again(
    harm: Callable[[Path], None], said: str, closed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    file = GrowingFile(path, new=True)
    file.write("step\n0\n")
    assert file.secure() is None
    harm(path)
    if closed:
        file.close()
    else:
        file.write("1\n")
    whole = "step\n0\n" if closed else "step\n0\n1\n"
    found = file.secure()
    assert found is not None
    assert said in found
    assert (path.read_text(), path.is_symlink()) == (whole, False)
    assert file.secure() is None
    file.close()


def test_growing_file_appends_and_follows_no_link(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("step\n0\n")
    file = GrowingFile(path, new=False)
    path.write_text("")
    file.write("1\n")
    assert file.secure() is not None
    assert path.read_text() == "step\n0\n1\n"
    file.close()
    (tmp_path / "link").symlink_to(path)
    for new in (True, False):
        with pytest.raises(OSError, match="link"):
            GrowingFile(tmp_path / "link", new)


def test_too_long_growing_file_reports_its_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_REMEMBERED_BYTES", 5)
    file = GrowingFile(tmp_path / "rows.csv", new=True)
    file.write("step\n0\n")
    assert file.secure() is None
    empty(tmp_path / "rows.csv")
    with pytest.raises(OSError, match="was cut by another program"):
        file.secure()
    file.close()


@pytest.mark.parametrize(
    "harm",
    ["os.truncate('run/batches.csv', 20)", pytest.param("os.unlink('run/epochs.csv')", marks=pytest.mark.slow)],
)
def test_files_harmed_in_training_are_restored(harm: str, mnist_ff: Command) -> None:
    body = f"calls.append(given)\nif len(calls) == 3:\n    {harm}\n    os.unlink('run/train.log')\nreturn real(*given)"
    done = patched("learner.score", body, "trainer.epochs=3", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "by another program; all its rows were rewritten" in done.stdout
    assert "total" in Path("run/train.log").read_text()
    assert (
        mnist_ff(
            "train",
            "data=mnist_5k",
            "model.hidden=[16]",
            "trainer.epochs=3",
            "trainer.plots=false",
            "hydra.run.dir=whole",
        )[0]
        == 0
    )
    assert Path("run/batches.csv").read_bytes() == Path("whole/batches.csv").read_bytes()
    assert mnist_ff("train", "resume=run", "trainer.epochs=4")[0] == 0
    assert Path("run/epochs.csv").read_text().count("\n") == 5


def test_what_killed_downloads_left_is_removed(tmp_path: Path) -> None:
    from mnist_ff.data import catalog, fetch

    gone = [".kmnist.abcd_123", ".kmnist.abcd1234.staging"]
    kept = [".mnist.abcdefgh", ".kmnist.mine", ".kmnist.backup-1"]
    for name in gone + kept:
        (tmp_path / name / "raw").mkdir(parents=True)
        (tmp_path / name / "raw" / "x.gz").write_text("half")
    (tmp_path / ".kmnist.safetensors.abcdefgh.tmp").write_text("half")
    (tmp_path / ".kmnist.abcdefgz").symlink_to(tmp_path / ".mnist.abcdefgh")
    fetch._sweep(catalog.data_set("kmnist"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".kmnist.abcdefgz"])
    assert (tmp_path / ".mnist.abcdefgh" / "raw" / "x.gz").exists()


@pytest.mark.parametrize("harm", [cut, empty, replace, add, change])
def test_a_rewritten_file_grows_on_and_is_restored(harm: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    file = GrowingFile(path, new=True)
    file.write("epoch\n0\n")
    file.rewrite(lambda text: text.replace("epoch", "epoch,own").replace("0\n", "0,\n"))
    assert path.read_text() == "epoch,own\n0,\n"
    file.write("1,0.5\n")
    file.flush()
    assert path.read_text() == "epoch,own\n0,\n1,0.5\n"
    assert file.secure() is None
    harm(path)
    assert file.secure() is not None
    file.close()
    assert path.read_text() == "epoch,own\n0,\n1,0.5\n"


def test_a_rewriting_that_fails_leaves_the_old_file_and_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epochs.csv"
    file = GrowingFile(path, new=True)
    file.write("epoch\n")
    file.flush()

    def full(place: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(place))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            file.rewrite(lambda text: text.replace("epoch", "epoch,own"))
    assert path.read_text() == "epoch\n"
    assert file.secure() is not None
    assert path.read_text() == "epoch,own\n"
    file.close()


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002], ids=oct)
def test_files_have_the_rights_that_the_umask_leaves(mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_text(Path("whole"), "text")
        files.write_bytes(Path("whole"), b"again")
        GrowingFile(Path("growing"), new=True).close()
    finally:
        os.umask(before)
    assert [Path(name).stat().st_mode & 0o777 for name in ("whole", "growing")] == [0o666 & ~mask] * 2


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "full"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")
    for write in (files.write_text, lambda path, text: files.write_bytes(path, text.encode())):
        with pytest.raises(OSError, match="is a device"):
            write(device, "text")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
