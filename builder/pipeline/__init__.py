"""The pipeline: what sees two stages. It plans, then has the plan carried out."""
