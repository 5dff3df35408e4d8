"""`mnist-ff runs` in a real terminal: its question, and its output at every width."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pexpect
import pytest

from mnist_ff.runs.find import OUTPUTS
from mnist_ff.session.resume import changed
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

SWEEP = OUTPUTS / "sweeps" / "2026-11-24_21-03-02_30a5"
RUN = OUTPUTS / "2026-11-24_21-02-24_c5a6"


@pytest.mark.slow
def test_list_delete_and_restore_in_a_terminal(tmp_path: Path) -> None:
    """One process runs all commands, as a shell would start them."""
    write_run(RUN, changed(make_config("data=mnist_5k"), {"name": "two words"}), 0.9847)
    make_sweep(SWEEP, list(product(seed=[0, 1, 2])), lambda _: 0.95, "name=seeds")
    script = tmp_path / "session.py"
    script.write_text(
        "import os\nfrom mnist_ff.cli import main\n"
        "for width in (120, 80, 60, 40):\n"
        "    os.environ['COLUMNS'] = str(width)\n    print('width', width)\n    assert main(['runs']) == 0\n"
        "for answer in 'ny':\n    assert main(['runs', 'delete', 'two words']) == 0\n"
        "assert main(['runs', 'restore', 'c5a6']) == 0\nprint('the end')\n"
    )
    child = pexpect.spawn(sys.executable, [str(script)], encoding="utf-8", timeout=120, dimensions=(50, 120))
    child.expect("y/N")
    screens = re.sub(r"[^\n]*\x1b\[K|\x1b\[[0-9;]*m", "", child.before or "").replace("\r", "").split("width ")[1:]
    assert len(screens) == 4
    for screen in screens:
        width, *lines = screen.split("\n")
        for word in ("98.47", "95.00", "finished", "3 jobs: 3 finished", "two words", "seeds", str(RUN), str(SWEEP)):
            assert any(word in line for line in lines), (width, word)
        table = [line for line in lines[:8] if line and not line.startswith("Without")]
        if width != "40":
            assert all(len(line) <= int(width) for line in table), (width, table)
    child.sendline("n")
    child.expect("Nothing was deleted")
    child.expect("y/N")
    child.sendline("y")
    child.expect("moved to outputs/.trash: 1 run")
    child.expect("the end")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (RUN / "config.yaml").exists()
