"""The embedded model family: a synthetic language, its tokenizer, and the untrained model that all of it grows from."""
