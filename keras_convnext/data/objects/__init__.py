"""Images with objects in them: where they are kept, and what they hold."""
