"""Kubernetes objects of a plan: model pools, KV cache, gateway, scaling, network policies."""
