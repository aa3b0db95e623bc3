"""Run while the engine's image is built: what must be importable, and the versions that must be there.

check.py VLLM_VERSION LMCACHE_VERSION
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

MODULES = (
    "freehold.engine.lmcache_connector",  # our connector, and LMCache's that it stands on
    "freehold.engine.cache_server",
    "freehold.engine.fetch_adapters",
    "lmcache.cli.main",
    "runai_model_streamer",  # weights from S3
    "boto3",  # with it, and what the jobs that fill the model store write to S3 with
    "huggingface_hub",  # the same jobs; they stream with httpx, which it stands on
    "httpx",
    "glide_sync",  # LMCache's `valkey` adapter
    "nixl._api",  # hands KV caches from prefill to decode workers; vLLM's image brings its own
)
# Without it LMCache runs, slowly.
COMPILED = "lmcache.c_ops"


def problems(versions: dict[str, str]) -> list[str]:
    """What is wrong, one line each; `versions` are those wanted, by package."""
    found = []
    for package, wanted in versions.items():
        have = version(package).partition("+")[0]
        if have != wanted:
            found.append(f"{package} is {have}, the release has {wanted}")
    for module in (*MODULES, COMPILED):
        try:
            loaded = importlib.import_module(module)
        except Exception as error:
            found.append(f"{module} cannot be imported: {error!r}")
        else:
            if module == COMPILED and not str(loaded.__file__).endswith(".so"):
                found.append(f"{module} is {loaded.__file__}: a stand-in, not the compiled one")
    return found


if __name__ == "__main__":
    wrong = problems({"vllm": sys.argv[1], "lmcache": sys.argv[2]})
    print("\n".join(wrong) or "the engine's image has what it needs")
    sys.exit(1 if wrong else 0)
