"""check for editors, and against a model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_places_for_editors(logitmill: Any) -> None:
    """Lines and columns from 1, an end just behind the last character, also over several lines."""
    text = "repetition(0.9)\n| when entropy\n    < 0 { top_k(5) }\n| sample until max_tokens(9)"
    result = json.loads(logitmill("check", text, "--json").stdout)
    assert [w["code"] for w in result["warnings"]] == ["wrong-sign", "constant-test"]
    keys = {"severity", "code", "message", "hint", "line", "column", "end_line", "end_column", "path", "file"}
    for warning, place in zip(result["warnings"], [(1, 12, 1, 15), (2, 8, 3, 8)], strict=True):
        assert warning.keys() == keys
        assert (warning["severity"], warning["path"], warning["file"]) == ("warning", None, None)
        assert tuple(warning[k] for k in ("line", "column", "end_line", "end_column")) == place


def test_an_error_for_editors(logitmill: Any, tmp_path: Path) -> None:
    result = logitmill("check", "temperature(0.5) |\n topp(0.9)", "--json")
    error = json.loads(result.stdout)["error"]
    assert (error["severity"], error["line"], error["column"]) == ("error", 2, 2)
    assert (error["end_line"], error["end_column"]) == (2, 6)
    file = tmp_path / "s.yaml"
    file.write_text("dsl: 1\nmain:\n  pipeline:\n  - repetition: 0.9\n  - sample\n  until: max_tokens(9)\n")
    (warning,) = json.loads(logitmill("check", str(file), "--json").stdout)["warnings"]
    assert (warning["path"], warning["line"], warning["end_line"]) == ("main.pipeline[0].repetition", None, None)
    assert Path(warning["file"]).name == "s.yaml"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, bench: Any) -> Path:
    """A model's folder without its weights, which check does not read."""
    made = tmp_path_factory.mktemp("model")
    bench.tokenizer().save_pretrained(made)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300}
    (made / "config.json").write_text(json.dumps(config))
    return made


def test_against_a_tokenizer(logitmill: Any, folder: Path) -> None:
    text = r'allow(r"[0-9]") | sample until stop("the") or max_tokens(9)'
    assert logitmill("check", text).stdout == "ok\n"
    result = logitmill("check", text, "--model", str(folder))
    assert (result.exit_code, result.stdout) == (0, "ok, with 1 warning\n")
    assert "no tokens that may come make it [unreachable-stop]" in result.stderr
    lost = logitmill("check", text, "--model", str(folder / "nowhere"))
    assert lost.exit_code != 0
    assert "Traceback" not in lost.stderr
