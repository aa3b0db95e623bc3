"""What every container of ours gives up: root, capabilities, system calls, the root file system."""

from __future__ import annotations

import pulumi_kubernetes as k8s

# The user of our own images (workloads/images).
USER = 65532


def pod_security(user: int = USER) -> k8s.core.v1.PodSecurityContextArgs:
    return k8s.core.v1.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        fs_group=user,
        seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )


def privileged_security() -> k8s.core.v1.SecurityContextArgs:
    """Sees every device of its node; everything else it gives up like the others."""
    return k8s.core.v1.SecurityContextArgs(
        privileged=True,
        read_only_root_filesystem=True,
        capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def container_security() -> k8s.core.v1.SecurityContextArgs:
    """Meets Pod Security's level `restricted`, and the root file system is read-only."""
    return k8s.core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        privileged=False,
        read_only_root_filesystem=True,
        capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
    )
