"""llama.cpp's command line: which options there are, and which of them say how a token is drawn.

Written against common/arg.cpp as llama-cpp-python 0.3.36 has it. Values are those of the server's request fields.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...core.errors import Path, StrategyError
from .reading import written


class Option(NamedTuple):
    """The request field that an option sets, and what its value is."""

    field: str
    kind: str  # "number", "whole", "text", "flag", "list" (each adds one), "bias" (likewise)


_NAMED = {
    "n_predict": ("whole", "-n --predict --n-predict"),
    "samplers": ("names", "--samplers"),
    "sampler_seq": ("text", "--sampler-seq --sampling-seq"),
    "seed": ("whole", "-s --seed"),
    "ignore_eos": ("flag", "--ignore-eos"),
    "temperature": ("number", "--temp --temperature"),
    "top_k": ("whole", "--top-k"),
    "top_p": ("number", "--top-p"),
    "min_p": ("number", "--min-p"),
    "top_n_sigma": ("number", "--top-nsigma --top-n-sigma"),
    "xtc_probability": ("number", "--xtc-probability"),
    "xtc_threshold": ("number", "--xtc-threshold"),
    "typical_p": ("number", "--typical --typical-p"),
    "repeat_last_n": ("whole", "--repeat-last-n"),
    "repeat_penalty": ("number", "--repeat-penalty"),
    "presence_penalty": ("number", "--presence-penalty"),
    "frequency_penalty": ("number", "--frequency-penalty"),
    "dry_multiplier": ("number", "--dry-multiplier"),
    "dry_base": ("number", "--dry-base"),
    "dry_allowed_length": ("whole", "--dry-allowed-length"),
    "dry_penalty_last_n": ("whole", "--dry-penalty-last-n"),
    "dry_sequence_breakers": ("list", "--dry-sequence-breaker"),
    "adaptive_target": ("number", "--adaptive-target"),
    "adaptive_decay": ("number", "--adaptive-decay"),
    "dynatemp_range": ("number", "--dynatemp-range"),
    "dynatemp_exponent": ("number", "--dynatemp-exp"),
    "mirostat": ("whole", "--mirostat"),
    "mirostat_eta": ("number", "--mirostat-lr"),
    "mirostat_tau": ("number", "--mirostat-ent"),
    "logit_bias": ("bias", "-l --logit-bias"),
    "stop": ("list", "-r --reverse-prompt"),
    "grammar": ("text", "--grammar --grammar-file"),
    "json_schema": ("text", "-j --json-schema -jf --json-schema-file"),
    "reasoning_budget": ("whole", "--reasoning-budget"),
    "reasoning_effort": ("text", "--reasoning-effort"),
}
OPTIONS = {name: Option(field, kind) for field, (kind, names) in _NAMED.items() for name in names.split()}

#: options with a value that say nothing about how a token is drawn: the model, the machine, the prompt, the server
_WITH_VALUE = frozenset(
    """
-m --model -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token --lora --lora-scaled
--control-vector --control-vector-scaled --override-kv -a --alias --tags -mm --mmproj -mmu --mmproj-url --image --audio
--video --image-min-tokens --image-max-tokens -t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range
--cpu-strict --prio --poll -Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch -c
--ctx-size -b --batch-size -ub --ubatch-size --keep -fa --flash-attn -ctk --cache-type-k -ctv --cache-type-v -dt
--defrag-thold -np --parallel -ns --sequences -dev --device -ot --override-tensor -ncmoe --n-cpu-moe -ngl --gpu-layers
--n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -fit --fit -fitt --fit-target -fitc --fit-ctx --rpc
--numa -lm --load-mode -lzm --lazy-mode -gan --grp-attn-n -gaw --grp-attn-w --rope-scaling --rope-scale --rope-freq-base
--rope-freq-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast -ctxcp
--ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step -cram --cache-ram --cache-reuse --chunks -p --prompt -sys
--system-prompt -f --file -sysf --system-prompt-file -bf --binary-file --in-file --in-prefix --in-suffix --prompt-cache
--chat-template --chat-template-file --chat-template-kwargs --reasoning-format -rea --reasoning -co --color -ptc
--print-token-count -lv --verbosity --log-verbosity --log-file --log-colors --log-prompts-dir --host --port --path
--api-prefix --api-key --api-key-file --ssl-key-file --ssl-cert-file -to --timeout --threads-http --slot-save-path
--media-path --models-dir --models-preset --models-max -sps --slot-prompt-similarity --sse-ping-interval
--sleep-idle-seconds --cors-origins --cors-methods --cors-headers --pooling --attention -md --model-draft
--spec-draft-model -hfd -hfrd --hf-repo-draft --spec-draft-hf -td --threads-draft --spec-draft-threads -devd
--device-draft --spec-draft-device -ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-ngl --draft --draft-n
--draft-max --draft-min --draft-n-min --spec-draft-n-max --spec-draft-n-min --spec-draft-p-min --draft-p-min
--spec-draft-p-split --draft-p-split --spec-type --spec-ngram-size-n --spec-ngram-size-m --spec-ngram-min-hits -lcs
--lookup-cache-static -lcd --lookup-cache-dynamic
""".split()
)
_FLAGS = frozenset(
    """
-h --help --usage --version --verbose-prompt --display-prompt --no-display-prompt --swa-full -kvu --kv-unified -no-kvu
--no-kv-unified --context-shift --no-context-shift --perf --no-perf --show-timings --no-show-timings --prompt-cache-all
--prompt-cache-ro -sp --special -cnv --conversation -no-cnv --no-conversation -st --single-turn -i --interactive -if
--interactive-first -mli --multiline-input --in-prefix-bos --warmup --no-warmup --spm-infill -bs --backend-sampling
-kvo --kv-offload -nkvo --no-kv-offload --repack -nr --no-repack --no-host -cb --cont-batching -nocb --no-cont-batching
--mmproj-auto --no-mmproj --no-mmproj-auto --mmproj-offload --no-mmproj-offload --list-devices -cmoe --cpu-moe
--check-tensors --op-offload --no-op-offload --reuse-port --cors-credentials --no-cors-credentials --ui --webui --no-ui
--no-webui --embedding --embeddings --rerank --reranking --cache-prompt --no-cache-prompt --metrics --props --slots
--no-slots --models-autoload --no-models-autoload --jinja --no-jinja --reasoning-preserve --no-reasoning-preserve
--prefill-assistant --no-prefill-assistant --lora-init-without-apply --simple-io --log-disable --log-jsonl
--no-log-jsonl -v --verbose --log-verbose --offline --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps
-e --escape --no-escape --mlock --mmap --no-mmap
""".split()
)
#: of those with a value: what older versions knew without one, as many command lines still have it
_ONCE_FLAGS = frozenset({"-fa", "--flash-attn", "-co", "--color"})
_BIAS = re.compile(r"(\d+)([+-])([^+-].*)")
_ESCAPED = re.compile(r"""\\(x[0-9a-fA-F]{2}|[nrt'"\\])""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\"}


def words_of(text: str, file: str | None = None) -> list[str]:
    """A command line's words."""
    try:
        return shlex.split(text.replace("\\\n", " "), comments=False)
    except ValueError as error:
        reason = str(error)
        raise StrategyError(
            f"llamacpp: not a command line: {reason[:1].lower()}{reason[1:]}", Path("the document", file), code="shell"
        ) from None


def parsed(words: Sequence[str], file: str | None = None) -> dict[str, Any]:
    """The request fields that options set; an unknown option is a field of its own name.

    Raises StrategyError for a value that is none.
    """
    fields: dict[str, Any] = {}
    escaped = "--no-escape" not in words
    for name, value in _pairs(words, file):
        option = OPTIONS.get(name)
        if option is None:
            if name not in _WITH_VALUE | _FLAGS:
                fields[name] = value
            continue
        found = _value(option, name, value, file)
        if option.kind == "list":
            found = unescaped(found) if escaped else found
            fields.setdefault(option.field, []).append(found)
        elif option.kind == "bias":
            fields.setdefault(option.field, []).append(found)
        else:
            fields[option.field] = found
    if "sampler_seq" in fields:
        fields["samplers"] = fields.pop("sampler_seq")
    if "none" in fields.get("dry_sequence_breakers", ()):
        at = len(fields["dry_sequence_breakers"]) - fields["dry_sequence_breakers"][::-1].index("none")
        fields["dry_sequence_breakers"] = fields["dry_sequence_breakers"][at:]
    return fields


def _pairs(words: Sequence[str], file: str | None) -> Iterator[tuple[str, str | bool]]:
    """Options with their values. A program's name in front is passed over, an underscore is a dash."""
    rest = list(words)
    if rest and not rest[0].startswith("-"):
        program = os.path.basename(rest.pop(0)).removesuffix(".exe")
        if not program.startswith(("llama", "main", "server")):
            raise StrategyError(
                f"llamacpp: {program!r} is no option and no program of llama.cpp", Path("the document", file),
                hint="write options, as in --temp 0.7 --top-k 40", code="option",
            )  # fmt: skip
    before = ""
    while rest:
        name = rest.pop(0)
        name = name.replace("_", "-") if name.startswith("--") else name
        known = OPTIONS.get(name)
        if not name.startswith("-"):
            raise StrategyError(
                f"llamacpp: {name!r} is no option", Path("the document", file),
                hint=f"it stands behind {before}" if before else "", code="option",
            )  # fmt: skip
        stem, equals, value = name.partition("=")
        if equals and (stem in OPTIONS or stem in _WITH_VALUE):
            hint = f"llama.cpp takes a value as a word of its own: {stem} {value}"
            raise StrategyError(f"llamacpp: {name!r} is no option", Path(stem, file), hint=hint, code="option")
        before = name
        flag = name in _ONCE_FLAGS and (not rest or rest[0].startswith("-"))
        if flag or (known is not None and known.kind == "flag") or name in _FLAGS:
            yield name, True
        elif known is not None or name in _WITH_VALUE:
            if not rest:
                raise StrategyError(f"llamacpp: {name} has no value behind it", Path(name, file), code="option")
            yield name, rest.pop(0)
        else:
            yield name, rest.pop(0) if rest and not rest[0].startswith("-") else True


def _value(option: Option, name: str, value: Any, file: str | None) -> Any:
    if option.kind == "names":
        return [part for part in value.split(";") if part]
    if option.kind not in ("number", "whole", "bias"):
        return value
    try:
        if option.kind == "bias":
            token, sign, amount = _BIAS.fullmatch(value).groups()  # type: ignore[union-attr]  # None is no value either
            return [int(token), float(sign + amount)]
        return float(value) if option.kind == "number" else int(value)
    except (AttributeError, ValueError):
        wanted = {"number": "a number", "whole": "a whole number", "bias": "TOKEN_ID+BIAS or TOKEN_ID-BIAS"}
        raise StrategyError(
            f"llamacpp: {written(name, value)}: {wanted[option.kind]} is wanted", Path(name, file), code="type"
        ) from None


def unescaped(text: str) -> str:
    r"""``\n`` as a line break and so on, as llama.cpp reads texts unless told otherwise."""
    return _ESCAPED.sub(lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else _ESCAPES[found[1]], text)


def escaped(text: str) -> str:
    """The text from which ``unescaped`` makes this one."""
    for char, sign in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(char, sign)
    return text


__all__ = ["OPTIONS", "Option", "escaped", "parsed", "unescaped", "words_of"]
