"""TOML files as flags: what is in the file is checked by the same parser as what is typed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tightframe.core.errors import InputError, reason

# Python writes out no longer integers, and no option takes one.
_LONGEST = 4096


def with_config(arguments: Sequence[str]) -> list[str]:
    """Replace `--config FILE` by the flags that the TOML file stands for; flags typed beside it win.

    A key `weight_decay = 5e-4` becomes `--weight-decay 0.0005`, a list several values, true and false the flag and its
    negation. A table with the name of a command holds options of that command only; they win over those above it.

    Raises:
        InputError: The file is missing or is not TOML, or has values no flag can carry.
    """
    # `--config=FILE` is `--config FILE`, as for every other option.
    arguments = [part for given in arguments for part in _apart(given)]
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    rest = arguments[:at] + arguments[at + 2 :]
    if at + 1 >= len(arguments) or "--config" in rest:
        got = "nothing" if at + 1 >= len(arguments) else "several"
        raise InputError("one TOML file after --config", got=got, remedy="Write --config FILE.toml.")
    path, command = Path(arguments[at + 1]), rest[:1]
    options = _read(path)
    if command and isinstance(options.get(command[0]), dict):
        shared = {key: value for key, value in options.items() if not isinstance(value, dict)}
        options = shared | options[command[0]]
    return [*command, *_flags(options, path), *rest[1:]]


def _apart(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "a readable TOML file for --config",
            got=f"{path}: {reason(error)}",
            remedy="Write lines such as `epochs = 200`.",
        ) from error


def _is_word(value: Any) -> bool:
    return isinstance(value, float | str) or (isinstance(value, int) and value.bit_length() <= _LONGEST)


def _flags(options: Mapping[str, Any], path: Path) -> list[str]:
    flags: list[str] = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        elif _is_word(value):
            flags += [f"--{name}", str(value)]
        elif isinstance(value, list) and all(map(_is_word, value)):
            flags += [f"--{name}", *map(str, value)]
        else:
            raise InputError(
                "numbers, strings, booleans and lists in a TOML file",
                got=f"{key} = {value!r} in {path}",
                remedy="Put options of one command at the top, or in a table with the command's name.",
            )
    return flags
