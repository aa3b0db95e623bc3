"""The laptop runtime: real processes on this machine, in the right order, watched and stopped."""
