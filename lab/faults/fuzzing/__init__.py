"""Coverage-guided fuzzing of whatever reads what others have written: targets, and the child process that runs one of them."""
