"""Errors that teach: what must hold; what arrived; what to do."""

from __future__ import annotations


class TightframeError(Exception):
    """Base of every error this library raises on purpose.

    The message always has three parts: `expected` (what must hold), `got` (what arrived) and
    `remedy` (what to do).
    """

    def __init__(self, expected: str, *, got: str, remedy: str) -> None:
        self.expected, self.got, self.remedy = expected, got, remedy
        super().__init__(f"{expected}; got {got}. {remedy}")

    def __reduce__(self):
        return _rebuild, (type(self), self.expected, self.got, self.remedy)


class InputError(TightframeError, ValueError):
    """An argument, a batch or a file does not fit what the function needs."""


class DegenerateError(TightframeError, ArithmeticError):
    """The quantity asked for is undefined on this data (for example coinciding class means)."""


class AmbiguityError(InputError):
    """Several candidates fit where one must be chosen; the message lists them."""


class UnsafeFileError(InputError):
    """A file could only be read by executing code it contains (a pickle), so it is refused."""


class MissingDependencyError(TightframeError, ImportError):
    """An optional package is needed; the message says which extra installs it."""


def _rebuild(kind: type[TightframeError], expected: str, got: str, remedy: str) -> TightframeError:
    return kind(expected, got=got, remedy=remedy)
