"""The extension kit, for authors' tests: stages run by hand, a tiny model, the laws, and pytest fixtures.

``logitmill.testing`` is its face. Nothing is imported here: pytest loads the fixtures of this package at its start.
"""
