"""Decoding settings of other engines to strategies, and back.

``conversion`` is the way in, ``peers`` says who there is. A peer's document is read field by field. Each field is
carried over, is known to have no effect on decoding, or cannot be carried: then there is an error that names it, or,
where the conversion is lossy, an entry in a list.
"""
