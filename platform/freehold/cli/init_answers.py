"""From the answers to five questions to a stack file with a reason behind each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from freehold.catalog.models import find_model
from freehold.config import FreeholdError

from .init_draft import Draft, KeyPath
from .init_tasks import TASKS, Task, tier_of

WHERE = {
    "laptop": "real engines on this machine, without a GPU",
    "aws": "an EKS cluster of its own, with GPU nodes",
    "own": "a Kubernetes cluster that runs already, with GPUs in it",
}


@dataclass(frozen=True)
class Machines:
    """GPU machines of a cluster that is there: what the file says until its owner knows better."""

    gpu: str = "L40S"
    gpus: int = 1
    count: int = 1


@dataclass(frozen=True)
class Answers:
    """The five, and what only some places need."""

    wanted: str
    """A task, a catalog name, a hub id or a folder."""
    where: str
    context: int | None = None
    users: int | None = None
    usd_per_month: float | None = None
    region: str = "us-east-2"
    machines: Machines = Machines()

    @property
    def task(self) -> Task:
        return TASKS.get(self.wanted, TASKS["chat"])

    @property
    def model(self) -> str:
        return TASKS[self.wanted].model if self.wanted in TASKS else self.wanted

    @property
    def longest(self) -> int:
        """Context in tokens: as answered, else the task's as far as the model goes."""
        known = find_model(self.model)
        most = known.max_context if known else self.task.context
        return self.context or min(self.task.context, most)


def draft(answers: Answers, command: str) -> Draft:
    """The stack file; `command` is what a reader types to have it again."""
    made = _on_the_laptop(answers) if answers.where == "laptop" else _on_a_cluster(answers)
    made.heading = (f"Written by `{command}`; every value may be changed.", *made.heading)
    return made


# --- The laptop --------------------------------------------------------------------------------------


def _on_the_laptop(answers: Answers) -> Draft:
    refuse_unused(answers)
    tree: dict[str, Any] = {"extends": "local"}
    comments: dict[KeyPath, str] = {("extends",): "what is not said here: Pulumi.local.yaml"}
    pool: dict[str, Any] = {}
    if answers.wanted not in TASKS:
        known = find_model(answers.model)
        pool = {"name": known.role if known and known.role != "generate" else "chat"}
        pool |= {"model": known.repo if known else answers.model, "revision": None}
        comments["pools", 0, "revision"] = "pin a commit of the hub once you know which"
    if answers.context:
        pool = {"name": "chat", **pool, "engine": {"max_model_len": answers.context}}
        comments["pools", 0, "engine", "max_model_len"] = "longest prompt plus answer, in tokens"
    if pool:
        tree["pools"] = [pool]
    return Draft(("Real engines on this machine, no GPU.",), tree, comments)


def refuse_unused(answers: Answers) -> None:
    """A laptop buys nothing and is sized for nobody: saying so there is a misunderstanding."""
    for option, value in (("--users", answers.users), ("--budget", answers.usd_per_month)):
        if value is not None:
            raise FreeholdError(
                f"{option} has no effect with --where laptop: nothing is bought there; "
                "say --where aws or --where own, or leave it out"
            )


# --- Clusters ----------------------------------------------------------------------------------------


def _on_a_cluster(answers: Answers) -> Draft:
    tree: dict[str, Any] = {"tier": tier_of(answers.longest)}
    comments: dict[KeyPath, str] = {("tier",): "the class of its load test"}
    add_target(tree, comments, answers)
    known = find_model(answers.model)
    role = known.role if known else "generate"
    pools: list[dict[str, Any]] = [
        _chat_pool(answers) if role == "generate" else _text_pool(role, answers)
    ]
    explain_pool(comments, 0, answers, pools[0])
    if answers.task.retrieval and role == "generate":
        pools += [
            {
                "name": "embed",
                "role": "embed",
                "model": "bge-m3",
                "context": 8192,
                "gpu_group": "retrieval",
            },
            {
                "name": "rerank",
                "role": "rerank",
                "model": "bge-reranker-v2-m3",
                "context": 8192,
                "gpu_group": "retrieval",
            },
        ]
        comments["pools", 1, "gpu_group"] = "half a billion parameters each: they share a small GPU"
    tree["pools"] = pools
    tree["gateway"] = {"keys": [{"tenant": "default"}]}
    comments["gateway", "keys", 0, "tenant"] = "its secret is generated, never in this file"
    if answers.usd_per_month:
        tree["budget"] = {"usd_per_month": answers.usd_per_month}
        comments["budget", "usd_per_month"] = "a plan that costs more, all in, is refused"
    return Draft(("What each key means: docs/config.md.",), tree, comments)


def add_target(tree: dict[str, Any], comments: dict[KeyPath, str], answers: Answers) -> None:
    """Where it lands. What nobody asked for is the careful choice: no endpoint on the internet."""
    if answers.where == "aws":
        region = answers.region
        tree["target"] = {
            "kind": "eks",
            "region": region,
            "zones": [f"{region}a", f"{region}b"],
            "endpoint": {"runner": "in-vpc"},
        }
        comments["target", "zones"] = "EKS wants two"
        comments["target", "endpoint", "runner"] = (
            "nothing of the cluster's API is on the internet; or public_cidrs: [your office's network]"
        )
        return
    machines = answers.machines
    tree["target"] = {
        "kind": "existing",
        "context": "onprem",
        "storage_class": "local-path",
        "runtime_class": "nvidia",
        "nodes": [
            {
                "name": "gpu",
                "gpu": machines.gpu,
                "gpus": machines.gpus,
                "count": machines.count,
                "vcpu": 16 * machines.gpus,
                "ram_gib": 128 * machines.gpus,
            }
        ],
    }
    comments["target", "context"] = "of your kubeconfig"
    comments["target", "storage_class"] = "`kubectl get storageclass`"
    comments["target", "runtime_class"] = "as the GPU Operator makes it"
    comments["target", "nodes", 0, "vcpu"] = "an example: put in what a machine of yours has"
    comments["target", "nodes", 0, "ram_gib"] = "an example, as above"


def _chat_pool(answers: Answers) -> dict[str, Any]:
    task = answers.task
    return {
        "name": "chat",
        "role": "generate",
        "model": answers.model,
        "context": answers.longest,
        "demand": demand(answers, answers.longest),
        "objectives": {"median_ttft_ms": task.ttft_ms, "median_tpot_ms": task.tpot_ms},
        "engine": {"shutdown_timeout": 120},
    }


def demand(answers: Answers, context: int) -> dict[str, Any]:
    """The task's typical request, cut to what the context holds."""
    task = answers.task
    output = min(task.output_tokens, max(1, context // 4))
    return {
        "users": answers.users or task.users,
        "think_seconds": task.think_seconds,
        "input_tokens": min(task.input_tokens, context - output),
        "output_tokens": output,
        "prefix_hit_rate": task.prefix_hit_rate,
    }


def _text_pool(role: str, answers: Answers) -> dict[str, Any]:
    return {"name": role, "role": role, "model": answers.model, "context": answers.longest}


def explain_pool(
    comments: dict[KeyPath, str], place: int, answers: Answers, pool: dict[str, Any]
) -> None:
    """The comments of one pool's lines."""
    task, at = answers.task, ("pools", place)
    known = find_model(pool["model"])
    if known:
        gate = "gated: its licence must be accepted" if known.gated else "not gated"
        repo = "" if pool["model"] == known.repo else f"{known.repo}, "
        comments[*at, "model"] = (
            f"{repo}{known.parameters / 1e9:,.1f} billion parameters, {known.licence}, {gate}"
        )
    comments[*at, "context"] = "longest prompt plus answer, in tokens"
    if "demand" not in pool:
        return
    guess = f"a guess: as in Pulumi.{task.tier}.yaml, measure yours"
    comments[*at, "demand", "users"] = (
        "at work at once" if answers.users else "at work at once; a guess"
    )
    comments[*at, "demand", "think_seconds"] = f"from an answer's end to the next question; {guess}"
    comments[*at, "demand", "input_tokens"] = f"a typical prompt, history included; {guess}"
    comments[*at, "demand", "output_tokens"] = f"a typical answer; {guess}"
    comments[*at, "demand", "prefix_hit_rate"] = (
        "share of a prompt that is in the KV cache already; 0 claims no gain"
    )
    if "objectives" in pool:
        comments[*at, "objectives", "median_ttft_ms"] = "first word; the plan must meet it"
        comments[*at, "objectives", "median_tpot_ms"] = (
            "each further token; 100 is faster than reading"
        )
    if "engine" in pool:
        comments[*at, "engine", "shutdown_timeout"] = "seconds that answers get to end"
