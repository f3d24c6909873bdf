"""The verified tier: the real model on the meta device, one training step under fake tensors."""
