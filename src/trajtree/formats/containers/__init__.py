"""What logs come in: folders, compressed files, archives, tables. Nothing here knows a log format."""
