"""A stage's docstring in its parts."""

from __future__ import annotations

import pytest

from logitmill.plugins.cli.docstrings import differences, parts

DOC = """Keep the k best.

k = 0 is off.
Ties go to the lower id.

Source: A. Author,
arXiv 1.2.
Dialects: hf keeps ties; vllm
refuses 0. llama.cpp does as the default.

    k = 1, 2

A last word.
"""


def test_the_parts_of_a_docstring() -> None:
    told = parts(DOC.rstrip())
    assert told.summary == "Keep the k best."
    assert told.details == ("k = 0 is off.\nTies go to the lower id.", "    k = 1, 2", "A last word.")
    assert told.source == "A. Author, arXiv 1.2."
    assert told.dialects == "hf keeps ties; vllm refuses 0. llama.cpp does as the default."


def test_a_docstring_of_one_line_and_none() -> None:
    assert parts("One line.") == parts("One line.\n")
    assert (parts("One line.").summary, parts("One line.").details, parts("").summary) == ("One line.", (), "")


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("hf keeps ties; vllm refuses 0.", {"hf": "keeps ties", "vllm": "refuses 0"}),
        ("hf and vllm keep ties", {"hf": "keep ties", "vllm": "keep ties"}),
        ("hf: keeps ties; vllm: refuses 0", {"hf": "keeps ties", "vllm": "refuses 0"}),
        ("hf: transformers' own lists", {"hf": "transformers' own lists"}),
        ("hf keeps ties. It is slow. vllm is not.", {"hf": "keeps ties. It is slow", "vllm": "is not"}),
        ("hf keeps (one; vllm drops) ties", {"hf": "keeps (one; vllm drops) ties"}),
        ("hf keeps ties; llama.cpp's is the default", {"own": "llama.cpp's is the default", "hf": "keeps ties"}),
        ("transformers' is the default; vllm refuses 0", {"own": "transformers' is the default", "vllm": "refuses 0"}),
        ("hf sums as vllm does", {"hf": "sums as vllm does"}),
        ("", {}),
    ],
)
def test_what_each_dialect_does_differently(told: str, found: dict[str, str]) -> None:
    assert differences(told, ["own", "hf", "vllm"], "own") == found
