"""The installed vLLM's own verdict on a command line, without an engine and without a GPU.

vLLM asks its platform object what the hardware can do. Every module holds the same object, so giving
it another class makes the whole package decide as on that hardware: here its own CUDA platform with
the answers of an H100. What the platform cannot answer without one (kernels, memory, links) is not
checked; docs/components/engine.md lists it.
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import copy
import importlib
import sys
import types
from typing import Any

import pytest

from freehold.engine.checks import Device

from . import shapes

HOPPER_ANSWERS = {
    "get_device_capability",
    "get_device_name",
    "get_device_total_memory",
    "is_fully_connected",
    "device_count",
}
"""What the pretended GPU is asked and answers for itself."""


class Refused(Exception):
    """vLLM does not take the command line; `str()` is its reason."""


class Pinned:
    """Import vLLM once (15 s) and judge command lines with it (0.03 s each)."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        # The CPU build lacks the CUDA platform's kernels; importing it asks for no more than the name.
        stub = types.ModuleType("vllm._C_stable_libtorch")
        patch.setitem(sys.modules, "vllm._C_stable_libtorch", stub)

        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.entrypoints.launchers import cli_args, launcher
        from vllm.model_executor.layers import quantization
        from vllm.model_executor.models import registry
        from vllm.platforms import cuda, current_platform, interface
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        class Hopper(cuda.CudaPlatformBase):
            @classmethod
            def get_device_capability(cls, device_id: int = 0) -> Any:
                return interface.DeviceCapability(9, 0)

            @classmethod
            def get_device_name(cls, device_id: int = 0) -> str:
                return "NVIDIA H100 80GB HBM3"

            @classmethod
            def get_device_total_memory(cls, device_id: int = 0) -> int:
                return 80 * 2**30

            @classmethod
            def is_fully_connected(cls, device_ids: list[int]) -> bool:
                return True

            @classmethod
            def device_count(cls) -> int:
                return 8

        assert {name for name in vars(Hopper) if not name.startswith("_")} == HOPPER_ANSWERS
        # vLLM looks at a model's class in a process of its own, so as not to touch a GPU: 25 s each.
        patch.setattr(registry, "_run_in_subprocess", lambda function: function())
        # Their modules ask for kernels when imported: now, while the platform is a CPU.
        for connector in ("nixl", "lmcache_mp_connector", "offloading_connector"):
            importlib.import_module(f"vllm.distributed.kv_transfer.kv_connector.v1.{connector}")
        named = {name for config in shapes.MODELS.values() for name in config["architectures"]}
        for architecture in [*named, "DeepSeekMTPModel"]:
            registry.ModelRegistry.models[architecture].inspect_model_cls()
        for method in quantization.QUANTIZATION_METHODS:
            quantization.get_quantization_config(method)
        self._platform, self._registry = current_platform, registry
        self._classes: dict[Device, type] = {"cpu": type(current_platform), "cuda": Hopper}
        self._launcher, self._cli_args, self._arguments = launcher, cli_args, AsyncEngineArgs
        self._parser = cli_args.make_arg_parser(FlexibleArgumentParser())

    def config(self, command_line: list[str], device: Device) -> Any:
        """The VllmConfig that the server would start with; Refused when there is none."""
        try:
            parsed = self._parser.parse_args(command_line)
            # Defaults are shared objects that create_engine_config() writes to.
            parsed = copy.deepcopy(parsed)
            assert parsed is not None
            self._cli_args.validate_parsed_serve_args(parsed)
            arguments = self._arguments.from_cli_args(parsed)
            self._platform.__class__ = self._classes[device]
            config = arguments.create_engine_config()
            self._launcher.validate_api_server_args(parsed)
            return config
        except SystemExit:
            raise Refused("the parser refuses it") from None
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        finally:
            self._platform.__class__ = self._classes["cpu"]

    def hands_on_hidden_states(self, architecture: str) -> bool:
        """Whether the decoder passes EAGLE-3's hidden states from one pipeline stage to the next."""
        model = self._registry.ModelRegistry.models[architecture].load_model_cls()
        module = sys.modules[model.__module__]
        name = model.__name__.replace("ForCausalLM", "Model")
        decoder = getattr(module, name, None) or module.DeepseekV2Model
        return bool(getattr(decoder, "supports_aux_hidden_states_over_pp", False))

    def drafts_without_a_count(self, architecture: str) -> bool:
        """Whether vLLM makes an MTP draft of such a model when config.json counts no layers."""
        from transformers import PretrainedConfig
        from vllm.config.speculative import SpeculativeConfig

        kind = "longcat_flash" if architecture.startswith("Longcat") else "some"
        of_kind = type("OfKind", (PretrainedConfig,), {"model_type": kind})
        config = of_kind(architectures=[architecture])
        return SpeculativeConfig.hf_config_override(config).n_predict >= 1
