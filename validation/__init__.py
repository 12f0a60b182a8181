"""Where estimates meet truth: tasks, scores, limits and reports."""
