"""Loading of models with their tokenizers, and conversion of GGUF files."""
