"""logitmill's laws, held by every stage of the package at the values that matter to it."""

from __future__ import annotations

from acme_samplers.quadratic import Quadratic
from acme_samplers.sentences import Sentences
from acme_samplers.steady import Steady
from acme_samplers.top_mass import TopMass

from logitmill.testing import assert_laws


def test_quadratic():
    assert_laws(Quadratic, factor=[0.01, 0.2, 3.0])


def test_steady():
    assert_laws(Steady, target=[0.0, 2.0, 100.0], rate=[0.0, 0.1])


def test_sentences():
    assert_laws(Sentences, n=[1, 3])


def test_top_mass():
    assert_laws(TopMass, k=[1, 10, 4000])
