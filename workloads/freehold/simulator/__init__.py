"""The simulated engine: vLLM's command line, API and metrics, in the time that the plan predicts."""
