from __future__ import annotations

import pytest

from tightframe.runs.console import progress


def test_silent_unless_asked_for(capsys):
    with progress(3, "training", enabled=False) as meter:
        meter.advance()
        meter.advance(2, loss=0.5)
    assert capsys.readouterr() == ("", "")


def test_shows_count_and_status_on_the_error_stream_only(capsys):
    with progress(3, "[layer]", enabled=True) as meter:
        meter.advance(loss=0.123456, epoch=2)
        meter.advance(2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "[layer]" in err
    assert "3/3" in err
    assert "loss 0.1235  epoch 2" in err


def test_errors_pass_through_and_the_display_ends():
    with pytest.raises(RuntimeError, match="inside"), progress(1, "x", enabled=True):
        raise RuntimeError("inside")
    with progress(1, "again", enabled=True) as meter:
        meter.advance()
