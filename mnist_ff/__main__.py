"""python -m mnist_ff, and the command mnist-ff."""

import signal
import sys

OURS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""Whether Ctrl-C is to be heard: whoever started this may ignore it."""


def main() -> int:
    """Run the words of the command line; Ctrl-C at the start and at the very end is no traceback."""
    if OURS:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mnist_ff.interrupts import end_at_once

    if OURS:
        signal.signal(signal.SIGINT, end_at_once)
    from mnist_ff.cli import main as run

    try:
        if OURS:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        end_at_once(signal.SIGINT, None)
        raise
    finally:
        if OURS:
            signal.signal(signal.SIGINT, end_at_once)


if __name__ == "__main__":
    sys.exit(main())
