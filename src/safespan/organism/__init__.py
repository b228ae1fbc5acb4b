"""The embedded model family: a synthetic language, its tokenizer, and the untrained model."""
