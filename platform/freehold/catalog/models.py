"""Models: what memory, speed and the engine's flags depend on, one row a model in `models.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NoReturn

from .reading import read_data

Quantization = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]

# Bytes that one weight takes. Four-bit formats carry a scale a group: w4a16 and GPTQ a 16-bit scale
# (and zero) every 128 weights, MXFP4 one byte every 32, NVFP4 one byte every 16.
BYTES_PER_WEIGHT: Mapping[str, float] = {
    "bf16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5 + 3 / 128,
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
}


@dataclass(frozen=True)
class AttentionGroup:
    """Layers that keep the KV cache in the same way.

    `head_dim` is the width of one query and key head. For `mla` (multi-head latent attention) what
    is kept is `kv_lora_rank + rope_head_dim` values a token a layer, whatever the heads; for
    `linear` it is `state_bytes` a sequence a layer, whatever the context.
    """

    kind: Literal["full", "sliding", "mla", "linear"]
    layers: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    kv_lora_rank: int | None = None
    rope_head_dim: int | None = None
    state_bytes: int | None = None
    q_lora_rank: int | None = None
    v_head_dim: int | None = None


@dataclass(frozen=True)
class MixtureOfExperts:
    """Routed experts. `expert_parameters` counts all of them, in all layers, together."""

    experts: int
    experts_per_token: int
    expert_parameters: float
    layers: int
    intermediate: int
    shared_intermediate: int = 0
    """Width of the expert that every token passes, 0 where there is none."""


@dataclass(frozen=True)
class Checkpoint:
    """A published repository of a model's weights in one quantization."""

    quantization: Quantization
    repo: str
    gib: float | None
    revision: str | None
    min_sm: int | None
    """Lowest compute capability that runs it in its own format (89 = 8.9); None: any."""
    source: str
    date: str
    covers: Literal["linear", "experts"] = "linear"
    """What is quantized: every linear layer, or the routed experts alone. The rest is bf16."""
    bytes_per_weight: float | None = None
    """Where it differs from `BYTES_PER_WEIGHT`."""


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights: embedding tables, dense layers, routed experts."""

    embedding: float
    dense: float
    experts: float

    @property
    def total(self) -> float:
        return self.embedding + self.dense + self.experts


@dataclass(frozen=True)
class ModelSpec:
    """One model. Counts are numbers of weights, lengths are tokens."""

    name: str
    repo: str
    role: Literal["generate", "embed", "rerank"]
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    heads: int
    vocab: int
    intermediate: int | None
    """Width of the dense feed-forward layers; None where every layer has experts."""
    max_context: int
    attention: tuple[AttentionGroup, ...]
    moe: MixtureOfExperts | None
    native: Quantization
    checkpoints: tuple[Checkpoint, ...]
    licence: str
    gated: bool
    tool_call_parser: str | None
    reasoning_parser: str | None
    chat_template: str | None
    """Template file of vLLM's `examples/` that its tool calls need; None: the repository's own."""
    source: str
    date: str
    unverified: tuple[str, ...] = ()
    """Names of fields that no source was found for."""
    tied_embeddings: bool = False
    gated_mlp: bool = True
    """Three matrices a feed-forward layer (gate, up, down), or two (BERT's kind)."""
    vision_parameters: float = 0.0
    aliases: tuple[str, ...] = ()
    """Other repositories with the same architecture."""

    @property
    def expert_parameters(self) -> float:
        return self.moe.expert_parameters if self.moe else 0.0

    @property
    def embedding_parameters(self) -> float:
        """Input table, and the output layer where it is another one."""
        return self.vocab * self.hidden * (1 if self.tied_embeddings else 2)

    @property
    def dense_parameters(self) -> float:
        """Weights of layers that every token passes, without embeddings."""
        return self.parameters - self.expert_parameters - self.embedding_parameters

    def weights(self, quantization: str) -> Weights:
        """Bytes of all weights, as the published checkpoint of this quantization keeps them.

        Embeddings and the output layer stay 16 bits wide in all of them; without a published
        checkpoint every linear layer is taken to be quantized.
        """
        checkpoint = self.checkpoint(quantization)
        width = BYTES_PER_WEIGHT[quantization]
        if checkpoint and checkpoint.bytes_per_weight:
            width = checkpoint.bytes_per_weight
        only_experts = checkpoint is not None and checkpoint.covers == "experts"
        return Weights(
            embedding=2.0 * self.embedding_parameters,
            dense=(2.0 if only_experts else width) * self.dense_parameters,
            experts=width * self.expert_parameters,
        )

    def checkpoint(self, quantization: str) -> Checkpoint | None:
        """The first published repository in this quantization, or None."""
        return next((c for c in self.checkpoints if c.quantization == quantization), None)


def count_parameters(model: ModelSpec) -> float:
    """Weights counted from the architecture: matrices only, no norms, biases or position tables."""
    per_matrix = 3 if model.gated_mlp else 2
    total = float(model.embedding_parameters) + model.vision_parameters
    total += sum(group.layers * _attention_parameters(model, group) for group in model.attention)
    dense_layers = model.layers - (model.moe.layers if model.moe else 0)
    total += dense_layers * per_matrix * model.hidden * (model.intermediate or 0)
    if model.moe:
        every_token = (
            model.moe.experts + per_matrix * model.moe.shared_intermediate
        )  # router, shared
        total += model.moe.expert_parameters + model.moe.layers * model.hidden * every_token
    return total


def _attention_parameters(model: ModelSpec, group: AttentionGroup) -> float:
    """Weights of one layer's attention."""
    if group.kind == "mla":
        latent, rope = group.kv_lora_rank or 0, group.rope_head_dim or 0
        value = group.v_head_dim or group.head_dim
        heads_out = model.heads * group.head_dim
        query = group.q_lora_rank or 0
        q = query * (model.hidden + heads_out) if query else model.hidden * heads_out
        kv = model.hidden * (latent + rope) + latent * model.heads * (group.head_dim - rope + value)
        return q + kv + model.heads * value * model.hidden
    # Linear attention is counted like grouped-query attention of the same heads: within 1 % of the
    # whole for the models that have it beside experts.
    return 2.0 * model.hidden * group.head_dim * (model.heads + group.kv_heads)


@cache
def load_models() -> Mapping[str, ModelSpec]:
    """Every model of the catalog by name."""
    return {name: _model(name, row) for name, row in read_data("models.yaml").items()}


def find_model(name_or_repo: str) -> ModelSpec | None:
    """The catalog's model with this name, repository, checkpoint or alias; None if it has none."""
    models = load_models()
    if name_or_repo in models:
        return models[name_or_repo]
    return _by_repo().get(name_or_repo.lower())


@cache
def _by_repo() -> Mapping[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for model in load_models().values():
        names = (model.repo, *model.aliases, *(c.repo for c in model.checkpoints))
        found |= {name.lower(): model for name in names}
    return found


def _model(name: str, row: Mapping[str, Any]) -> ModelSpec:
    fields = dict(row)
    date, source = str(fields.pop("date")), fields["source"]
    native = Checkpoint(
        quantization=fields["native"],
        repo=fields["repo"],
        gib=fields.pop("native_gib", None),
        revision=None,
        min_sm=fields.pop("native_min_sm", None),
        source=source,
        date=date,
        covers=fields.pop("native_covers", "linear"),
        bytes_per_weight=fields.pop("native_bytes_per_weight", None),
    )
    moe = fields.pop("moe", None)
    optional = ("tool_call_parser", "reasoning_parser", "chat_template")
    typed: dict[str, Any] = dict.fromkeys(optional) | fields
    typed |= {
        "name": name,
        "date": date,
        "attention": tuple(AttentionGroup(**group) for group in fields["attention"]),
        "moe": MixtureOfExperts(**moe) if moe else None,
        "checkpoints": (native, *(_checkpoint(c) for c in fields.get("checkpoints", ()))),
        "unverified": tuple(fields.get("unverified", ())),
        "aliases": tuple(fields.get("aliases", ())),
    }
    return ModelSpec(**typed)


# Where the repositories' names come from unless a row says otherwise (models.yaml, first lines).
_RECIPES = {"source": "vllm-project/recipes 8959cf6", "date": "2026-08-21"}


def _checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    fields: dict[str, Any] = {"gib": None, "revision": None, "min_sm": None, **_RECIPES, **row}
    return Checkpoint(**fields)


def from_config_json(config: Mapping[str, Any], name: str) -> ModelSpec:
    """A model that the catalog does not list, from its `config.json` (transformers' keys).

    Parameters are counted from the architecture; licence, gating and parsers are unknown and are
    listed in `unverified`. Raises FreeholdError naming a key that is missing or impossible.
    """
    text = {**config, **config.get("text_config", {})}
    keys = _ConfigKeys(text, name)
    hidden, layers = keys.whole("hidden_size"), keys.whole("num_hidden_layers")
    heads = keys.whole("num_attention_heads")
    moe = _moe_of(keys, layers, hidden)
    native, covers = _native_of(config, text)
    intermediate = text.get("intermediate_size") if not moe or moe.layers < layers else None
    blank = ModelSpec(
        name=name,
        repo=str(config.get("_name_or_path") or name),
        role="generate",
        parameters=0.0,
        active_parameters=0.0,
        layers=layers,
        hidden=hidden,
        heads=heads,
        vocab=keys.whole("vocab_size"),
        intermediate=intermediate,
        max_context=keys.whole("max_position_embeddings"),
        attention=_attention_of(keys, layers, hidden, heads),
        moe=moe,
        native=native,
        checkpoints=(Checkpoint(native, name, None, None, None, "config.json", "", covers=covers),),
        licence="unknown",
        gated=False,
        tool_call_parser=None,
        reasoning_parser=None,
        chat_template=None,
        source="config.json",
        date="",
        unverified=("parameters", "licence", "gated", "tool_call_parser", "reasoning_parser"),
        tied_embeddings=bool(text.get("tie_word_embeddings", False)),
        gated_mlp=text.get("model_type") not in ("bert", "roberta", "xlm-roberta"),
    )
    total = count_parameters(blank)
    idle = 1 - moe.experts_per_token / moe.experts if moe else 0.0
    return replace(
        blank, parameters=total, active_parameters=total - idle * blank.expert_parameters
    )


@dataclass(frozen=True)
class _ConfigKeys:
    """Reads a config.json; what is wrong with it is said in one line."""

    values: Mapping[str, Any]
    name: str

    def whole(self, *keys: str) -> int:
        """The first of these keys that is there, a whole number above 0."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    self.refuse(f"{key} is {value!r}; a whole number above 0 is wanted")
                return int(value)
        return self.refuse(f'it has no "{keys[0]}", which every supported architecture names')

    def optional(self, *keys: str) -> int:
        """As `whole`, but 0 where none of the keys is there."""
        return self.whole(*keys) if any(self.values.get(key) for key in keys) else 0

    def refuse(self, what: str) -> NoReturn:
        from freehold.config import FreeholdError  # here: config may read the catalog

        raise FreeholdError(f"config.json of {self.name}: {what}")


def _moe_of(keys: _ConfigKeys, layers: int, hidden: int) -> MixtureOfExperts | None:
    experts = keys.optional("num_local_experts", "n_routed_experts", "num_experts")
    if not experts:
        return None
    width = keys.whole("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
    dense = keys.optional("first_k_dense_replace") + len(keys.values.get("mlp_only_layers") or ())
    shared = keys.optional("n_shared_experts") * width
    shared = shared or keys.optional("shared_expert_intermediate_size", "shared_intermediate_size")
    if keys.values.get("enable_moe_block"):  # Gemma 4: a dense feed-forward beside the experts
        shared = keys.whole("intermediate_size")
    return MixtureOfExperts(
        experts=experts,
        experts_per_token=keys.whole("num_experts_per_tok", "experts_per_token", "top_k_experts"),
        expert_parameters=3.0 * (layers - dense) * experts * hidden * width,
        layers=layers - dense,
        intermediate=width,
        shared_intermediate=shared,
    )


def _attention_of(
    keys: _ConfigKeys, layers: int, hidden: int, heads: int
) -> tuple[AttentionGroup, ...]:
    values = keys.values
    if values.get("kv_lora_rank"):
        rope, nope = keys.whole("qk_rope_head_dim"), keys.whole("qk_nope_head_dim")
        latent = AttentionGroup(
            kind="mla",
            layers=layers,
            kv_heads=1,
            head_dim=rope + nope,
            kv_lora_rank=keys.whole("kv_lora_rank"),
            rope_head_dim=rope,
            q_lora_rank=values.get("q_lora_rank"),
            v_head_dim=keys.whole("v_head_dim"),
        )
        return (latent,)
    kv_heads = keys.optional("num_key_value_heads") or heads
    head_dim = keys.optional("head_dim") or hidden // heads
    kinds = list(values.get("layer_types") or ["full_attention"] * layers)
    window = keys.optional("sliding_window")
    groups = []
    if sliding := kinds.count("sliding_attention"):
        groups.append(AttentionGroup("sliding", sliding, kv_heads, head_dim, window=window))
    if linear := kinds.count("linear_attention"):
        state = _linear_state_bytes(keys)
        groups.append(AttentionGroup("linear", linear, kv_heads, head_dim, state_bytes=state))
    if full := kinds.count("full_attention"):
        own_heads = keys.optional("num_global_key_value_heads") or kv_heads
        own_dim = keys.optional("global_head_dim") or head_dim
        groups.append(AttentionGroup("full", full, own_heads, own_dim))
    if sum(group.layers for group in groups) != layers:
        keys.refuse(f"layer_types names {len(kinds)} layers of known kinds; it has {layers}")
    return tuple(groups)


def _linear_state_bytes(keys: _ConfigKeys) -> int:
    """Gated delta net: one matrix a value head, in 32 bits."""
    heads, width = keys.whole("linear_num_value_heads"), keys.whole("linear_value_head_dim")
    return 4 * heads * width * keys.whole("linear_key_head_dim")


def _native_of(
    config: Mapping[str, Any], text: Mapping[str, Any]
) -> tuple[Quantization, Literal["linear", "experts"]]:
    """Quantization of the checkpoint that this config.json describes, and what it covers."""
    quantized = text.get("quantization_config") or config.get("quantization_config") or {}
    method = str(quantized.get("quant_method", "")).lower()
    described = str(quantized).lower()
    if method == "mxfp4":
        return "mxfp4", "experts"
    if method in ("awq", "gptq") or "'num_bits': 4" in described:
        floats = "'type': 'float'" in described or "nvfp4" in described
        only_experts = "self_attn" in str(quantized.get("ignore", ""))
        return ("nvfp4" if floats else "int4"), ("experts" if only_experts else "linear")
    if method in ("fp8", "fbgemm_fp8") or "float8" in described or "'type': 'float'" in described:
        return "fp8", "linear"
    if "'num_bits': 8" in described or method == "bitsandbytes":
        return "int8", "linear"
    return "bf16", "linear"
