"""Rows and prompts: from local files, data sets of the Hugging Face hub, and the paper's presets."""

from safespan.data.conversations import Conversation, Turn, turns_of
from safespan.data.row_files import Row, read_file
from safespan.data.sources import Prompt, read_prompts, read_rows, rows_hash
