"""`pulumi preview --policy-pack platform/freehold/policy/pack`: the rules under the real engine."""

from pulumi_policy import PolicyPack

from freehold.policy.rules import policies

# Its constructor starts a server, so it stands here alone.
PolicyPack(name="freehold", policies=[*policies()])
