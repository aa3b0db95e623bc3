"""Load tests: locust users with exact metrics, valid by self-check, ending in a verdict."""
