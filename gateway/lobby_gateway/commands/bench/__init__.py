"""`lobby bench`: opens clients, checks what they receive, and reports how fast it arrives."""
