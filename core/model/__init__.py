"""The model behind the loop: loading, quantization, the cache and the runner."""
