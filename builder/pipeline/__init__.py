"""The pipeline: the only code that sees two stages. It plans, then carries the plan out."""
