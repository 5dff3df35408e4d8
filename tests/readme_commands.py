"""Run the documents' commands as a new user would: copied into a shell, with the installed mnist-ff.

    python tests/readme_commands.py        # from an empty folder

<run> stands for the newest run so far. my_parts.py is what the documents' Python blocks of that name hold.
Fashion-MNIST comes from Debian's package where that is installed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("README.md", "conf/README.md", "mnist_ff/README.md", "tests/README.md", ".readme/RESULTS.md")
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


def commands() -> list[str]:
    """The lines of the documents' bash blocks that call mnist-ff or make data for it, without their comments."""
    blocks = [block for text in DOCUMENTS.values() for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S)]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("mnist-ff", "python -c "))]


def parts_file() -> str:
    """The documents' my_parts.py: all Python blocks that begin with its name."""
    blocks = [block for text in DOCUMENTS.values() for block in re.findall(r"```python\n(.*?)```", text, flags=re.S)]
    return "\n\n".join(block for block in blocks if block.startswith("# my_parts.py"))


def newest_run() -> Path:
    """The run directory that was made last."""
    runs = [path for path in Path("outputs").iterdir() if (path / "summary.json").is_file()]
    return max(runs, key=lambda path: (path / "summary.json").stat().st_mtime)


def main() -> int:
    """Run all; the exit code is 1 if one of them failed."""
    failed = []
    Path("my_parts.py").write_text(parts_file(), encoding="utf-8")
    for command in commands():
        typed = command.replace("outputs/<run>", shlex.quote(str(newest_run()))) if "<run>" in command else command
        if "data=fashion_mnist" in typed and DEBIAN_FASHION.is_dir():
            typed += f" 'data.mirrors=[{DEBIAN_FASHION}]'"
        began = time.monotonic()
        done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        print(f"{'ok' if done.returncode == 0 else 'FAILED':<7}{time.monotonic() - began:6.1f} s  {typed}", flush=True)
        if done.returncode:
            failed.append(typed)
            print(done.stderr[-2000:], flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
