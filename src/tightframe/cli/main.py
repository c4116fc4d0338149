"""The door: arguments in, one command out, errors in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tightframe.core.errors import TightframeError

_DESCRIPTION = """Measure, explain and exploit low-dimensional structure in learned representations.

`tightframe COMMAND --help` explains the options of a command, which may also come from a TOML file: --config FILE.
`tightframe --version` says which release this is."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 and one message on stderr where the input does not fit."""
    import tyro

    from tightframe.cli.config import with_config
    from tightframe.cli.options import COMMANDS

    options = None
    try:
        flags = with_config(sys.argv[1:] if arguments is None else arguments)
        if flags == ["--version"]:
            from importlib.metadata import version

            sys.stdout.write(f"tightframe {version('tightframe')}\n")
            return
        options = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="tightframe", description=_DESCRIPTION, args=flags
        )
        from tightframe.cli.commands import execute

        execute(options)
        # A pipe whose reader has gone shows itself when it is written to, which may be only now.
        sys.stdout.flush()
    except TightframeError as error:
        sys.stderr.write(f"tightframe: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        advice = "; go on with --resume" if hasattr(options, "resume") else ""
        sys.stderr.write(f"tightframe: interrupted{advice}\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of a pipe has seen enough; keep the interpreter from complaining while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
