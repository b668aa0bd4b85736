"""The package as logitmill sees it: found by its entry point, nothing imported before it is named."""

from __future__ import annotations

import subprocess
import sys

import logitmill as lm


def test_everything_is_registered():
    assert lm.acme.quadratic(0.3).factor == 0.3
    assert lm.acme.steady().target == 2.0
    assert lm.acme.sentences(2).n == 2
    assert "acme.top_mass" in str(lm.when(lm.signals.acme.top_mass(3) > 0.5, lm.acme.quadratic(0.2)) | lm.greedy())


def test_a_strategy_of_all_survives_its_spellings():
    text = "when acme.top_mass(3) < 0.9 { acme.quadratic(0.1) } | acme.steady(2.5) until acme.sentences(2) or eos"
    strategy = lm.Strategy.parse(text)
    assert lm.Strategy.from_dict(strategy.to_dict()) == strategy
    assert lm.Strategy.parse(strategy.to_text()) == strategy


def test_registering_imports_no_stage():
    code = (
        "import sys; from logitmill.core.loader import registry;"
        "assert 'acme.steady' in registry().entries;"
        "assert 'acme_samplers' in sys.modules;"
        "assert 'acme_samplers.steady' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
