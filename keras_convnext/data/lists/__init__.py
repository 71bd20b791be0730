"""Images that a file lists: its formats, its columns, and the source."""
