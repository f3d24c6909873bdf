"""A Hugging Face config.json -> ModelSpec, and parameters counted from it."""
