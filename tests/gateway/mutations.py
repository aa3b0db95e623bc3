"""Broken gateways: each takes away from a built configuration what one claim rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
_LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"


def manager(config: Json) -> Json:
    listener = config["static_resources"]["listeners"][0]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def filters(config: Json) -> list[Json]:
    return manager(config)["http_filters"]


def filter_named(config: Json, name: str) -> Json:
    """Its configuration, also where a matcher may skip it."""
    typed = next(f["typed_config"] for f in filters(config) if f["name"] == name)
    return typed.get("extension_config", {}).get("typed_config", typed)


def routes(config: Json) -> list[Json]:
    return manager(config)["route_config"]["virtual_hosts"][0]["routes"]


def clusters(config: Json) -> Iterator[Json]:
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] != "picker":
            yield cluster


def drop_filter(name: str) -> Callable[[Json], None]:
    def mutate(config: Json) -> None:
        before = filters(config)
        manager(config)["http_filters"] = [f for f in before if f["name"] != name]
        assert len(filters(config)) < len(before)

    mutate.__name__ = f"no {name}"
    return mutate


def drop_routes(name: str, wanted: Callable[[Json], bool]) -> Callable[[Json], None]:
    def mutate(config: Json) -> None:
        before = routes(config)
        host = manager(config)["route_config"]["virtual_hosts"][0]
        host["routes"] = [route for route in before if not wanted(route)]
        assert len(routes(config)) < len(before)

    mutate.__name__ = f"no {name} routes"
    return mutate


def refusing(code: str) -> Callable[[Json], bool]:
    """Routes that refuse with this error code."""

    def wanted(route: Json) -> bool:
        return f'"code": "{code}"' in str(route.get("direct_response"))

    return wanted


def matching_header(name: str) -> Callable[[Json], bool]:
    return lambda route: any(h["name"] == name for h in route["match"].get("headers", []))


def everything_to_an_engine(config: Json) -> None:
    """What it does not know it forwards, as some routers do."""
    routes(config)[-1] = {"match": {"prefix": "/"}, "route": {"cluster": "chat"}}


def paths_by_prefix(config: Json) -> None:
    cluster = next(iter(clusters(config)))["name"]
    routes(config).insert(0, {"match": {"prefix": "/v1/models/"}, "route": {"cluster": cluster}})


def clean_paths(config: Json) -> None:
    """Paths are cleaned before they are matched, so that other spellings match too."""
    manager(config)["normalize_path"] = True
    manager(config)["merge_slashes"] = True
    manager(config)["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD"


def model_by_text_search(config: Json) -> None:
    """Looks for the first `"model":"..."` instead of parsing the body."""
    code = """
    function envoy_on_request(handle)
      local body = handle:body()
      if body == nil then return end
      local model = body:getBytes(0, body:length()):match('"model"%s*:%s*"([^"]*)"')
      if model then handle:streamInfo():dynamicMetadata():set("freehold.body", "model", model) end
      handle:clearRouteCache()
    end"""
    for http_filter in filters(config):
        if http_filter["name"] == "model":
            http_filter["typed_config"] = {
                "@type": _LUA,
                "default_source_code": {"inline_string": code},
            }


def small_bodies(config: Json) -> None:
    filter_named(config, "envoy.filters.http.buffer")["max_request_bytes"] = 2**20


def large_bodies(config: Json) -> None:
    filter_named(config, "envoy.filters.http.buffer")["max_request_bytes"] = 2**30


def buffered_answers(config: Json) -> None:
    code = "function envoy_on_response(handle) handle:body() end"
    lua = {"@type": _LUA, "default_source_code": {"inline_string": code}}
    filters(config).insert(0, {"name": "collect", "typed_config": lua})


def new_request_ids(config: Json) -> None:
    manager(config)["preserve_external_request_id"] = False
    manager(config)["use_remote_address"] = True


def internal_headers_pass(config: Json) -> None:
    del manager(config)["early_header_mutation_extensions"]


def key_passes(config: Json) -> None:
    manager(config)["route_config"]["virtual_hosts"][0]["request_headers_to_remove"] = []


def open_admin(config: Json) -> None:
    del config["admin"]["allow_paths"]


def admin_for_all(config: Json) -> None:
    config["admin"]["address"]["socket_address"]["address"] = "0.0.0.0"


def _each_action(config: Json) -> Iterator[Json]:
    for route in routes(config):
        if "route" in route:
            yield route["route"]


def no_retries(config: Json) -> None:
    for action in _each_action(config):
        action.pop("retry_policy", None)


def retries_what_began(config: Json) -> None:
    for action in _each_action(config):
        if "retry_policy" in action:
            action["retry_policy"]["retry_on"] += ",reset"


def many_retries(config: Json) -> None:
    for action in _each_action(config):
        if "retry_policy" in action:
            action["retry_policy"]["num_retries"] = 3


def shadowed(config: Json) -> None:
    """A second worker gets each request too, and goes on whatever the client does."""
    for action in _each_action(config):
        action["request_mirror_policies"] = [{"cluster": action["cluster"]}]


def short_timeout(config: Json) -> None:
    for action in _each_action(config):
        action["timeout"] = "0.3s"


def no_hash(config: Json) -> None:
    for action in _each_action(config):
        action.pop("hash_policy")


def _balanced(cluster: Json) -> Json:
    chosen = cluster["load_balancing_policy"]["policies"][0]["typed_extension_config"]
    return chosen["typed_config"]["fallback_policy"]["policies"][0]["typed_extension_config"]


def unbounded_hash(config: Json) -> None:
    for cluster in clusters(config):
        _balanced(cluster)["typed_config"].pop("consistent_hashing_lb_config", None)


def unbounded_hash_alone(config: Json) -> None:
    """The picker is never asked, and the hash that stands in for it knows no load."""
    drop_filter("envoy.filters.http.ext_proc")(config)
    unbounded_hash(config)


def always_random(config: Json) -> None:
    name = "envoy.extensions.load_balancing_policies.random.v3.Random"
    for cluster in clusters(config):
        config_of = {"name": name, "typed_config": {"@type": f"type.googleapis.com/{name}"}}
        cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": config_of}]}


def no_health_checks(config: Json) -> None:
    for cluster in clusters(config):
        del cluster["health_checks"]
        del cluster["outlier_detection"]
    no_retries(config)


def no_limits(config: Json) -> None:
    filter_named(config, "envoy.filters.http.local_ratelimit")["descriptors"] = []


def limit_for_all(config: Json) -> None:
    limits = filter_named(config, "envoy.filters.http.local_ratelimit")
    limits["token_bucket"] = limits["descriptors"][0]["token_bucket"]


def chatty_log(config: Json) -> None:
    """The route takes the key away before a line is written; here it stays, and is written."""
    key_passes(config)
    log = manager(config)["access_log"][0]["typed_config"]["log_format"]
    log["json_format"]["key"] = "%REQ(AUTHORIZATION)%"


def log_with_query(config: Json) -> None:
    log = manager(config)["access_log"][0]["typed_config"]["log_format"]
    log["json_format"]["path"] = "%REQ(:PATH)%"


def picker_is_needed(config: Json) -> None:
    filter_named(config, "envoy.filters.http.ext_proc")["failure_mode_allow"] = False


def patient_with_the_picker(config: Json) -> None:
    filter_named(config, "envoy.filters.http.ext_proc")["message_timeout"] = "3s"
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] == "picker":
            cluster["health_checks"] = []


def plain_error(status: int) -> Callable[[Json], None]:
    """Envoy's own words instead of OpenAI's."""

    def mutate(config: Json) -> None:
        replies = manager(config)["local_reply_config"]
        replies["mappers"] = [
            mapper
            for mapper in replies["mappers"]
            if f"'default_value': {status}" not in str(mapper["filter"])
        ]

    mutate.__name__ = f"plain {status}"
    return mutate


def without_model(name: str) -> Callable[[Json], None]:
    """The name leads nowhere and is not listed."""

    def mutate(config: Json) -> None:
        for route in routes(config):
            matchers = route["match"].get("dynamic_metadata", [])
            for matcher in matchers:
                for value in matcher["value"].get("or_match", {}).get("value_matchers", []):
                    if value["string_match"]["exact"] == name:
                        value["string_match"]["exact"] = f"not-{name}"

    mutate.__name__ = f"without {name}"
    return mutate


def without_path(path: str) -> Callable[[Json], None]:
    def mutate(config: Json) -> None:
        for route in routes(config):
            regex = route["match"].get("safe_regex")
            if regex:
                paths = [part for part in regex["regex"].split("|") if part != path]
                regex["regex"] = "|".join(paths)

    mutate.__name__ = f"without {path}"
    return mutate


def invented_model(config: Json) -> None:
    models = (each for each in routes(config) if each["match"].get("path") == "/v1/models")
    body = next(models)["direct_response"]["body"]
    body["inline_string"] = body["inline_string"].replace('"id": "embed"', '"id": "tiny-embed"')
