"""Measuring speed: logitmill alone, or in turn with another engine that is told the same.

``measure`` is the way in. A peer is a file in ``peers/`` that needs nothing but the standard library and the peer, so
that it can run in an interpreter of its own; ``launch`` starts it, ``sampling`` puts a strategy into its words,
``turns`` runs the sides one after another, ``table`` and ``chart`` show what came of it.
"""
