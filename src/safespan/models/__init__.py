"""Models in memory: loading one with its tokenizer, and converting GGUF files."""
