"""Run examples and write their pages: `python -m examples [NAMES] [--out docs/gallery]`."""

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from examples import SECTIONS

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "gallery"
LONGEST = 300  # seconds an example may take


class Example(NamedTuple):
    """One script: its name, the heading and the text of its page, and the line where its code begins."""

    name: str
    title: str
    text: str
    begins: int

    @property
    def script(self) -> Path:
        return HERE / f"{self.name}.py"


def read(name: str) -> Example:
    """The example of this name; its docstring is the heading, an empty line, and the text."""
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    title, _, text = ast.get_docstring(tree).partition("\n\n")
    return Example(name, title.removesuffix("."), text, tree.body[1].lineno)


def run(example: Example, folder: Path) -> str:
    """Run the script in a folder, as a user would, and return what it printed.

    Raises:
        RuntimeError: It failed, or left no picture of its name.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(example.script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST)
    if done.returncode or not (folder / f"{example.name}.png").exists():
        raise RuntimeError(f"{example.name} failed or left no {example.name}.png:\n{done.stdout}{done.stderr}")
    return done.stdout


def packed(picture: Path) -> bytes:
    """The same pixels in a smaller file: charts are saved all but uncompressed."""
    buffer = io.BytesIO()
    Image.open(picture).convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def page(example: Example, printed: str) -> str:
    """The page of an example: heading, text, picture, code and what it printed."""
    parts = [
        f"# {example.title}",
        example.text,
        f"![{example.title}]({example.name}.png)",
        f"```{{literalinclude}} ../../examples/{example.name}.py\n:language: python\n:lines: {example.begins}-\n```",
    ]
    if printed.strip():
        parts.append(f"It prints:\n\n```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """The page that shows all pictures, section by section."""
    parts = ["# Gallery", "Every picture below is made by the script on its page, with the library alone."]
    for section, names in SECTIONS.items():
        cards = [
            f":::{{grid-item-card}} {read(name).title}\n:link: {name}\n:link-type: doc\n:img-top: {name}.png\n:::"
            for name in names
        ]
        parts.append(f"## {section}\n\n::::{{grid}} 1 2 3 3\n:gutter: 2\n\n" + "\n\n".join(cards) + "\n::::")
    names = "\n".join(name for listed in SECTIONS.values() for name in listed)
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run the examples that are named, or all, and write their pages and the index."""
    every = [name for listed in SECTIONS.values() for name in listed]
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}; all by default")
    parser.add_argument("--out", type=Path, default=PAGES, help="folder of the pages")
    options = parser.parse_args()
    if unknown := set(options.names) - set(every):
        parser.error(f"no example called {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or every:
        example = read(name)
        with tempfile.TemporaryDirectory() as folder:
            printed = run(example, Path(folder))
            picture = packed(Path(folder) / f"{name}.png")
        (options.out / f"{name}.png").write_bytes(picture)
        (options.out / f"{name}.md").write_text(page(example, printed), encoding="utf-8")
        sys.stdout.write(f"{name}\n")
    (options.out / "index.md").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
