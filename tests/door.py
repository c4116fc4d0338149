"""Going through the command line inside a test: what it prints, and how it refuses."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from tightframe.cli.main import main
from tightframe.core.errors import InputError


def printed(capsys, *arguments):
    """The JSON that `tightframe measure` prints."""
    capsys.readouterr()
    main(["measure", *map(str, arguments), "--format", "json"])
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    """The message about arguments that must be refused: status 2, nothing on stdout, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert "Traceback" not in err
    return err


@contextmanager
def perhaps_refused(*names):
    """What is inside may end by an error of ours that bears one of the names."""
    try:
        yield
    except InputError as error:
        if not any(name in str(error) for name in names):
            pytest.fail(f"an error that does not name the file: {error}")
