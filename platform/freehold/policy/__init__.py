"""Rules that every program of this project must pass, and the pack that holds Pulumi to them."""
