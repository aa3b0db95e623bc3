"""Combinations that cannot work, each with what we say and whether vLLM says no as well."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.engine.settings import LmcacheTransfer, NixlTransfer

from .combinations import DRAFT, EAGLE3, LMCACHE, MTP, NGRAM, Case

_LORA = {"lora": ["adapter"]}


@dataclass(frozen=True)
class Wrong:
    case: Case
    says: tuple[str, ...]
    """Parts of our message: the key, the value, what is allowed or would work."""
    alone: str | None = None
    """Why only we refuse it: a sentence of docs/components/engine.md. None: vLLM refuses it too."""


# Why vLLM's create_engine_config() lets a combination through. Each is a row in the docs.
LATER = "vLLM finds out after it has loaded the weights"
IGNORED = "vLLM ignores the setting silently"
OVERRULED = "vLLM takes the checkpoint's method and ignores the setting silently"
SERVES_WRONGLY = "vLLM starts, and the endpoint is missing or its answers mean nothing"
ADAPTERS = "vLLM reads an adapter's files only after it has loaded the weights"
CONNECTOR = "LMCache and NIXL look when the engine's core starts"
UNSEEN = "the plan, the probes or the gateway rely on what the typed option says"
SECRET = "a secret in a process's arguments can be read by every user of the machine"


def _wrong(
    name: str, case: Case | tuple, *says: str, alone: str | None = None, **more: object
) -> Wrong:
    model, options = case if isinstance(case, tuple) else (case.model, case.options)
    return Wrong(Case(name, model, options, **more), says, alone)  # type: ignore[arg-type]


def _args(name: str, extra: list[str], *says: str, alone: str | None = UNSEEN, **options: object):
    return _wrong(name, ("llama", {**options, "extra_args": extra}), *says, alone=alone)


WRONG: list[Wrong] = [
    # How it splits.
    _wrong(
        "tensor parallel 3",
        ("llama", {"tensor_parallel": 3}),
        "engine.tensor_parallel 3 does not divide 8 attention heads: 1, 2, 4, 8",
    ),
    _wrong("tensor parallel 16", ("deepseek", {"tensor_parallel": 16}), "16", "1, 2, 4, 8"),
    _wrong(
        "more stages than layers",
        ("llama", {"pipeline_parallel": 5}),
        "engine.pipeline_parallel 5",
        "at most 4",
        alone=LATER,
    ),
    _wrong(
        "stages of an encoder",
        ("bert", {"pipeline_parallel": 2}),
        "engine.pipeline_parallel 2 is not supported for BertModel: 1",
        role="embed",
    ),
    # How long.
    _wrong("too long", ("llama", {"max_model_len": 8193}), "engine.max_model_len 8193", "8192"),
    _wrong("too long to embed", ("bert", {"max_model_len": 600}), "600", "512", role="embed"),
    _wrong(
        "yarn without positions",
        (
            "llama",
            {
                "max_model_len": 32768,
                "hf_overrides": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            },
        ),
        "engine.max_model_len 32768",
        "max_position_embeddings",
    ),
    # How it is quantized.
    *(
        _wrong(
            f"{method} on 16-bit weights",
            ("llama", {"quantization": method}),
            f'engine.quantization "{method}" needs a checkpoint that comes quantized',
            "int8_per_channel_weight_only",
        )
        for method in (
            "awq",
            "awq_marlin",
            "gptq",
            "gptq_marlin",
            "compressed-tensors",
            "modelopt",
            "modelopt_fp4",
            "moe_wna16",
            "torchao",
        )
    ),
    _wrong(
        "mxfp4 on 16-bit weights",
        ("llama", {"quantization": "mxfp4"}),
        'engine.quantization "mxfp4" needs a checkpoint',
        alone=LATER,
    ),
    *(
        _wrong(
            f"int8 on {comes}",
            (f"llama_{comes}", {"quantization": "int8_per_channel_weight_only"}),
            f"comes quantized as {comes}: leave it out",
            alone=OVERRULED if comes.startswith("modelopt") else None,
        )
        for comes in (
            "fp8",
            "awq",
            "gptq",
            "compressed-tensors",
            "mxfp4",
            "modelopt",
            "modelopt_fp4",
        )
    ),
    _wrong("awq as gptq", ("llama_awq", {"quantization": "gptq"}), "awq, awq_marlin, moe_wna16"),
    _wrong(
        "marlin on a CPU",
        ("llama_awq", {"quantization": "awq_marlin"}),
        "leave it out (or awq)",
        device="cpu",
    ),
    _wrong(
        "experts of a dense model",
        ("llama", {"quantization": "experts_int8"}),
        "the model has none",
        alone=IGNORED,
    ),
    _wrong(
        "fp8 on a CPU",
        ("llama", {"quantization": "fp8_per_tensor"}),
        "does not run on a CPU",
        alone=LATER,
        device="cpu",
    ),
    *(
        _wrong(
            f"float32 {method}",
            ("llama", {"quantization": method, "dtype": "float32"}),
            f'engine.dtype "float32" does not go with {method} weights',
        )
        for method in ("fp8", "int8_per_channel_weight_only")
    ),
    _wrong("float32 awq", ("llama_awq", {"dtype": "float32"}), "awq weights: auto or bfloat16"),
    _wrong("float16 mxfp4", ("deepseek_mxfp4", {"dtype": "float16"}), "mxfp4 weights"),
    # The KV cache and the batch.
    _wrong(
        "two sizes",
        ("llama", {"memory_share": 0.5, "kv_cache_gib": 1}),
        "engine.kv_cache_gib 1 and engine.memory_share 0.5",
        "leave one out",
        alone=IGNORED,
    ),
    _wrong("block 24", ("llama", {"block_size": 24}), "engine.block_size 24", "16", alone=LATER),
    _wrong(
        "block 16 on a CPU",
        ("llama", {"block_size": 16}),
        "engine.block_size 16",
        ": 32",
        alone=LATER,
        device="cpu",
    ),
    _wrong(
        "sparse layout",
        ("deepseek", {"kv_cache_dtype": "fp8_ds_mla"}),
        'engine.kv_cache_dtype "fp8_ds_mla"',
        alone=LATER,
    ),
    _wrong(
        "e5m2 of an fp8 checkpoint",
        ("llama_fp8", {"kv_cache_dtype": "fp8_e5m2"}),
        'engine.kv_cache_dtype "fp8_e5m2"',
        alone=LATER,
    ),
    _wrong(
        "more sequences than tokens",
        ("llama", {"max_num_seqs": 64, "max_num_batched_tokens": 32}),
        "engine.max_num_batched_tokens 32",
        "64 or more",
    ),
    _wrong(
        "an encoder's batch",
        ("bert", {"max_num_batched_tokens": 256, "max_num_seqs": 8}),
        "engine.max_num_batched_tokens 256",
        "512",
        role="embed",
    ),
    # Speculation.
    _wrong(
        "n-gram bounds",
        ("llama", {"speculation": NGRAM | {"prompt_lookup_min": 5, "prompt_lookup_max": 2}}),
        "prompt_lookup_min 5 is more than prompt_lookup_max 2",
    ),
    _wrong("mtp without layers", ("llama", {"speculation": MTP}), 'method "mtp"', "ngram"),
    _wrong(
        "another vocabulary",
        ("llama", {"speculation": DRAFT | {"model": "other_vocabulary"}}),
        "a vocabulary of 2048 and the model one of 4096",
    ),
    _wrong(
        "an encoder drafts",
        ("llama", {"speculation": DRAFT | {"model": "bert"}}),
        "is an encoder",
    ),
    _wrong(
        "an EAGLE head as draft model",
        ("llama", {"speculation": DRAFT | {"model": "eagle3"}}),
        "an EAGLE-3 head: eagle3",
        alone=LATER,
    ),
    _wrong(
        "a draft model as EAGLE head",
        ("llama", {"speculation": EAGLE3 | {"model": "draft"}}),
        'method "eagle3" needs an EAGLE-3 head',
        "draft_model",
        alone=LATER,
    ),
    _wrong(
        "another model's EAGLE head",
        ("llama", {"speculation": EAGLE3 | {"model": "eagle3_of_another"}}),
        "hidden states of 512 values and the model's have 256",
        alone=LATER,
    ),
    _wrong(
        "EAGLE-3 over stages",
        ("deepseek", {"speculation": EAGLE3, "pipeline_parallel": 2}),
        "engine.pipeline_parallel 2 does not go with eagle3 on DeepseekV3ForCausalLM",
        alone=LATER,
    ),
    _wrong(
        "ranks of the draft",
        ("llama", {"tensor_parallel": 4, "speculation": DRAFT | {"draft_tensor_parallel_size": 2}}),
        "draft_tensor_parallel_size 2 must be 1 or tensor_parallel, 4",
    ),
    _wrong(
        "adapters and a small batch",
        (
            "llama",
            {**_LORA, "speculation": NGRAM, "max_num_seqs": 64, "max_num_batched_tokens": 128},
        ),
        "engine.max_num_batched_tokens 128",
        "320 or more",
    ),
    # Adapters.
    _wrong(
        "a rank without kernels",
        ("llama", {**_LORA, "max_lora_rank": 48}),
        "engine.max_lora_rank 48 is not one of vLLM's",
        ": 64",
    ),
    _wrong(
        "a rank and no adapter",
        ("llama", {"max_lora_rank": 64}),
        "engine.max_lora_rank 64 has no effect",
        alone=IGNORED,
    ),
    _wrong(
        "an adapter of a higher rank",
        ("llama", {"lora": ["adapter_rank_64"]}),
        "has rank 64, more than max_lora_rank 16: engine.max_lora_rank 64",
        alone=ADAPTERS,
    ),
    _wrong("DoRA", ("llama", {"lora": ["adapter_dora"]}), "DoRA (use_dora)", alone=ADAPTERS),
    _wrong(
        "an adapter with whole modules",
        ("llama", {"lora": ["adapter_embeddings"]}),
        "embed_tokens",
        alone=ADAPTERS,
    ),
    # Parsers.
    _wrong(
        "unknown tool parser",
        ("llama", {"tool_call_parser": "lama3_json"}),
        'engine.tool_call_parser "lama3_json"',
        'did you mean "llama3_json"?',
    ),
    _wrong(
        "unknown reasoning parser",
        ("llama", {"reasoning_parser": "deepseek-r1"}),
        'engine.reasoning_parser "deepseek-r1"',
        'did you mean "deepseek_r1"?',
    ),
    # Roles.
    _wrong("an encoder chats", ("bert", {}), 'role "generate"', "embed", alone=SERVES_WRONGLY),
    _wrong(
        "a classifier ranks",
        ("classifier", {}),
        "3 classes",
        alone=SERVES_WRONGLY,
        role="rerank",
    ),
    _wrong(
        "a chat model ranks",
        ("llama", {}),
        "no head that ranks",
        alone=SERVES_WRONGLY,
        role="rerank",
    ),
    *(
        _wrong(
            f"{key} where nothing is generated",
            ("llama", {key: value}),
            f'engine.{key} has no effect with role "embed"',
            alone=IGNORED,
            role="embed",
        )
        for key, value in {
            "speculation": NGRAM,
            "lora": ["adapter"],
            "tool_call_parser": "hermes",
            "reasoning_parser": "qwen3",
            "kv_offload_gib": 4,
        }.items()
    ),
    _wrong(
        "KV transfer where nothing is generated",
        ("bert", {}),
        'role "embed", which reuses no KV cache',
        alone=IGNORED,
        role="embed",
        kv_transfer=LMCACHE,
    ),
    # KV transfer.
    _wrong(
        "chunk and block",
        ("llama", {"block_size": 48}),
        "cache.chunk_tokens 128 is no whole number of blocks of 48 tokens (engine.block_size): 144",
        alone=CONNECTOR,
        kv_transfer=LMCACHE,
    ),
    _wrong(
        "a CPU's block",
        ("llama", {}),
        "cache.chunk_tokens 64 is no whole number of blocks of 128",
        alone=CONNECTOR,
        kv_transfer=LmcacheTransfer(chunk_tokens=64),
        device="cpu",
    ),
    _wrong(
        "two caches",
        ("llama", {"kv_offload_gib": 4}),
        "engine.kv_offload_gib 4 does not go with the stack's cache",
        alone=IGNORED,
        kv_transfer=LMCACHE,
    ),
    _wrong(
        "native offload on a CPU",
        ("llama", {"kv_offload_gib": 4}),
        "engine.kv_offload_gib needs a GPU",
        alone=CONNECTOR,
        device="cpu",
    ),
    _wrong(
        "NIXL's GPU buffer on a CPU",
        ("llama", {}),
        'buffer_device "cuda" needs a GPU: cpu',
        alone=CONNECTOR,
        kv_transfer=NixlTransfer("prefill"),
        device="cpu",
    ),
    # extra_args.
    _args("a port", ["--port", "99"], '"--port": Freehold decides where an engine listens'),
    _args("a name", ["--served-model-name", "x"], "the pool's name says it"),
    _args("a runner", ["--runner=pooling"], '"--runner": the pool\'s role says it'),
    _args("a key", ["--api-key", "s3cret"], '"--api-key": a secret', alone=SECRET),
    _args("a hub token", ["--hf_token=hf_x"], '"--hf-token": a secret', alone=SECRET),
    _args("a typed flag", ["--max-model-len", "4096"], "say engine.max_model_len"),
    _args("its underscores", ["--max_model_len=4096"], "say engine.max_model_len"),
    _args("its short name", ["-tp", "2"], "say engine.tensor_parallel"),
    _args("its negation", ["--no-enable-prefix-caching"], "say engine.prefix_caching"),
    _args(
        "a second speculation",
        ["--speculative-config", '{"method":"ngram","num_speculative_tokens":2}'],
        "say engine.speculation",
        speculation=NGRAM,
    ),
    _args("no request ids", ["--no-enable-request-id-headers"], "Freehold sets it"),
    _args("an unknown flag", ["--max-log-length", "9"], "no argument of the pinned", alone=None),
    _args("a shortened flag", ["--max-log-l", "9"], 'did you mean "--max-log-len"?'),
    _args("a lost value", ["oops"], '"oops" belongs to no argument'),
    _args("a missing value", ["--seed"], '"--seed" needs a value after it', alone=None),
]
