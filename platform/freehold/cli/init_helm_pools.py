"""One entry of the chart's `modelSpec` as a model pool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from freehold.catalog.models import find_model
from freehold.config.engine import EngineOptions

from .init_engine_args import ExtraArgs
from .init_values import Note, Values

MODELS = "servingEngineSpec.modelSpec"

_DTYPES = {"half": "float16", "float": "float32"}  # vLLM's second names
_ROLES = {
    "embed": "embed",
    "token_embed": "embed",
    "classify": "rerank",
    "token_classify": "rerank",
    "score": "rerank",
}


@dataclass
class Pool:
    """A pool of the stack file; pins and context go where the target wants them."""

    chart_name: str
    tree: dict[str, Any]
    pins: dict[str, int]
    context: int | None


def read_pools(values: Values, cache: dict[str, Any]) -> list[Pool]:
    """Every model that is switched on; `cache` gathers what any of them says about KV tiers."""
    pools: list[Pool] = []
    for place in range(len(values.maps(MODELS))):
        at = f"{MODELS}[{place}]"
        if values.look(f"{at}.enabled") is False:
            values.note(at, "dropped", "enabled: false")
            continue
        values.keep(f"{at}.enabled")
        taken = {
            name for pool in pools for name in (pool.tree["name"], *pool.tree.get("aliases", []))
        }
        pools.append(_PoolReader(values, at, taken).pool(cache))
    return pools


class _PoolReader:
    """Reads one model; each method accounts for the keys it takes."""

    def __init__(self, values: Values, at: str, taken: set[str]) -> None:
        self._values = values
        self._at = at
        self._taken = taken
        self._extra = ExtraArgs(values, f"{at}.vllmConfig.extraArgs")

    def pool(self, cache: dict[str, Any]) -> Pool:
        url = self._values.keep(f"{self._at}.modelURL")
        name, model = self._name(), str(url or "")
        role = self._role(model)
        tree: dict[str, Any] = {"name": name, "role": role, "model": model}
        revision = self._values.keep(f"{self._at}.modelRevision")
        if revision:
            tree["revision"] = str(revision)
        aliases = self._aliases(name, model)
        if aliases:
            tree["aliases"] = aliases
        engine = self._engine(role)
        if engine:
            tree["engine"] = engine
        self._tiers(cache)
        return Pool(str(self._values.look(f"{self._at}.name")), tree, self._pins(), self._context())

    def _name(self) -> str:
        path = f"{self._at}.name"
        given = str(self._values.take(path) or "model")
        name = re.sub(r"[^a-z0-9-]+", "-", given.lower()).strip("-")[:40].strip("-") or "model"
        name = name if name[0].isalpha() else f"m-{name}"[:40]
        number = 2
        while name in self._taken:
            name, number = f"{name[:37]}-{number}", number + 1
        changed = name != given
        text = f'"{given}" -> "{name}": it names pods and metrics' if changed else "name"
        self._values.note(path, "corrected" if changed else "kept", text)
        return name

    def _aliases(self, name: str, model: str) -> list[str]:
        """What clients of the chart ask for: the served names, else the model's URL."""
        aliases = []
        for alias in self._extra.pool.get("aliases", [model]):
            path = f"pools.{name}.aliases"
            if alias in self._taken:
                self._values.notes.append(
                    Note(path, "corrected", f"{alias} leads to the pool above; ask for {name} here")
                )
            elif alias and alias != name:
                aliases.append(alias)
                self._values.notes.append(Note(path, "added", f"{alias}: what clients ask for now"))
        return aliases

    def _role(self, model: str) -> str:
        """By the runner and the conversion; a model that the catalog knows says it itself."""
        said = self._extra.pool
        convert = self._config("convert") or said.get("convert") or said.get("task")
        runner = self._config("runner") or said.get("runner")
        known = find_model(model)
        if str(convert) in _ROLES:
            role = _ROLES[str(convert)]
        elif known:
            role = known.role
        else:
            role = "embed" if runner == "pooling" else "generate"
        for key in ("convert", "runner"):
            if self._config(key) is not None:
                self._values.note(f"{self._at}.vllmConfig.{key}", "kept", f"role {role}")
        return role

    def _engine(self, role: str) -> dict[str, Any]:
        engine: dict[str, Any] = dict(self._extra.engine)
        self._prefix_caching(engine, role)
        for key, option in (
            ("dtype", "dtype"),
            ("maxNumSeqs", "max_num_seqs"),
            ("gpuMemoryUtilization", "memory_share"),
        ):
            self._typed(engine, f"vllmConfig.{key}", option)
        self._typed(engine, "toolCallParser", "tool_call_parser")
        tool = self._values.take(f"{self._at}.enableTool")
        if tool is not None:
            parser = engine.get("tool_call_parser")
            self._values.note(
                f"{self._at}.enableTool",
                "kept" if parser else "corrected",
                "engine.tool_call_parser" if parser else "the plan takes the model's own parser",
            )
        template = self._values.take(f"{self._at}.chatTemplate")
        if template:
            self._values.note(
                f"{self._at}.chatTemplate",
                "dropped",
                f"{template}: put the file where the engine finds it and name it in engine.chat_template",
            )
        extra = self._chunked_prefill() + self._extra.passed
        if extra:
            engine["extra_args"] = extra
        return engine

    def _prefix_caching(self, engine: dict[str, Any], role: str) -> None:
        path = f"{self._at}.vllmConfig.enablePrefixCaching"
        said = self._values.take(path)
        if said is not None:
            if said is False and role == "generate":
                engine["prefix_caching"] = False
            self._values.note(path, "kept", f"engine.prefix_caching {str(bool(said)).lower()}")
        elif isinstance(self._values.look(f"{self._at}.vllmConfig"), dict) and role == "generate":
            self._values.note(
                path, "corrected", "it is on: the chart switches it off where nobody says it"
            )

    def _chunked_prefill(self) -> list[str]:
        path = f"{self._at}.vllmConfig.enableChunkedPrefill"
        said = self._values.take(path)
        if said is None:
            return []
        self._values.note(path, "kept", "vLLM's own default" if said else "engine.extra_args")
        return [] if said else ["--no-enable-chunked-prefill"]

    def _typed(self, engine: dict[str, Any], key: str, option: str) -> None:
        path = f"{self._at}.{key}"
        given = self._values.take(path)
        if given is None:
            return
        value = _DTYPES.get(str(given), given) if option == "dtype" else given
        try:
            checked = EngineOptions.model_validate({option: value})
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            self._values.note(path, "dropped", f"engine.{option} does not take {given}: {why}")
            return
        engine[option] = getattr(checked, option)
        same = value == given
        self._values.note(path, "kept" if same else "corrected", f"engine.{option} {value}")

    def _pins(self) -> dict[str, int]:
        pins: dict[str, int] = {}
        for key in ("tensor_parallel", "pipeline_parallel"):
            if isinstance(self._extra.pool.get(key), int):
                pins[key] = self._extra.pool[key]
        for key, pin in (
            ("vllmConfig.tensorParallelSize", "tensor_parallel"),
            ("replicaCount", "replicas"),
        ):
            number = self._values.number(f"{self._at}.{key}")
            if number is not None:
                self._values.keep(f"{self._at}.{key}")
                pins[pin] = number
        self._gpus(pins)
        return pins

    def _gpus(self, pins: dict[str, int]) -> None:
        """vLLM uses as many GPUs as it has ranks; what else the pod asked for stands idle."""
        path = f"{self._at}.requestGPU"
        given = self._values.take(path)
        if given is None:
            return
        ranks = pins.get("tensor_parallel", 1) * pins.get("pipeline_parallel", 1)
        if str(given) == str(ranks):
            self._values.note(path, "kept", f"a replica has {ranks}, by its parallelism")
        else:
            self._values.note(
                path,
                "corrected",
                f"{given} asked for, {ranks} used: a replica has as many as ranks",
            )

    def _context(self) -> int | None:
        path = f"{self._at}.vllmConfig.maxModelLen"
        length = self._values.number(path)
        if length is not None:
            self._values.keep(path)
            return length
        said = self._extra.pool.get("context")
        return said if isinstance(said, int) else None

    def _tiers(self, cache: dict[str, Any]) -> None:
        """LMCache of the chart runs inside the engine; ours is a server beside each worker."""
        at = f"{self._at}.lmcacheConfig"
        enabled = self._values.take(f"{at}.enabled")
        if enabled is None:
            return
        if not enabled:
            self._values.note(f"{at}.enabled", "kept", "no cache")
            return
        self._values.note(
            f"{at}.enabled", "corrected", "cache: LMCache as a server beside each worker"
        )
        path = f"{at}.cpuOffloadingBufferSize"
        memory = self._values.amount(path)
        if memory is not None:
            text = "cache.host_memory_gib: for each worker, not each GPU"
            self._values.note(path, "corrected", text)
        # 5 GB is what LMCache takes where the chart says nothing.
        cache["host_memory_gib"] = max(memory or 5.0, cache.get("host_memory_gib", 0))
        path = f"{at}.diskOffloadingBufferSize"
        disk = self._values.amount(path)
        if disk is not None:
            cache["nvme_gib"] = disk
            text = "cache.nvme_gib: the chart never switches its disk on"
            self._values.note(path, "corrected", text)

    def _config(self, key: str) -> Any:
        return self._values.take(f"{self._at}.vllmConfig.{key}")
