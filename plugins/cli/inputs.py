"""What a person hands over: text that may come from a pipe, a strategy or the file it lies in, settings, plugins."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import LogitmillError, PluginError, UsageError

if TYPE_CHECKING:
    from ...core.strategy import Strategy
    from ...core.vocab import Vocab

#: what makes the argument of -s the name of a file, whether the file is there or not
STRATEGY_FILES = (".decode", ".yaml", ".yml", ".json", ".txt")
#: what no strategy's text begins with
PATH_STARTS = ("/", "./", "../", "~/")


def piped(what: str) -> str:
    """All of standard input, without the one line break at its end that echo and editors put there."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"no {what}: give it as an argument, or pipe it in")
    return unended(decoded(sys.stdin.buffer.read(), "standard input"))


def unended(text: str) -> str:
    """``text`` without one line break at its end."""
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def decoded(data: bytes, where: str) -> str:
    """UTF-8 bytes as text. Raises UsageError with the place of the first byte that is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise UsageError(
            f"{where} is not UTF-8 text: byte 0x{byte:02x} at offset {error.start}; convert it first (iconv -t utf-8)"
        ) from None


def prompt_of(argument: str | None) -> str:
    """The prompt: the argument, or standard input where it is absent or ``-``."""
    if argument is None or argument == "-":
        return piped("prompt")
    return spoken(argument, "the prompt")


def spoken(argument: str, what: str) -> str:
    """An argument that is text. Raises UsageError where the shell handed over bytes that are not."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not text in this locale's encoding ({sys.getfilesystemencoding()})") from None
    return argument


def names_file(argument: str) -> bool:
    """Whether the argument of -s is a file's name rather than a strategy's text."""
    if "\n" not in argument and (argument.lower().endswith(STRATEGY_FILES) or argument.startswith(PATH_STARTS)):
        return True
    try:
        return Path(argument).is_file() or ("/" in argument and Path(argument).exists())
    except (OSError, ValueError):  # too long for a name, or with a null byte in it
        return False


def strategy_of(argument: str) -> Strategy:
    """The strategy that -s names. Text is no trusted source: only a file may use the files beside it."""
    from ...core.strategy import Strategy

    if argument == "-":
        return Strategy.parse(piped("strategy"))
    if names_file(argument):
        return Strategy.load(argument)
    return Strategy.parse(spoken(argument, "the strategy"))


def vocabulary_of(model: str | None, revision: str | None) -> Vocab:
    """A model's tokenizer and the number of its logits, without its weights. Raises ModelError."""
    from ...core.model.load import load_vocabulary
    from ...core.model.spec import ModelSpec

    return load_vocabulary(ModelSpec(model=model, quantize=None, revision=revision))


def overrides_of(settings: Sequence[str]) -> dict[str, Any]:
    """``--set heat.value=0.3`` as {"heat.value": 0.3}. The last of two for one field counts."""
    from ...core.dsl.read import parse_value

    found: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        path = path.strip()
        if not equals or "." not in path or not value.strip():
            raise UsageError(f"--set {setting}: write name.field=value, as in --set temperature.value=0.7")
        found[path] = parse_value(value.strip())
    return found


def add_plugins(sources: Sequence[str]) -> None:
    """Register plugins the person named: a .py file or an importable module. Named here, so trusted."""
    if not sources:
        return
    from ...core.loader import plugins

    for source in sources:
        try:
            module = _file(Path(source)) if source.endswith(".py") else _module(source)
        except LogitmillError:
            raise
        except Exception as error:  # whatever the file raises: its author wants the reason, in one line
            raise UsageError(f"--plugin {source}: cannot be imported: {_reason(error)}") from error
        try:
            plugins().add(module, Path(source).stem if source.endswith(".py") else source)
        except PluginError as error:
            raise UsageError(f"--plugin {source}: {error}") from error


def _file(path: Path) -> Any:
    import importlib.util

    if not path.is_file():
        raise UsageError(f"--plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # pydantic looks annotations up in their module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> Any:
    import importlib

    sys.path.insert(0, "")  # a module beside the person, as with python -m
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove("")


def _reason(error: Exception) -> str:
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {error}".splitlines()[0] + line
