"""Logits processors, samplers and searches."""
