"""Test sets as their users have them: TSV, Parquet, Arrow, JSON lines."""
