"""The values that stages hand on, and what each of them may hold."""
