"""The report: figures, sentences and one self-contained page, all written from tables."""
