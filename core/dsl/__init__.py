"""The strategy language: grammar, parser, checker, canonical form."""
