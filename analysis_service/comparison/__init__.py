"""Models or runs compared question by question."""
