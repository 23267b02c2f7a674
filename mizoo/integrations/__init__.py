"""mizoo inside other frameworks; each module needs its own, and is reached as `mizoo.<module>`."""
