"""What holds for the fields of every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import logitmill as lm
from logitmill.plugins.convert.conversion import ConversionError


@pytest.fixture
def every_field() -> Callable[[Any, Mapping[str, Any], Mapping[str, Any]], None]:
    """``every_field(module, each, cannot)``: there is a value for each field that is carried, and that is not."""

    def check(engine: Any, each: Mapping[str, Any], cannot: Mapping[str, Any]) -> None:
        assert set(each) == {name for name, field in engine.FIELDS.items() if field.fate == "carried"}
        assert set(cannot) == {name for name, field in engine.FIELDS.items() if field.fate == "not carried"}

    return check


@pytest.fixture
def left_out() -> Callable[[str, Mapping[str, Any], str, str], None]:
    """``left_out(engine, document, field, text)``: the field is an error, and with lossy a line beside the strategy
    ``text``.
    """

    def check(engine: str, document: Mapping[str, Any], field: str, text: str) -> None:
        with pytest.raises(ConversionError, match=f"{field}=") as caught:
            lm.convert_from(engine, document)
        read = lm.convert_from(engine, document, lossy=True)
        assert [item.field for item in read.left_out] == [item.field for item in caught.value.left_out] == [field]
        assert read.strategy.to_text() == text

    return check
