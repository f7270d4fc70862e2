"""Log formats of other tools: one file per format; the table of formats is in detect.py."""
