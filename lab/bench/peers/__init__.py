"""What we are measured against, a module for each peer. A peer that is not installed is named, never remembered."""
