"""Reading agent runs of other tools: one file a log format."""
