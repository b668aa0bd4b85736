"""What doctor says about packages and plugins."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from .doctor import Finding
from .plugins import account

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def look() -> Iterator[Finding]:
    """Each package that logitmill needs: its version against the range asked for."""
    from packaging.requirements import Requirement

    try:
        yield Finding("logitmill", "ok", version("logitmill"))
        wanted = [Requirement(text) for text in requires("logitmill") or ()]
    except PackageNotFoundError:
        yield Finding(
            "logitmill",
            "fault",
            "not installed, so its entry points are not found",
            "pip install logitmill (-e . in a checkout)",
        )
        return
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement)


def _package(requirement: Requirement) -> Finding:
    name, wanted = requirement.name, str(requirement.specifier)
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "fault", f"not installed, {wanted} is needed", f"pip install '{name}{wanted}'")
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(name, "fault", f"{found}, but {wanted} is needed", f"pip install '{name}{wanted}'")
    return Finding(name, "ok", f"{found} ({wanted})")


def plugins() -> Iterator[Finding]:
    """Each plugin, imported with all of its stages."""
    for item in account(check=True):
        subject = f"plugin {item['name']}"
        if item["error"]:
            remedy = "LOGITMILL_DEBUG=1 logitmill plugins --check shows where" if item["builtin"] else _remedy(item)
            yield Finding(subject, "fault", item["error"], remedy)
        elif item["status"] == "not allowed":
            yield Finding(
                subject,
                "note",
                f"{item['distribution']} {item['version']}: not allowed by LOGITMILL_PLUGINS",
                "add its name there",
            )
        else:
            yield Finding(subject, "ok", f"{item['distribution']} {item['version']}, {item['origin']}")


def _remedy(item: dict[str, object]) -> str:
    who = item["distribution"] or "the package that brings it"
    return f"upgrade or uninstall {who}; LOGITMILL_PLUGINS=... leaves it out until then"
