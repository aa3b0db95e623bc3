"""`extra_args`: the way to everything of vLLM that has no typed option, and to nothing that has one."""

from __future__ import annotations

from collections.abc import Iterator

from freehold.config.errors import nearest

from .settings import EngineSettings
from .vllm_flags import flags

# What the caller, or the engine's place in the platform, decides.
_RESERVED = {
    "--model": "the pool's model says it",
    "--served-model-name": "the pool's name says it",
    "--revision": "the pool's revision says it",
    "--runner": "the pool's role says it",
    "--convert": "the pool's role says it",
    "--host": "Freehold decides where an engine listens",
    "--port": "Freehold decides where an engine listens",
    "--uds": "Freehold decides where an engine listens",
    "--config": "a second file of settings would hide from the plan: say them here",
    "--api-key": "a secret must not be in a process's arguments, and the gateway checks the keys",
    "--hf-token": "a secret must not be in a process's arguments: set HF_TOKEN in the environment",
    "--disable-access-log-for-endpoints": "Freehold sets it",
    "--enable-request-id-headers": "Freehold sets it: requests are followed by it",
    "--enable-prompt-tokens-details": "Freehold sets it: load tests and bills read it",
}
# Flags that a typed option writes: the plan, the probes and the gateway rely on what the option says.
TYPED = {
    "--dtype": "dtype",
    "--quantization": "quantization",
    "--kv-cache-dtype": "kv_cache_dtype",
    "--tensor-parallel-size": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "--max-model-len": "max_model_len",
    "--gpu-memory-utilization": "memory_share",
    "--kv-cache-memory-bytes": "kv_cache_gib",
    "--kv-offloading-size": "kv_offload_gib",
    "--kv-offloading-backend": "kv_offload_gib",
    "--block-size": "block_size",
    "--max-num-seqs": "max_num_seqs",
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--enable-prefix-caching": "prefix_caching",
    "--enforce-eager": "enforce_eager",
    "--speculative-config": "speculation",
    "--enable-auto-tool-choice": "tool_call_parser",
    "--tool-call-parser": "tool_call_parser",
    "--reasoning-parser": "reasoning_parser",
    "--chat-template": "chat_template",
    "--enable-lora": "lora",
    "--lora-modules": "lora",
    "--max-loras": "lora",
    "--max-lora-rank": "max_lora_rank",
    "--max-num-queued-reqs": "max_queued_requests",
    "--shutdown-timeout": "shutdown_timeout",
    "--hf-overrides": "hf_overrides",
    "--trust-remote-code": "trust_remote_code",
    "--kv-transfer-config": "kv_offload_gib, or the stack's cache",
}
# vLLM has more values for these than the typed option: free as long as the option is not used.
FREE_WHEN_UNSET = {
    "--quantization",
    "--kv-cache-dtype",
    "--speculative-config",
    "--kv-transfer-config",
}
_OTHER_NAMES = {
    "-asc": "--api-server-count",
    "-q": "--quantization",
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-sc": "--speculative-config",
    "--device-memory-utilization": "--gpu-memory-utilization",
    "--spec-method": "--speculative-config",
    "--spec-model": "--speculative-config",
    "--spec-tokens": "--speculative-config",
}


def check_extra_args(settings: EngineSettings, written: list[str]) -> Iterator[str]:
    """Why `extra_args` cannot be passed on; `written` is the command line without them."""
    rest = list(settings.options.extra_args)
    said: set[str] = set()
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            yield f'engine.extra_args "{argument}" belongs to no argument before it'
            continue
        flag, inline = _flag(argument)
        if flag not in flags():
            yield (
                f'engine.extra_args "{flag}" is no argument of the pinned vLLM'
                f"{nearest(flag, flags())}; write it in full"
            )
            while rest and not rest[0].startswith("-"):
                rest.pop(0)  # its values, whatever they are
            continue
        if flag not in said:
            yield from _taken(flag, written)
        said.add(flag)
        yield from _values(flag, inline, rest)


def _flag(argument: str) -> tuple[str, bool]:
    """The argument's name as vLLM reads it, and whether a value is part of it."""
    name, equals, _ = argument.partition("=")
    if argument.startswith("-O") and argument != "-O":
        return "--optimization-level", True
    name, _, _ = name.partition(".")  # --compilation-config.mode 3
    return (name.replace("_", "-") if name.startswith("--") else name), bool(equals)


def _taken(flag: str, written: list[str]) -> Iterator[str]:
    name = _OTHER_NAMES.get(flag, flag)
    if name not in _RESERVED and name not in TYPED:
        name = name.replace("--no-", "--", 1)
    if name in _RESERVED:
        yield f'engine.extra_args "{flag}": {_RESERVED[name]}'
    elif name in TYPED and (name in written or name not in FREE_WHEN_UNSET):
        yield f'engine.extra_args "{flag}" repeats a typed option: say engine.{TYPED[name]}'


def _values(flag: str, inline: bool, rest: list[str]) -> Iterator[str]:
    """Take the flag's values off `rest`."""
    arity = flags()[flag]
    if inline or arity == "0":
        return
    count = 0
    while rest and not rest[0].startswith("--") and (arity == "+" or count == 0):
        rest.pop(0)
        count += 1
    if count == 0 and arity != "?":
        yield f'engine.extra_args "{flag}" needs a value after it'
