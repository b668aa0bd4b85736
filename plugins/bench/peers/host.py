"""One peer in an interpreter of its own: JSON lines in, JSON lines out, so that two engines can be measured in turn.

    PYTHON host.py NAME        NAME.py lies beside this file

Whoever runs it need not have logitmill: this file and the peers' import the standard library and the peer, no more.
A line {"do": "find"} asks whether the peer is installed, {"do": "open", ...} loads the model, {"do": "generate", ...}
generates; each is answered by {"ok": ...} or {"error": "..."}. The seconds are taken here, so that the pipe is not in
them. What the peer prints goes to stderr.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load_peer(name: str) -> Any:
    """The file of a peer, as a module under a name of its own: there is a vllm elsewhere."""
    spec = importlib.util.spec_from_file_location(f"bench_peer_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Host:
    """Answers one request after another."""

    def __init__(self, name: str) -> None:
        self.module = load_peer(name)
        self.peer: Any = None

    def answer(self, request: dict[str, Any]) -> Any:
        do = request.pop("do")
        if do == "find":
            return importlib.util.find_spec(self.module.NEEDS) is not None
        if do == "open":
            self.peer = None  # two models at a time may be more than there is room for
            self.peer = self.module.Peer(**request)
            return self.peer.facts
        assert do == "generate", f"nothing is called {do!r}"
        begin = time.perf_counter()
        tokens, texts = self.peer.generate(**request)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "tokens": tokens, "texts": texts}


def main() -> None:
    """Answer line by line until there are no more."""
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != HERE]  # else vllm is the file here
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print, from C++ too: the way to whoever asks is kept clear of that
    sys.stdout = sys.stderr
    host = Host(sys.argv[1])
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"ok": host.answer(json.loads(line))}
        except Exception as error:  # whatever fails is told to whoever asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
