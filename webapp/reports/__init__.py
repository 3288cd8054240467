"""Reports: pages of text with live charts and tables of runs; and links that show them, or a comparison, to others."""
