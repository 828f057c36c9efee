"""Results: records, the codes of mistakes with their pages, and how numbers are worded. Nothing is rendered here."""
