"""Errors that teach: what must hold; what arrived; what to do."""

from __future__ import annotations

from typing import Any

# A part of a message that quotes a damaged file may be as long as the file.
_LONGEST = 1_500


class TightframeError(Exception):
    """Base of every error this library raises on purpose.

    The message always has three parts: `expected` (what must hold), `got` (what arrived) and
    `remedy` (what to do). What is very long is cut.
    """

    expected: str
    got: str
    remedy: str

    def __init__(self, expected: str, *, got: str, remedy: str) -> None:
        self.expected, self.got, self.remedy = map(_cut, (expected, got, remedy))
        super().__init__(f"{self.expected}; got {self.got}. {self.remedy}")

    def about(self, name: str) -> TightframeError:
        """The same error, saying in which file it arrived."""
        if name in str(self):
            return self
        return type(self)(self.expected, got=f"{_cut(self.got, _LONGEST // 2)}, in {name}", remedy=self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
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


def missing_package(what: str, extra: str, error: Exception) -> MissingDependencyError:
    """The error of a package that cannot be imported, with the extra of this library that installs it.

    >>> missing_package("the package `timm`", "vision", ImportError("No module named 'timm'")).remedy
    "Install with: pip install 'tightframe[vision]'."
    """
    return MissingDependencyError(what, got=reason(error), remedy=f"Install with: pip install 'tightframe[{extra}]'.")


def reason(error: BaseException) -> str:
    r"""What an error of another library says, in one line; its kind where it says nothing.

    >>> reason(ValueError("bad header\nat byte 3")), reason(RecursionError())
    ('bad header', 'RecursionError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _cut(text: str, most: int = _LONGEST) -> str:
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most} characters more)"


def _rebuild(kind: type[TightframeError], expected: str, got: str, remedy: str) -> TightframeError:
    return kind(expected, got=got, remedy=remedy)
