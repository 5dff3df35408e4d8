"""python -m mnist_ff, and the command mnist-ff."""

import _signal  # type: ignore[import-not-found]  # signal itself takes milliseconds to import, in which Ctrl-C would be a traceback

OURS = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
"""Whether Ctrl-C is to be heard: whoever started this may ignore it."""
if OURS and __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import sys  # noqa: E402


def main() -> int:
    """Run the words of the command line; Ctrl-C at the start and at the very end is no traceback."""
    if OURS:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    import signal

    from mnist_ff.runs.signals import end_at_once
    from mnist_ff.runs.start_up import begin

    begin()
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
