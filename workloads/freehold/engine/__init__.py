"""The engine: typed settings, and the vLLM command line that they become."""
