"""Takes results over the feed and applies each exactly once."""
