"""The loop that looks at what is due, and the dispatcher that carries it out."""
