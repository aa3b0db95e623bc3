"""LMCache's connector, made so that a dead cache costs time and never a request.

vLLM loads it through `kv_connector_module_path`; `LmcacheTransfer` names it. Stock LMCache 0.5.6 lets
an error of a store or a load leave the worker, and the engine dies of it (measured 2026-11-23). Here
any error of a store, a load, a lookup or the bookkeeping around them is a miss, after which LMCache's
own degraded mode takes over: its heartbeat asks for the server and registers again when it is back.
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import zmq
from lmcache.integration.vllm.lmcache_mp_connector import LMCacheMPConnector

logger = logging.getLogger("vllm.freehold.lmcache_connector")

# An engine that starts beside its cache waits this long for it. A cold `lmcache server` took 25 s to
# answer on two busy cores (2026-11-23); its first registration on a GPU also creates a CUDA context.
_START_SECONDS = 120
# What a call to the server can raise; anything else would be a fault of the engine's own state.
_SERVER_ERRORS = (OSError, zmq.ZMQError)  # ConnectionError and TimeoutError are OSErrors


class ResilientLMCacheConnector(LMCacheMPConnector):
    """LMCache's multi-process connector whose errors are misses; one warning an outage."""

    # Its adapters' state is not in their published types; LMCache's version is pinned.
    worker_adapter: Any
    scheduler_adapter: Any
    _outage = False

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        """Raises ConnectionError when no server answers within `_START_SECONDS`."""
        extra = vllm_config.kv_transfer_config.kv_connector_extra_config
        server = f"{extra['lmcache.mp.host']}:{extra['lmcache.mp.port']}"
        start = partial(super().__init__, vllm_config, role, kv_cache_config)
        _patiently(start, server)
        self._server = server

    # --- Worker: called around every forward pass, so nothing may be raised -------------------------

    def register_kv_caches(self, kv_caches: Any) -> None:
        _patiently(partial(super().register_kv_caches, kv_caches), self._server)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        try:
            super().start_load_kv(forward_context, **kwargs)
        except Exception as error:
            self._worker_missed("load", error)
            self._give_up_loads()

    def wait_for_save(self) -> None:
        try:
            super().wait_for_save()
        except Exception as error:
            self._worker_missed("store", error)
        else:
            self._outage = self._outage and not self.worker_adapter.is_healthy

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        try:
            return super().get_finished(finished_req_ids)
        except Exception as error:
            self._worker_missed("transfer", error)
            # Unhealthy now: this call waits for no server, and reports what was in flight as done
            # (stores) or failed (loads), without which requests would wait for ever.
            return super().get_finished(finished_req_ids)

    def _give_up_loads(self) -> None:
        """Report every load of this step that was not submitted as failed: vLLM recomputes it."""
        adapter = self.worker_adapter
        metadata: Any = self._get_connector_metadata()
        for load in metadata.requests:
            if load.direction == "RETRIEVE" and load.request_id not in adapter.retrieve_futures:
                adapter.error_block_ids.update(load.op.flat_block_ids)
                adapter._failed_request_ids.add(load.request_id)
                adapter._dropped_retrieves.add(load.request_id)

    def _worker_missed(self, what: str, error: Exception) -> None:
        self._warn(what, error)
        self.worker_adapter._health_event.clear()
        self.worker_adapter._ensure_heartbeat_started()

    # --- Scheduler: the state of requests is kept by LMCache; only its calls to the server fail -----

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        try:
            found = super().get_num_new_matched_tokens(request, num_computed_tokens)
        except Exception as error:
            self._scheduler_missed("lookup", error)
            return 0, False
        self._outage = self._outage and not self.scheduler_adapter.is_healthy
        return found

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        try:
            super().update_state_after_alloc(request, blocks, num_external_tokens)
        except (
            _SERVER_ERRORS
        ) as error:  # its last step tells the server which chunks are not needed
            self._scheduler_missed("unlock", error)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        try:
            return super().request_finished(request, block_ids)
        except _SERVER_ERRORS as error:  # its last step ends the request's session on the server
            self._scheduler_missed("end of session", error)
            return self._can_store, None

    def _get_or_create_request_tracker(self, request: Any) -> Any:
        """LMCache 0.5.6 keys blocks by tokens, model and salt, but not by LoRA adapter: without this,
        a prompt that the base model has seen would go on from the base's KV under an adapter."""
        tracker = super()._get_or_create_request_tracker(request)
        if request.lora_request is not None:
            tracker.cache_salt = f"{request.cache_salt or ''}/lora/{request.lora_request.lora_name}"
        return tracker

    def _scheduler_missed(self, what: str, error: Exception) -> None:
        self._warn(what, error)
        for event in self.scheduler_adapter._health_events.values():
            event.clear()
        self.scheduler_adapter._ensure_heartbeat_started()

    def _warn(self, what: str, error: Exception) -> None:
        if not self._outage:
            logger.warning(
                "KV cache %s failed (%r): serving without the cache until %s answers again",
                what,
                error,
                self._server,
            )
        self._outage = True


def _patiently(action: Callable[[], None], server: str) -> None:
    """Run `action` once `server` (`tcp://host:port`) listens; again on a timeout, until the deadline."""
    deadline, warned = time.monotonic() + _START_SECONDS, False
    address = urlsplit(server)
    while True:
        try:
            socket.create_connection((address.hostname, address.port), timeout=3).close()
            return action()
        except OSError as error:
            if time.monotonic() > deadline:
                raise
            if not warned:
                logger.warning("waiting for the KV cache at %s: %s", server, error)
            warned = True
            time.sleep(1)
