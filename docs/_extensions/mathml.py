"""Formulas as MathML, which browsers draw themselves: pages need neither a script nor a network."""

from __future__ import annotations

import re
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_LOG = logging.getLogger(__name__)
# What the converter of docutils does not know, in words that it does.
_SPELLINGS = (
    # An accented letter with an index, which would else stand below the letter as under a sum.
    (
        re.compile(
            r"(\\(?:wide)?(?:tilde|hat|bar|check|vec|dot|ddot)\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|\w))(?=\s*[_^])"
        ),
        r"{{}\1}",
    ),
    # Brackets of a given size, on the side they stand; bars keep theirs, as the converter has no others.
    (re.compile(r"\\(big|Big|bigg|Bigg)l?(?=\s*(?:[(\[]|\\\{|\\langle))"), r"\\\1l"),
    (re.compile(r"\\(big|Big|bigg|Bigg)r?(?=\s*(?:[)\]]|\\\}|\\rangle))"), r"\\\1r"),
    (re.compile(r"\\(?:big|Big|bigg|Bigg)[lrm]?(?=\s*(?:\\?\||/))"), ""),
    # Two digits are numerator and denominator, not a number.
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\dots(?![A-Za-z])"), r"\\ldots"),
    (re.compile(r"\\(?:coloneqq|triangleq)(?![A-Za-z])"), ":="),
    (re.compile(r"\\(?:argmin|argmax)(?![A-Za-z])"), lambda found: rf"\operatorname{{{found[0][1:]}}}"),
    (re.compile(r"\\operatorname\*"), r"\\operatorname"),
    (re.compile(r"\\mathop(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:text|display)style(?![A-Za-z])\s*"), ""),
    (re.compile(r"\\(?:label|tag)\{[^}]*\}"), ""),
)


def converted(formula: str, *, block: bool) -> str:
    """MathML of a TeX formula."""
    for pattern, replacement in _SPELLINGS:
        formula = pattern.sub(replacement, formula)
    return tex2mathml(formula, as_block=block)


def _written(translator: Any, node: Any, *, block: bool) -> str:
    try:
        return converted(node.astext(), block=block)
    except MathError as error:
        _LOG.warning("formula not understood: %s (%s)", node.astext(), error, location=node)
        return f"<code>{translator.encode(node.astext())}</code>"


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(_written(translator, node, block=False))
    raise SkipNode


def _displayed(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="formula">{_written(translator, node, block=True)}</div>\n')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
