"""What the Pulumi program does for each kind of target, beside composing it."""
