"""What a stack stands on: network, EKS, GPU nodes, add-ons, model store, and the target they make."""
