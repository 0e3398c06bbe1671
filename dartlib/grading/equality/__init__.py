"""Whether two final answers are the same: from text to structure, and one stated rule per type of answer."""
