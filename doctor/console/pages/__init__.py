"""The pages, one module each: what is asked of the doctor, and which template shows it."""
