"""What is stored, and the only room that speaks SQL."""
